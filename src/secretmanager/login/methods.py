"""Who logs in to Vault: a Kubernetes service account or an AppRole. For Google's service accounts see `gcp`."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import ConfigError, LoginDenied
from ..servers.kubeconfig import MountedToken
from ..servers.vault import Login, VaultClient

if TYPE_CHECKING:
    from ..config import Config

log = logging.getLogger(__name__)

TOKEN_FILE = Path("/var/run/secrets/tokens/vault-token")
"""Where a pod finds its token for Vault, as in Kubernetes' own example of a projected service-account token:
https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#launch-a-pod-using-service-account-token-projection
"""

JWT_LIFE = 600
"""Life of a service account's token, in seconds: the least that Kubernetes allows."""

_REUSE = 0.8  # part of its life for which a token is used for further log-ins


class Identity(Protocol):
    """Logs in to Vault. One thread at a time asks."""

    def log_in(self, vault: VaultClient) -> Login:
        """Log in.

        Raises:
            LoginDenied: Vault refused.
            ConfigError: a file that holds a credential cannot be used.
            KubernetesError: Kubernetes issues no token.
        """
        ...


def from_config(config: Config, issue: Callable[[], str], token: str | None = None) -> Identity:
    """Give the identity that a configuration names.

    Args:
        config: the configuration.
        issue: has Kubernetes issue a token of the service account.
        token: a token of it, to be used instead.

    Raises:
        ConfigError: a file that it names cannot be used, or a package is missing.
    """
    mount = config.auth_mount or config.auth
    if config.auth == "approle":
        role_id = from_file(config.role_id_file) if config.role_id_file else lambda: config.role_id
        secret_id = from_file(config.secret_id_file) if config.secret_id_file else lambda: config.secret_id
        return AppRole(role_id, secret_id, wrapped=config.secret_id_wrapped, mount=mount)
    if config.auth == "gcp":
        from .gcp import from_key_file, from_metadata_server

        path = config.gcp_credentials_file
        return from_key_file(path, config.role, mount) if path else from_metadata_server(config.role, mount)
    if token:
        return ServiceAccount(lambda: token, config.role, mount)
    path = config.token_file
    if path is None and subject_of(TOKEN_FILE) == f"system:serviceaccount:{config.namespace}:{config.service_account}":
        path = str(TOKEN_FILE)
    if path is not None:
        return ServiceAccount(from_file(path), config.role, mount)
    return ServiceAccount(issue, config.role, mount, reuse=JWT_LIFE * _REUSE)


def from_file(path: str) -> Callable[[], str]:
    """Give what reads a credential's file, anew each time; raises ConfigError where it holds none."""
    return MountedToken(path, max_age=0)


def subject_of(path: Path) -> str | None:
    """Give whose token a file holds (claim ``sub``, not verified); None where it holds none."""
    try:
        payload = path.read_text(encoding="ascii").split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (OSError, IndexError, ValueError, binascii.Error):
        return None
    subject = claims.get("sub") if isinstance(claims, dict) else None
    return subject if isinstance(subject, str) else None


class ServiceAccount:
    """A Kubernetes service account.

    Args:
        jwt: gives a token of it.
        role: role of Vault.
        mount: where Vault's Kubernetes auth is mounted.
        reuse: how long a token serves for further log-ins, in seconds.
    """

    def __init__(self, jwt: Callable[[], str], role: str, mount: str, *, reuse: float = 0.0) -> None:
        self._jwt = jwt
        self._role = role
        self._mount = mount
        self._reuse = reuse
        self._kept: tuple[str, float] | None = None

    def log_in(self, vault: VaultClient) -> Login:
        """Log in, as `Identity.log_in`."""
        if self._kept and time.monotonic() < self._kept[1]:
            try:
                return vault.login_kubernetes(self._role, self._kept[0], self._mount)
            except LoginDenied as error:
                # The service account may have been made anew, which ends its tokens.
                log.debug("a kept token was refused; asking for a new one: %s", error)
        until = time.monotonic() + self._reuse
        jwt = self._jwt()
        self._kept = (jwt, until) if self._reuse else None
        return vault.login_kubernetes(self._role, jwt, self._mount)


class AppRole:
    """An AppRole.

    Args:
        role_id: gives its role ID.
        secret_id: gives its secret ID, or a response-wrapping token of one.
        wrapped: whether it is such a token. It is unwrapped once, and what it held is kept in memory for
            further log-ins; a new token in its file is unwrapped in turn.
        mount: where AppRole is mounted.
    """

    def __init__(
        self, role_id: Callable[[], str], secret_id: Callable[[], str], *, wrapped: bool = False, mount: str = "approle"
    ) -> None:
        self._role_id = role_id
        self._given = secret_id
        self._wrapped = wrapped
        self._mount = mount
        self._unwrapped: tuple[str, str] | None = None

    def log_in(self, vault: VaultClient) -> Login:
        """Log in, as `Identity.log_in`."""
        return vault.login_approle(self._role_id(), self._secret_id(vault), self._mount)

    def _secret_id(self, vault: VaultClient) -> str:
        given = self._given()
        if not self._wrapped:
            return given
        if self._unwrapped is None or self._unwrapped[0] != given:
            content = vault.unwrap(given)
            if "secret_id" not in content:
                raise ConfigError(
                    f"secret_id: the wrapping token holds {', '.join(sorted(content)) or 'nothing'} and no secret_id;"
                    " wrap the answer of auth/approle/role/ROLE/secret-id"
                )
            self._unwrapped = (given, str(content["secret_id"]))
        return self._unwrapped[1]
