"""An operator's shell in which every variable that names a server or a credential names another one."""

from __future__ import annotations

from pathlib import Path

import yaml
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_MAP, AUTH_PROXY_HEADERS_SPEC

from secretmanager.options import OPTIONS, Option

PROXIES = [name for scheme in ("HTTP", "HTTPS", "ALL") for name in (f"{scheme}_PROXY", f"{scheme}_proxy".lower())]


def misleading(url: str, folder: Path) -> dict[str, str]:
    """Return all variables that our options, kubernetes.core and its client read, each with a value for another server.

    Args:
        url: address of that server, https://HOST:PORT.
        folder: where files for it are written.
    """
    kubeconfig = folder / "decoy.conf"
    user = {"name": "decoy", "user": {"token": "decoy"}}
    cluster = {"name": "decoy", "cluster": {"server": url}}
    context = {"name": "decoy", "context": {"cluster": "decoy", "user": "decoy"}}
    content = {"clusters": [cluster], "users": [user], "contexts": [context], "current-context": "decoy"}
    kubeconfig.write_text(yaml.safe_dump(content))

    def value(option: Option) -> str:
        if option.name == "redis_url":
            return url.replace("https:", "rediss:")
        if option.choices:
            return next(choice for choice in option.choices if choice != option.default)
        if option.type in ("path", "raw"):
            return str(kubeconfig)
        return url if option.address else "decoy"

    ours = {name: value(option) for option in OPTIONS for name in (*option.variables, *option.others)}
    headers = [f"proxy_headers_{name}" for name in AUTH_PROXY_HEADERS_SPEC]
    theirs = dict.fromkeys(
        (f"K8S_AUTH_{name.upper()}" for name in (*AUTH_ARG_MAP, *AUTH_ARG_MAP.values(), *headers)), ""
    )
    theirs |= {"K8S_AUTH_USERNAME": "decoy", "K8S_AUTH_PASSWORD": "decoy", "K8S_AUTH_PROXY": url}
    return {**theirs, **dict.fromkeys(PROXIES, url), "KUBECONFIG": str(kubeconfig), **ours}
