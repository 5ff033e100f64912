"""How to log in to Vault: every method, for services, the command, the lookup plugin and Ansible's modules.

A new method is a class, an entry in `_METHODS` and one in `NEEDS`; all four callers then have it.
"""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from ..errors import ConfigError, LoginDenied, quoted
from ..servers.http import credential
from ..servers.kubeconfig import SERVICE_ACCOUNT_DIR, MountedToken, expanded
from ..servers.kubernetes import KubernetesClient
from ..servers.vault import Login, VaultClient

log = logging.getLogger(__name__)

AuthMethod = Literal["kubernetes", "approle", "gcp", "token"]

NEEDS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "kubernetes": (("role",),),
    "approle": (("role_id", "role_id_file"),),  # a secret ID only if the role has bind_secret_id
    "gcp": (("role",),),
    "token": (),
}
"""What each method needs, by the names of `Credentials`: one of each group."""

TOKEN_FILE = Path("/var/run/secrets/tokens/vault-token")
"""Where a pod finds its token for Vault, as in Kubernetes' own example of a projected service-account token:
https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#launch-a-pod-using-service-account-token-projection
"""

USER_TOKEN_FILE = "~/.vault-token"
"""Where ``vault login`` keeps the token of a person."""

JWT_LIFE = 600
"""Lifetime of a service account's token, in seconds: the minimum that Kubernetes allows."""

_REUSE = 0.8  # part of its lifetime for which a token is used for further log-ins


@dataclass(frozen=True, eq=False)
class Credentials:
    """Who logs in, and how. Secrets stay out of repr().

    Attributes:
        method: the auth method.
        mount: path at which the auth method is mounted; None for its own name.
        role: role of Vault, for "kubernetes" and "gcp".
        jwt: a service account's token, for "kubernetes".
        jwt_file: file that holds it; read again at each log-in.
        service_account: ``NAMESPACE/NAME`` of the service account, for "kubernetes". Without a token of it, the file
            `TOKEN_FILE` is used if it holds one, and otherwise Kubernetes is asked to issue one. Without a service
            account and a token, the token that Kubernetes mounts into a pod is used.
        audience: audience of the token that Kubernetes issues; None for the API server itself.
        role_id: role ID, for "approle".
        role_id_file: file that holds it; read again at each log-in.
        secret_id: secret ID, for "approle"; without one, the role must have ``bind_secret_id=false``.
        secret_id_file: file that holds it; read again at each log-in.
        secret_id_wrapped: whether the secret ID is a response-wrapping token of one, which is unwrapped once.
        gcp_credentials_file: JSON key file of a Google service account, for "gcp"; None for the account that Google's
            metadata server knows.
        token: Vault token, for "token".
        token_file: file that holds it; None for `USER_TOKEN_FILE`.
    """

    method: AuthMethod = "token"
    mount: str | None = None
    role: str | None = None
    jwt: str | None = field(default=None, repr=False)
    jwt_file: str | None = None
    service_account: str | None = None
    audience: str | None = "vault"
    role_id: str | None = None
    role_id_file: str | None = None
    secret_id: str | None = field(default=None, repr=False)
    secret_id_file: str | None = None
    secret_id_wrapped: bool = False
    gcp_credentials_file: str | None = None
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Credentials:
        """Return the credentials in options that have the names of `options.VAULT_LOGIN`; None counts as not given."""
        option_names = {"method": "vault_auth_method", "mount": "vault_auth_mount"}
        option_names |= {name: name for name in ("service_account", "audience")}
        values = {item.name: options.get(option_names.get(item.name, f"vault_{item.name}")) for item in fields(cls)}
        return cls(**{name: value for name, value in values.items() if value is not None})

    @property
    def missing(self) -> list[str]:
        """What the method needs and was not given, each as ``role_id or role_id_file``."""
        return [" or ".join(names) for names in NEEDS[self.method] if not any(getattr(self, name) for name in names)]


class Method(Protocol):
    """An auth method. One thread at a time uses it."""

    def log_in(self, vault: VaultClient) -> Login:
        """Log in.

        Raises:
            LoginDenied: Vault refused.
            ConfigError: a file that holds a credential cannot be used.
            KubernetesError: Kubernetes issues no token.
        """
        ...


def method_of(credentials: Credentials, kubernetes: Callable[[], KubernetesClient]) -> Method:
    """Return the auth method for the given credentials.

    Args:
        credentials: who logs in, and how.
        kubernetes: returns the client that asks Kubernetes to issue a service account's token; called only for that.

    Raises:
        ConfigError: the method is unknown, an option is missing, or a file or package cannot be used.
    """
    name = credentials.method
    if name not in _METHODS:
        raise ConfigError(f"auth_method: found {name!r}; allowed are {', '.join(get_args(AuthMethod))}")
    if missing := credentials.missing:
        raise ConfigError(f"auth method {name} needs {', '.join(missing)}")
    return _METHODS[name](credentials, credentials.mount or name, kubernetes)


def from_file(path: str) -> Callable[[], str]:
    """Return what reads a credential from a file each time; it raises ConfigError if the file holds none."""
    return MountedToken(path, max_age=0)


def subject_of(path: Path) -> str | None:
    """Return the subject (claim ``sub``, not verified) of the token in a file; None if the file holds no token."""
    try:
        payload = path.read_text(encoding="ascii").split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (OSError, IndexError, ValueError, RecursionError):
        return None
    subject = claims.get("sub") if isinstance(claims, dict) else None
    return subject if isinstance(subject, str) else None


def own_account() -> str | None:
    """Return this pod's service account as ``NAMESPACE/NAME``; None outside of a pod, or if it mounts no token."""
    kind, _, account = (subject_of(SERVICE_ACCOUNT_DIR / "token") or "").partition("serviceaccount:")
    return account.replace(":", "/") if kind == "system:" else None


class Token:
    """A token that the user has. Nothing is sent to log in, and it is not revoked.

    Args:
        token: the token.
        path: file that holds it; read at each log-in.
    """

    def __init__(self, token: str | None, path: str | None) -> None:
        self._token = token
        self._path = expanded(path or USER_TOKEN_FILE)

    def log_in(self, vault: VaultClient) -> Login:
        """Return the token, as `Method.log_in`."""
        token = credential(self._token, "vault_token") if self._token else self._read()
        return Login(token, 0, renewable=False, given=True)

    def _read(self) -> str:
        try:
            return MountedToken(self._path)()
        except ConfigError as error:
            raise ConfigError(
                f"no Vault token: {error.message}",
                remedy="give a token, a token file or another auth method (VAULT_TOKEN is for the Vault of VAULT_ADDR)",
            ) from error


class ServiceAccount:
    """A Kubernetes service account.

    Args:
        jwt: returns a token of it.
        role: role of Vault.
        mount: path at which Vault's Kubernetes auth method is mounted.
        reuse: how long a token is used for further log-ins, in seconds.
    """

    def __init__(self, jwt: Callable[[], str], role: str, mount: str, *, reuse: float = 0.0) -> None:
        self._jwt = jwt
        self._role = role
        self._mount = mount
        self._reuse = reuse
        self._kept: tuple[str, float] | None = None

    def log_in(self, vault: VaultClient) -> Login:
        """Log in, as `Method.log_in`."""
        if self._kept and time.monotonic() < self._kept[1]:
            try:
                return vault.login_kubernetes(self._role, self._kept[0], self._mount)
            except LoginDenied as error:
                # A service account that was deleted and created again has lost its tokens.
                log.debug("a kept token was refused; asking for a new one: %s", error)
        until = time.monotonic() + self._reuse
        jwt = self._jwt()
        self._kept = (jwt, until) if self._reuse else None
        return vault.login_kubernetes(self._role, jwt, self._mount)


class AppRole:
    """An AppRole.

    Args:
        role_id: returns its role ID.
        secret_id: returns its secret ID, or a response-wrapping token of one; None for a role without
            ``bind_secret_id``.
        wrapped: whether it is such a token. It is unwrapped once, and the secret ID is kept in memory for further
            log-ins; a new token in its file is unwrapped too.
        mount: path at which AppRole is mounted.
    """

    def __init__(
        self,
        role_id: Callable[[], str],
        secret_id: Callable[[], str] | None = None,
        *,
        wrapped: bool = False,
        mount: str = "approle",
    ) -> None:
        self._role_id = role_id
        self._given = secret_id
        self._wrapped = wrapped
        self._mount = mount
        self._unwrapped: tuple[str, str] | None = None

    def log_in(self, vault: VaultClient) -> Login:
        """Log in, as `Method.log_in`."""
        secret_id = self._secret_id(vault, self._given()) if self._given else None
        return vault.login_approle(self._role_id(), secret_id, self._mount)

    def _secret_id(self, vault: VaultClient, configured: str) -> str:
        if not self._wrapped:
            return configured
        if self._unwrapped is None or self._unwrapped[0] != configured:
            content = vault.unwrap(configured)
            if "secret_id" not in content:
                raise ConfigError(
                    f"secret_id: the wrapping token holds {', '.join(sorted(content)) or 'nothing'} and no secret_id;"
                    " wrap the answer of auth/approle/role/ROLE/secret-id"
                )
            self._unwrapped = (configured, str(content["secret_id"]))
        return self._unwrapped[1]


def _token(credentials: Credentials, mount: str, kubernetes: Callable[[], KubernetesClient]) -> Method:
    return Token(credentials.token, credentials.token_file)


def _service_account(credentials: Credentials, mount: str, kubernetes: Callable[[], KubernetesClient]) -> Method:
    role = credentials.role or ""
    if credentials.jwt:
        jwt = credential(credentials.jwt, "vault_jwt")
        return ServiceAccount(lambda: jwt, role, mount)
    path: str | Path | None = credentials.jwt_file
    if not credentials.service_account:
        return ServiceAccount(from_file(str(path or SERVICE_ACCOUNT_DIR / "token")), role, mount)
    namespace, slash, name = credentials.service_account.partition("/")
    if not slash or not name:
        raise ConfigError(f"service_account: found {quoted(credentials.service_account)}; allowed is NAMESPACE/NAME")
    if path is None and subject_of(TOKEN_FILE) == f"system:serviceaccount:{namespace}:{name}":
        path = TOKEN_FILE
    if path is not None:
        return ServiceAccount(from_file(str(path)), role, mount)

    def issue() -> str:
        log.debug("asking for a token of service account %s/%s", namespace, name)
        return kubernetes().create_token(namespace, name, credentials.audience, JWT_LIFE)

    return ServiceAccount(issue, role, mount, reuse=JWT_LIFE * _REUSE)


def _approle(credentials: Credentials, mount: str, kubernetes: Callable[[], KubernetesClient]) -> Method:
    role_id = _given_or_read(credentials.role_id, credentials.role_id_file, "role_id")
    assert role_id is not None  # noqa: S101 - for the type checker: `Credentials.missing` says so before
    secret_id = _given_or_read(credentials.secret_id, credentials.secret_id_file, "secret_id")
    return AppRole(role_id, secret_id, wrapped=credentials.secret_id_wrapped, mount=mount)


def _given_or_read(text: str | None, path: str | None, option: str) -> Callable[[], str] | None:
    if path:
        return from_file(path)
    if not text:
        return None
    value = credential(text, option)
    return lambda: value


def _google_service_account(credentials: Credentials, mount: str, kubernetes: Callable[[], KubernetesClient]) -> Method:
    from .gcp import from_key_file, from_metadata_server

    role, path = credentials.role or "", credentials.gcp_credentials_file
    return from_key_file(path, role, mount) if path else from_metadata_server(role, mount)


_METHODS: Mapping[str, Callable[[Credentials, str, Callable[[], KubernetesClient]], Method]] = {
    "kubernetes": _service_account,
    "approle": _approle,
    "gcp": _google_service_account,
    "token": _token,
}
