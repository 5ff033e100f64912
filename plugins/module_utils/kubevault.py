# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""What the KUBEVAULT modules share: how they reach Vault and Kubernetes, and how they fail."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib

if TYPE_CHECKING:
    from secretmanager.admin.connection import Vault
    from secretmanager.servers.kubernetes import KubernetesClient
    from secretmanager.servers.vault import VaultClient

SHORT = 8
"""Below this many characters a text may stand anywhere by chance."""

SERVICE_ACCOUNT_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"

VAULT_CONNECTION_OPTIONS: dict[str, dict[str, Any]] = {
    "vault_url": {
        "type": "str",
        "required": True,
        "aliases": ["url"],
        "fallback": (env_fallback, ["ANSIBLE_HASHI_VAULT_ADDR", "VAULT_ADDR"]),
    },
    "vault_ca_cert": {
        "type": "path",
        "aliases": ["vault_cacert"],
        "fallback": (env_fallback, ["ANSIBLE_HASHI_VAULT_CA_CERT", "VAULT_CACERT"]),
    },
    "vault_namespace": {
        "type": "str",
        "fallback": (env_fallback, ["ANSIBLE_HASHI_VAULT_NAMESPACE", "VAULT_NAMESPACE"]),
    },
    "vault_timeout": {"type": "float", "default": 30.0},
}
"""Argument spec of the documentation fragment ``kubevault_vault.connection``, for modules that need no token."""

VAULT_OPTIONS: dict[str, dict[str, Any]] = {
    **VAULT_CONNECTION_OPTIONS,
    "vault_auth_method": {
        "type": "str",
        "choices": ["token", "approle", "kubernetes"],
        "default": "token",
        "aliases": ["auth_method"],
        "fallback": (env_fallback, ["ANSIBLE_HASHI_VAULT_AUTH_METHOD"]),
    },
    "vault_auth_mount": {
        "type": "str",
        "aliases": ["mount_point"],
        "fallback": (env_fallback, ["ANSIBLE_HASHI_VAULT_MOUNT_POINT"]),
    },
    # No fallbacks: find_token() has them, since a variable must not win over the other option.
    "vault_token": {"type": "str", "no_log": True, "aliases": ["token"]},
    # no_log false: a path. Ansible would otherwise warn of its name.
    "vault_token_file": {"type": "path", "no_log": False},
    "vault_role": {"type": "str"},
    "vault_role_id": {
        "type": "str",
        "aliases": ["role_id"],
        "fallback": (env_fallback, ["ANSIBLE_HASHI_VAULT_ROLE_ID", "VAULT_ROLE_ID"]),
    },
    "vault_secret_id": {
        "type": "str",
        "no_log": True,
        "aliases": ["secret_id"],
        "fallback": (env_fallback, ["ANSIBLE_HASHI_VAULT_SECRET_ID", "VAULT_SECRET_ID"]),
    },
    "vault_jwt": {
        "type": "str",
        "no_log": True,
        "aliases": ["jwt"],
        "fallback": (env_fallback, ["ANSIBLE_HASHI_VAULT_JWT"]),
    },
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
    "host": {"type": "str", "fallback": (env_fallback, ["K8S_AUTH_HOST"])},
    "api_key": {"type": "str", "no_log": True, "fallback": (env_fallback, ["K8S_AUTH_API_KEY"])},
    "ca_cert": {"type": "path", "aliases": ["ssl_ca_cert"], "fallback": (env_fallback, ["K8S_AUTH_SSL_CA_CERT"])},
    "client_cert": {"type": "path", "fallback": (env_fallback, ["K8S_AUTH_CERT_FILE"])},
    # no_log false: a path. Ansible would otherwise warn of its name.
    "client_key": {"type": "path", "no_log": False, "fallback": (env_fallback, ["K8S_AUTH_KEY_FILE"])},
}
"""Argument spec of the documentation fragment ``kubevault_kubernetes``."""


def require(module: AnsibleModule, library: str, error: ImportError) -> NoReturn:
    """Fail because a Python library is missing, saying which interpreter lacks it and how to install it.

    Args:
        module: the module that fails.
        library: distribution to install, as ``kubevault``.
        error: what the import raised.
    """
    detail = "".join(traceback.format_exception(error))
    module.fail_json(msg=missing_required_lib(library, reason=f"({error})"), exception=detail)


def conceal(module: AnsibleModule, holder: dict[str, Any], option: str) -> dict[str, Any]:
    """Take a dict of secrets out of the parameters, so that the module's report shows no more of it than its keys.

    Ansible hides what is ``no_log`` by its text, wherever that stands. A secret "1" or "default" would be blotted out
    of paths and messages, which garbles them and tells the reader what it is. So a secret is hidden by its place;
    by its text only where it is too long to be met by chance.

    Args:
        module: the module.
        holder: the parameters, or a suboption's.
        option: name of the option, which is ``no_log``.

    Returns:
        The secrets.
    """
    secrets: dict[str, Any] = holder[option]
    holder[option] = dict.fromkeys(secrets, "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER")
    hidden = [module.params[name] for name, spec in module.argument_spec.items() if spec.get("no_log") is True]
    chance = {text for text in _texts(secrets) if len(text) < SHORT}
    module.no_log_values -= chance - {value for value in hidden if isinstance(value, str)}
    return secrets


def finish(module: AnsibleModule, result: dict[str, Any], secrets: Iterable[object]) -> NoReturn:
    """End the module well.

    Ansible looks for the text of each secret in each text of the result, which for a thousand of each takes seconds.
    Here all of the result is one text to look in; Ansible then has to look for those secrets alone that are in it.

    Args:
        module: the module.
        result: what it returns.
        secrets: what `conceal` gave.
    """
    shown = "\0".join(_texts([result, module.params]))
    module.no_log_values -= {text for secret in secrets for text in _texts(secret) if text not in shown}
    module.exit_json(**result)


def _texts(value: object) -> Iterator[str]:
    """Give all texts within a value, as Ansible collects them to hide them."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
    else:
        yield str(value)


def find_token(module: AnsibleModule, hint: str = "") -> str:
    """Give the Vault token of a module's options.

    They are vault_token, vault_token_file, $VAULT_TOKEN, $VAULT_TOKEN_FILE and ~/.vault-token, the first that is given.
    An unreadable or empty file, or no token at all, fails the module, which names the options that give one.

    Args:
        module: the module.
        hint: what else to do where there is none.
    """
    given = module.params["vault_token"], module.params["vault_token_file"]
    token, file = given if any(given) else (_environment("TOKEN"), _environment("TOKEN_FILE"))
    if not token:
        token = _read_token(module, Path(file or "~/.vault-token").expanduser(), hint)
    module.no_log_values.add(token)
    return token


def _environment(name: str) -> str | None:
    """Give a variable by community.hashi_vault's name, or Vault's own."""
    return os.environ.get(f"ANSIBLE_HASHI_VAULT_{name}") or os.environ.get(f"VAULT_{name}")


def _read_token(module: AnsibleModule, path: Path, hint: str) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
        reason = "is empty"
    except (OSError, UnicodeDecodeError) as error:
        token, reason = "", getattr(error, "strerror", None) or "is no text"
    if not token:
        module.fail_json(
            msg=f"No Vault token: {path}: {reason}. Set vault_token ($VAULT_TOKEN) or vault_token_file "
            f"($VAULT_TOKEN_FILE), or log in by another vault_auth_method. {hint}".rstrip()
        )
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
    return vault_client(module, token=log_in(module), transit_mount=transit_mount)


@contextmanager
def logged_in_vault(module: AnsibleModule, transit_mount: str = "transit") -> Iterator[VaultClient]:
    """Give a client logged in by the module's options; a token that it got for that is revoked in the end.

    Raises:
        secretmanager.errors.SecretManagerError: the log-in was refused, or Vault is out of reach.
    """
    client = connect_to_vault(module, transit_mount)
    try:
        yield client
    finally:
        revoke_login(module, client.token)
        client.close()


def revoke_login(module: AnsibleModule, token: str | None) -> None:
    """Revoke the token that `log_in` gave, unless it is one of the options, which is the user's."""
    from secretmanager.errors import SecretManagerError

    if module.params["vault_auth_method"] == "token" or not token:
        return
    try:
        vault_client(module, token=token).revoke_self()
    except SecretManagerError as error:
        # As a batch token's, or where the policy lacks it. It is no reason to call what was done a failure.
        module.warn(f"The Vault token of this run could not be revoked; it ends by itself: {error}")


def connect_to_kubernetes(module: AnsibleModule, **options: Any) -> KubernetesClient:
    """Give a client of the Kubernetes API by the module's KUBERNETES_OPTIONS.

    Args:
        module: the module.
        options: further ones of secretmanager.servers.kubernetes.KubernetesClient.

    Raises:
        secretmanager.errors.ConfigError: there is no kubeconfig file, or an option cannot be used.
    """
    from secretmanager.servers.kubeconfig import find_access, from_host
    from secretmanager.servers.kubernetes import KubernetesClient

    params = module.params
    if params["host"]:
        files = (params[name] for name in ("ca_cert", "client_cert", "client_key"))
        access = from_host(params["host"], params["api_key"], *files)
    else:
        access = find_access(params["kubeconfig"], params["context"], params["api_key"])
    return KubernetesClient(access, **options)


def log_in(module: AnsibleModule, hint: str = "") -> str:
    """Give a Vault token by the module's options: the one given, or by another auth method a new one.

    Args:
        module: the module.
        hint: as of `find_token`.

    Raises:
        secretmanager.errors.SecretManagerError: the log-in was refused, or Vault is out of reach.
    """
    params = module.params
    method = params["vault_auth_method"]
    if method == "token":
        return find_token(module, hint)
    mount = params["vault_auth_mount"] or method
    if method == "approle":
        login = vault_client(module).login_approle(params["vault_role_id"], params["vault_secret_id"], mount)
    else:
        login = vault_client(module).login_kubernetes(params["vault_role"], _jwt(module), mount)
    module.no_log_values.add(login.client_token)
    return login.client_token


def administer_vault(module: AnsibleModule, token: str, **options: Any) -> Vault:
    """Give a connection for Vault's administration.

    Args:
        module: the module; only its VAULT_CONNECTION_OPTIONS are used.
        token: the token, as `log_in` gives it; an empty one for requests that need none.
        options: further ones of secretmanager.admin.connection.Vault.

    Raises:
        secretmanager.errors.ConfigError: address or CA is not usable.
    """
    from secretmanager.admin.connection import Vault

    return Vault(module.params["vault_url"], token=token, **_connection(module), **options)


def vault_client(module: AnsibleModule, **options: Any) -> VaultClient:
    """Give a client that is not logged in, unless by a token among the options.

    Args:
        module: the module; only its VAULT_CONNECTION_OPTIONS are used.
        options: further ones of secretmanager.servers.vault.VaultClient.

    Raises:
        secretmanager.errors.ConfigError: address or CA is not usable.
    """
    from secretmanager.servers.vault import VaultClient

    return VaultClient(module.params["vault_url"], **_connection(module), **options)


def _connection(module: AnsibleModule) -> dict[str, Any]:
    return {
        "ca_cert": vault_ca(module),
        "namespace": module.params["vault_namespace"],
        "timeout": module.params["vault_timeout"],
    }


def _jwt(module: AnsibleModule) -> str:
    if module.params["vault_jwt"]:
        return str(module.params["vault_jwt"])
    try:
        return Path(SERVICE_ACCOUNT_TOKEN).read_text(encoding="ascii").strip()
    except OSError as error:
        module.fail_json(msg=f"vault_jwt is not given, and {SERVICE_ACCOUNT_TOKEN}: {error.strerror}.")
