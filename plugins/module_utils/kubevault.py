# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""What the KUBEVAULT modules share: how they reach Vault and Kubernetes, and how they fail."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib

if TYPE_CHECKING:
    from secretmanager.admin.connection import Vault
    from secretmanager.vault import VaultClient

SERVICE_ACCOUNT_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"

VAULT_OPTIONS: dict[str, dict[str, Any]] = {
    "vault_url": {"type": "str", "required": True, "fallback": (env_fallback, ["VAULT_ADDR"])},
    "vault_ca_cert": {"type": "path", "fallback": (env_fallback, ["VAULT_CACERT"])},
    "vault_namespace": {"type": "str", "fallback": (env_fallback, ["VAULT_NAMESPACE"])},
    "vault_timeout": {"type": "float", "default": 30.0},
    "vault_auth_method": {
        "type": "str",
        "choices": ["token", "approle", "kubernetes"],
        "default": "token",
    },
    "vault_auth_mount": {"type": "str"},
    "vault_token": {"type": "str", "no_log": True, "fallback": (env_fallback, ["VAULT_TOKEN"])},
    # no_log false: a path. Ansible would otherwise warn of its name.
    "vault_token_file": {"type": "path", "no_log": False, "fallback": (env_fallback, ["VAULT_TOKEN_FILE"])},
    "vault_role": {"type": "str"},
    "vault_role_id": {"type": "str", "fallback": (env_fallback, ["VAULT_ROLE_ID"])},
    "vault_secret_id": {"type": "str", "no_log": True, "fallback": (env_fallback, ["VAULT_SECRET_ID"])},
    "vault_jwt": {"type": "str", "no_log": True},
}
"""Argument spec of the documentation fragment ``kubevault_vault``."""

VAULT_REQUIRED_IF = [
    ("vault_auth_method", "approle", ["vault_role_id", "vault_secret_id"]),
    ("vault_auth_method", "kubernetes", ["vault_role"]),
]
"""For ``required_if`` of a module that has ``VAULT_OPTIONS``."""

KUBERNETES_OPTIONS: dict[str, dict[str, Any]] = {
    "kubeconfig": {"type": "path", "fallback": (env_fallback, ["K8S_AUTH_KUBECONFIG"])},
    "context": {"type": "str", "fallback": (env_fallback, ["K8S_AUTH_CONTEXT"])},
}
"""Argument spec of the documentation fragment ``kubevault_kubernetes``."""


def require(module: AnsibleModule, library: str, error: ImportError) -> NoReturn:
    """Fail because a Python library is missing, saying which interpreter lacks it and how to install it.

    Args:
        module: the module that fails.
        library: distribution to install, as ``kubevault`` or ``hvac``.
        error: what the import raised.
    """
    detail = "".join(traceback.format_exception(error))
    module.fail_json(msg=missing_required_lib(library, reason=f"({error})"), exception=detail)


def find_token(module: AnsibleModule) -> str:
    """Give the Vault token of a module's options: vault_token, else vault_token_file, else ~/.vault-token.

    An unreadable or empty file, or no token at all, fails the module, which names the options that give one.
    """
    if module.params["vault_token"]:
        return str(module.params["vault_token"])
    path = Path(module.params["vault_token_file"] or "~/.vault-token").expanduser()
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is no text"
        module.fail_json(
            msg=f"No Vault token: {path}: {reason}. Set vault_token ($VAULT_TOKEN) or vault_token_file "
            "($VAULT_TOKEN_FILE), or log in by another vault_auth_method."
        )
    if not token:
        module.fail_json(msg=f"No Vault token: {path} is empty.")
    return token


def vault_ca(module: AnsibleModule) -> bool | str:
    """Give the CA to check Vault's certificate by: a PEM file's path, or True for the system's own CAs."""
    path = module.params["vault_ca_cert"]
    if path and not os.access(path, os.R_OK):
        module.fail_json(msg=f"vault_ca_cert: {path} cannot be read. Give the path of a PEM file.")
    return path or True


def connect_to_vault(module: AnsibleModule, transit_mount: str = "transit") -> VaultClient:
    """Give a client logged in by the module's options. The package ``secretmanager`` must be importable.

    Raises:
        secretmanager.errors.SecretManagerError: the log-in was refused, or Vault is out of reach.
    """
    from secretmanager.vault import VaultClient

    params = module.params
    method = params["vault_auth_method"]
    token: str | None = find_token(module) if method == "token" else None

    def client() -> VaultClient:
        return VaultClient(
            params["vault_url"],
            ca_cert=vault_ca(module),
            namespace=params["vault_namespace"],
            timeout=params["vault_timeout"],
            token=token,
            transit_mount=transit_mount,
        )

    if method == "token":
        return client()
    mount = params["vault_auth_mount"] or method
    if method == "approle":
        login = client().login_approle(params["vault_role_id"], params["vault_secret_id"], mount)
    else:
        login = client().login_kubernetes(params["vault_role"], _jwt(module), mount)
    token = login.client_token
    return client()


def administrate_vault(module: AnsibleModule, token: str | None = None) -> Vault:
    """Give a connection for Vault's administration, logged in by the module's options.

    Args:
        module: the module.
        token: a token instead of the options' own; an empty one for requests that need none.

    Raises:
        secretmanager.errors.SecretManagerError: the log-in was refused, or Vault is out of reach.
    """
    from secretmanager.admin.connection import Vault

    params = module.params
    if token is None:
        token = connect_to_vault(module).token
    return Vault(
        params["vault_url"],
        token=token or "",
        ca_cert=vault_ca(module),
        namespace=params["vault_namespace"],
        timeout=params["vault_timeout"],
    )


def _jwt(module: AnsibleModule) -> str:
    if module.params["vault_jwt"]:
        return str(module.params["vault_jwt"])
    try:
        return Path(SERVICE_ACCOUNT_TOKEN).read_text(encoding="ascii").strip()
    except OSError as error:
        module.fail_json(msg=f"vault_jwt is not given, and {SERVICE_ACCOUNT_TOKEN}: {error.strerror}.")
