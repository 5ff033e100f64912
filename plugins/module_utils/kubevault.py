# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""What the KUBEVAULT modules share: how they reach Vault and Kubernetes, and how they fail."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from ansible.module_utils.basic import missing_required_lib

from .kubevault_arguments import Module
from .kubevault_options import KUBERNETES_OPTIONS
from .kubevault_results import warn

if TYPE_CHECKING:
    from secretmanager.admin.connection import Vault
    from secretmanager.login.methods import Method
    from secretmanager.servers.kubernetes import KubernetesClient
    from secretmanager.servers.vault import VaultClient


def require(module: Module, library: str, error: ImportError) -> NoReturn:
    """Fail because a Python library is missing, saying which interpreter lacks it and how to install it.

    Args:
        module: the module that fails.
        library: distribution to install, as ``kubevault``.
        error: what the import raised.
    """
    detail = "".join(traceback.format_exception(error))
    module.fail_json(msg=missing_required_lib(library, reason=f"({error})"), exception=detail)


def connection_options(module: Module) -> dict[str, Any]:
    """Return the module's options, completed by variables, whose secrets are masked as those of options are."""
    from secretmanager.options import KUBERNETES, OPTIONS, REDIS, VAULT, with_variables

    options = with_variables(module.params, VAULT, KUBERNETES, REDIS, others=True)
    module.no_log_values |= {
        str(options[option.name]) for option in OPTIONS if option.secret and options.get(option.name)
    }
    return options


def vault_client(module: Module, *, url: str | None = None, **client_arguments: Any) -> VaultClient:
    """Return a client for the module's VAULT_CONNECTION_OPTIONS. The package ``secretmanager`` must be importable.

    Args:
        module: the module.
        url: another address than the module's.
        client_arguments: further arguments of secretmanager.servers.vault.VaultClient, as a token.

    Raises:
        secretmanager.errors.ConfigError: the address or the CA cannot be used.
    """
    from secretmanager.servers.vault import VaultClient

    options = connection_options(module)
    return VaultClient.from_options({**options, "vault_url": url or options["vault_url"]}, **client_arguments)


@contextmanager
def logged_in_vault(module: Module) -> Iterator[VaultClient]:
    """Log in by the module's VAULT_OPTIONS; a token that was issued for that is revoked in the end.

    Raises:
        secretmanager.errors.SecretManagerError: the log-in was refused, or Vault is unreachable.
    """
    from secretmanager.login.session import logged_in

    with logged_in(vault_client(module), _auth_method(module).log_in, partial(warn, module)) as client:
        module.no_log_values.add(client.token)
        yield client


def log_in(module: Module, hint: str) -> str:
    """Return a Vault token by the module's VAULT_OPTIONS; it is not revoked.

    Args:
        module: the module.
        hint: what else to do if there is not a token.

    Raises:
        secretmanager.errors.SecretManagerError: the log-in was refused, or Vault is unreachable.
    """
    from secretmanager.errors import ConfigError

    try:
        token = _auth_method(module).log_in(vault_client(module)).client_token
    except ConfigError as error:
        error.remedy = f"{error.remedy}; {hint}" if error.remedy else hint
        raise
    module.no_log_values.add(token)
    return token


def administer_vault(module: Module, token: str, **client_arguments: Any) -> Vault:
    """Return a connection for Vault's administration, by the module's VAULT_CONNECTION_OPTIONS.

    Args:
        module: the module.
        token: the token, as `log_in` returns it; an empty one for requests that need none.
        client_arguments: further arguments of `vault_client`.

    Raises:
        secretmanager.errors.ConfigError: the address or the CA cannot be used.
    """
    from secretmanager.admin.connection import Vault

    return Vault(vault_client(module, token=token, **client_arguments))


def connect_to_kubernetes(module: Module, **client_arguments: Any) -> KubernetesClient:
    """Return a client for the module's KUBERNETES_OPTIONS.

    Args:
        module: the module.
        client_arguments: further arguments of secretmanager.servers.kubernetes.KubernetesClient.

    Raises:
        secretmanager.errors.ConfigError: there is not a kubeconfig file, or an option cannot be used.
    """
    from secretmanager.servers.kubernetes import KubernetesClient

    return KubernetesClient.from_options(kubernetes_options(module), **client_arguments)


def kubernetes_options(module: Module) -> dict[str, Any]:
    """Return the module's KUBERNETES_OPTIONS; a kubeconfig that was given as a dict is not among its parameters."""
    completed = connection_options(module)
    options = {name: completed.get(name) for name in KUBERNETES_OPTIONS}
    path = options["kubeconfig"]
    return {**options, "kubeconfig": module.kubeconfig or (os.path.expandvars(path) if path else None)}


def _auth_method(module: Module) -> Method:
    from secretmanager.login.methods import Credentials, method_of

    return method_of(Credentials.from_options(connection_options(module)), lambda: connect_to_kubernetes(module))
