"""Logging in to Vault as a person or a tool does, for the command and the lookup plugin; services have `manager`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from ..errors import ConfigError, PermissionDenied
from ..servers.kubeconfig import SERVICE_ACCOUNT_DIR, MountedToken, find_access, from_host
from ..servers.kubernetes import KubernetesClient
from ..servers.vault import Login, VaultClient

AuthMethod = Literal["token", "approle", "kubernetes"]


@dataclass(frozen=True)
class VaultAccess:
    """How Vault is reached, and who logs in.

    Attributes:
        url: Vault's address, ``https://...``.
        ca_cert: path of the PEM file of the CA of its certificate; None for the system's own CAs.
        namespace: Vault namespace (Enterprise, OpenBao).
        timeout: time that one answer may take, in seconds.
        auth_method: how to log in.
        auth_mount: where the auth method is mounted; None for its own name.
        token: the token, for ``auth_method`` "token".
        token_file: file that holds it; without both, ``~/.vault-token``.
        role: role to log in to, for "kubernetes".
        jwt: service account's token, likewise; without one, and without a service account, the one that Kubernetes
            mounts into a pod.
        service_account: ``NAMESPACE/NAME`` of a service account that Kubernetes is asked to issue a token of.
        audience: whom that token is for.
        role_id: role ID, for "approle".
        secret_id: secret ID, likewise.
        transit_mount: where the Transit engine is mounted.
    """

    url: str
    ca_cert: str | None = None
    namespace: str | None = None
    timeout: float = 30.0
    auth_method: AuthMethod = "token"
    auth_mount: str | None = None
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    role: str | None = None
    jwt: str | None = field(default=None, repr=False)
    service_account: str | None = None
    audience: str = "vault"
    role_id: str | None = None
    secret_id: str | None = field(default=None, repr=False)
    transit_mount: str = "transit"

    @contextmanager
    def connect(self, kubernetes: Callable[[], KubernetesClient]) -> Iterator[VaultClient]:
        """Give a client that is logged in; a token that was got for that is revoked in the end.

        Args:
            kubernetes: gives the client by which a service account's token is asked for.

        Raises:
            ConfigError: an option is missing or wrong.
            LoginDenied: Vault refused.
            VaultUnavailable, TLSError: Vault is out of reach, or not to be trusted.
        """
        vault = VaultClient(
            self.url,
            ca_cert=self.ca_cert or True,
            namespace=self.namespace,
            timeout=self.timeout,
            transit_mount=self.transit_mount,
        )
        login = self._log_in(vault, kubernetes)
        vault.token = login.client_token if login else self._token()
        try:
            yield vault
        finally:
            if login and not login.is_batch:
                with suppress(PermissionDenied):  # then it ends by itself
                    vault.revoke_self()
            vault.close()

    def _log_in(self, vault: VaultClient, kubernetes: Callable[[], KubernetesClient]) -> Login | None:
        mount = self.auth_mount or self.auth_method
        match self.auth_method:
            case "token":
                return None
            case "approle":
                if not self.role_id or not self.secret_id:
                    raise ConfigError("auth method approle needs role_id and secret_id")
                return vault.login_approle(self.role_id, self.secret_id, mount)
            case "kubernetes":
                if not self.role:
                    raise ConfigError("auth method kubernetes needs role")
                return vault.login_kubernetes(self.role, self._jwt(kubernetes), mount)
        raise ConfigError(f"auth_method: found {self.auth_method!r}; allowed are {', '.join(get_args(AuthMethod))}")

    def _jwt(self, kubernetes: Callable[[], KubernetesClient]) -> str:
        if self.jwt:
            return self.jwt
        if self.service_account:
            namespace, slash, name = self.service_account.partition("/")
            if not slash or not name:
                raise ConfigError(f"service_account: found {self.service_account!r}; allowed is NAMESPACE/NAME")
            return kubernetes().create_token(namespace, name, self.audience)
        return MountedToken(SERVICE_ACCOUNT_DIR / "token")()

    def _token(self) -> str:
        if self.token:
            return self.token
        path = Path(self.token_file or "~/.vault-token").expanduser()
        try:
            token = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is no token"
            raise ConfigError(
                f"no Vault token: {path}: {reason}; give a token, a token file or another auth method"
            ) from error
        if not token:
            raise ConfigError(f"no Vault token: {path} is empty")
        return token


@dataclass(frozen=True)
class KubernetesAccess:
    """How the Kubernetes API is reached.

    Attributes:
        kubeconfig: kubeconfig file; None for ``$KUBECONFIG``, a pod's own service account, ``~/.kube/config``.
        context: its context; None for its current one.
        host: the API's address instead of a file.
        api_key: bearer token of who asks.
        ca_cert: path of the PEM file of the CA of its certificate, for ``host``.
        client_cert: path of a client certificate's PEM file, for ``host``.
        client_key: path of its key's PEM file.
    """

    kubeconfig: str | None = None
    context: str | None = None
    host: str | None = None
    api_key: str | None = field(default=None, repr=False)
    ca_cert: str | None = None
    client_cert: str | None = None
    client_key: str | None = None

    def connect(self, connections: int = 10) -> KubernetesClient:
        """Give a client.

        Raises:
            ConfigError: an option is missing or wrong.
        """
        if self.host:
            access = from_host(self.host, self.api_key, self.ca_cert, self.client_cert, self.client_key)
        else:
            access = find_access(self.kubeconfig, self.context, self.api_key)
        return KubernetesClient(access, connections=connections)
