"""The configuration of a SecretManager, checked before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

from .errors import ConfigError, quoted
from .login.methods import AuthMethod, Credentials
from .servers.http import ELECTION_TIMEOUT
from .servers.kubeconfig import SERVICE_ACCOUNT_DIR

Source = Literal["KUBEVAULT", "KUBERNETES", "FILE", "ENVIRONMENT"]


ENVIRONMENT = {
    "vault_url": "VAULT_ADDR",
    "vault_namespace": "VAULT_NAMESPACE",
    "ca_cert": "VAULT_CACERT",
    "ca_path": "VAULT_CAPATH",
    "vault_client_cert": "VAULT_CLIENT_CERT",
    "vault_client_key": "VAULT_CLIENT_KEY",
    "vault_tls_server_name": "VAULT_TLS_SERVER_NAME",
    "vault_proxy": "VAULT_PROXY_ADDR",
    "role_id": "VAULT_ROLE_ID",
    "secret_id": "VAULT_SECRET_ID",
    "vault_token": "VAULT_TOKEN",
    "vault_token_file": "VAULT_TOKEN_FILE",
}
"""Environment variables that the client reads for options that are not given: Vault's own, and no other tool's."""


@dataclass(frozen=True, eq=False)
class Config:
    """Options of a SecretManager. `from_dict` accepts these names; ``SOURCE`` stands for ``source``.

    Attributes:
        source: where secrets come from.
        kube_config: path of a kubeconfig file, or its content; None for ``$KUBECONFIG``, the pod's own account,
            ``~/.kube/config``.
        context: context of that file; None for its current one.
        kube_proxy: HTTP proxy to the Kubernetes API, before the kubeconfig's ``proxy-url``; as ``vault_proxy``.
        service_account: service account to log in to Vault as.
        namespace: its namespace; without one the pod's own, or "default".
        audience: audience of the service account's token; None for the API server itself.
        token_file: file of a projected service-account token for Vault, instead of asking Kubernetes for one; None for
            `login.methods.TOKEN_FILE` if it holds a token of this service account.
        vault_url: Vault's address, ``https://...``; several, separated by commas, are tried in turn.
        vault_namespace: Vault namespace (Enterprise, OpenBao).
        ca_cert: path of the PEM file of the CA of Vault's certificate; True, as if it were not given, for
            ``$VAULT_CACERT``, ``ca_path`` or ``$VAULT_CAPATH``, or without one the system's own CAs.
        ca_path: folder of PEM files of CAs.
        vault_client_cert: path of the PEM file of a client certificate, for a Vault that requires one.
        vault_client_key: path of the PEM file of its key.
        vault_tls_server_name: name that Vault's certificate must hold; None for that of its address.
        vault_proxy: HTTP proxy to Vault, ``http://[USER:PASSWORD@]HOST:PORT``; "environment" for what ``HTTPS_PROXY``
            and ``NO_PROXY`` say; None for no proxy.
        vault_loopback_http: whether ``vault_url`` may be ``http://`` for a Vault Agent or Vault Proxy on an address of
            this machine's loopback.
        auth: how to log in to Vault.
        auth_mount: where that auth method is mounted; None for its own name.
        role: role of Vault to log in to, for ``auth`` "kubernetes" and "gcp".
        role_id: role ID, for ``auth`` "approle".
        role_id_file: file that holds it.
        secret_id: secret ID, for ``auth`` "approle".
        secret_id_file: file that holds it; read again at each log-in.
        secret_id_wrapped: whether the secret ID given is a response-wrapping token, to be unwrapped once.
        gcp_credentials_file: JSON key file of a Google service account, for ``auth`` "gcp"; None for the account that
            Google's metadata server knows.
        vault_token: Vault token, for ``auth`` "token"; it is neither renewed beyond its maximum nor revoked.
        vault_token_file: file that holds it, read again at each log-in; None for ``~/.vault-token``.
        transit_mount: where the Transit engine is mounted.
        timeout: time that one request may take, with its whole response, in seconds; no attempt starts after it.
        retries: how often a request is repeated that may succeed later.
        election_timeout: how long it is repeated while Vault, or Kubernetes' etcd, has no leader, in seconds.
        connections: how many connections to each server are kept; more threads than that wait for one another.
        cache_ciphertext_ttl: how long a Secret is kept as Kubernetes gave it, in seconds; 0 for not at all.
        cache_plaintext_ttl: how long what Vault decrypted is kept, in seconds; 0 for not at all.
        cache_max_entries: how many Secrets, and how many decrypted results, are kept at most.
        cache_stale_if_error: how long after its time a decrypted result still serves while Vault or Kubernetes is out
            of reach, in seconds (as ``stale-if-error``, RFC 5861 section 4); needs ``cache_plaintext_ttl``.
        redis_url: Redis for change notices, ``rediss://[USER@]HOST[:PORT][/DATABASE]``; None for a watch of Kubernetes.
        redis_password_file: file that holds its password.
        redis_ca_cert: path of the PEM file of the CA of its certificate; True for the system's own CAs.
        redis_client_cert: path of the PEM file of a client certificate, which Redis requires with TLS unless it is
            configured otherwise (``tls-auth-clients``).
        redis_client_key: path of the PEM file of its key.
        redis_channel: first part of the channels' names.
    """

    source: Source
    kube_config: str | Mapping[str, Any] | None = field(default=None, repr=False)
    context: str | None = None
    kube_proxy: str | None = field(default=None, repr=False)
    service_account: str = "default"
    namespace: str = ""
    audience: str | None = "vault"
    token_file: str | None = None
    vault_url: str = ""
    vault_namespace: str | None = None
    ca_cert: bool | str = True
    ca_path: str | None = None
    vault_client_cert: str | None = None
    vault_client_key: str | None = None
    vault_tls_server_name: str | None = None
    vault_proxy: str | None = field(default=None, repr=False)
    vault_loopback_http: bool = False
    auth: AuthMethod = "kubernetes"
    auth_mount: str | None = None
    role: str = ""
    role_id: str = ""
    role_id_file: str | None = None
    secret_id: str = field(default="", repr=False)
    secret_id_file: str | None = None
    secret_id_wrapped: bool = False
    gcp_credentials_file: str | None = None
    vault_token: str | None = field(default=None, repr=False)
    vault_token_file: str | None = None
    transit_mount: str = "transit"
    timeout: float = 30.0
    retries: int = 4
    election_timeout: float = ELECTION_TIMEOUT
    connections: int = 10
    cache_ciphertext_ttl: float = 0.0
    cache_plaintext_ttl: float = 0.0
    cache_max_entries: int = 100
    cache_stale_if_error: float = 0.0
    redis_url: str | None = field(default=None, repr=False)
    redis_password_file: str | None = None
    redis_ca_cert: bool | str = True
    redis_client_cert: str | None = None
    redis_client_key: str | None = None
    redis_channel: str = "kubevault"

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Config:
        """Check a configuration.

        Args:
            config: by name, as the attributes; ``SOURCE`` names the source. For options that are not given, see
                `ENVIRONMENT`.

        Raises:
            ConfigError: an option is unknown, missing or of another type; names it.
        """
        if not isinstance(config, Mapping):
            raise ConfigError(f"config: found a value of type {type(config).__name__}; allowed is a mapping of options")
        given = {("source" if name == "SOURCE" else name): value for name, value in config.items()}
        known = _annotations(cls)
        if unknown := sorted(given.keys() - known.keys(), key=str):
            allowed = ", ".join(sorted(known.keys() - {"source"}))
            raise ConfigError(f"{', '.join(map(str, unknown))}: there is no such option; allowed are SOURCE, {allowed}")
        if given.get("source") not in get_args(Source):
            raise ConfigError(f"SOURCE: found {quoted(given.get('source'))}; allowed are {', '.join(get_args(Source))}")
        for name in ("ca_cert", "redis_ca_cert"):
            if given.get(name) in (None, "True") or given[name] is True:  # as the published client takes it
                given.pop(name, None)
        has_ca = given.get("ca_cert") is not None or given.get("ca_path") is not None
        for name, variable in ENVIRONMENT.items():
            if has_ca and name in ("ca_cert", "ca_path"):
                continue  # of the two, one is enough, and an option counts before a variable
            if given.get(name) is None and (value := os.environ.get(variable)):
                given[name] = value
        for name, value in given.items():
            _check(name, value, known[name])
        if not given.get("namespace"):
            given["namespace"] = _own_namespace()
        made = cls(**given)
        if made.source == "KUBEVAULT":
            made._check_kubevault()
        return made

    def changed(self, **changes: Any) -> Self:
        """Return the configuration with other values of some options; raises as `from_dict`."""
        for name, value in changes.items():
            _check(name, value, _annotations(type(self))[name])
        return replace(self, **changes)

    @property
    def credentials(self) -> Credentials:
        """Who logs in to Vault, and how."""
        return Credentials(
            method=self.auth,
            mount=self.auth_mount,
            role=self.role,
            jwt_file=self.token_file,
            service_account=f"{self.namespace}/{self.service_account}",
            audience=self.audience,
            role_id=self.role_id,
            role_id_file=self.role_id_file,
            secret_id=self.secret_id,
            secret_id_file=self.secret_id_file,
            secret_id_wrapped=self.secret_id_wrapped,
            gcp_credentials_file=self.gcp_credentials_file,
            token=self.vault_token,
            token_file=self.vault_token_file,
        )

    def _check_kubevault(self) -> None:
        if self.auth not in get_args(AuthMethod):
            raise ConfigError(f"auth: found {self.auth!r}; allowed are {', '.join(get_args(AuthMethod))}")
        for names in (["vault_url"] if not self.vault_url else [], self.credentials.missing):
            for name in names:
                raise ConfigError(f"{name}: is missing; SOURCE KUBEVAULT with auth {self.auth} needs it")
        if self.cache_stale_if_error and not self.cache_plaintext_ttl:
            raise ConfigError("cache_stale_if_error: needs cache_plaintext_ttl, since it serves what that keeps")


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "str | Mapping[str, Any] | None": (str, Mapping, type(None)),
    "bool": (bool,),
    "bool | str": (bool, str),
    "float": (int, float),
    "int": (int,),
}
_AT_LEAST = {"timeout": 0.001, "connections": 1, "cache_max_entries": 1}
"""Least values of numbers; of the others it is 0."""
_CREDENTIALS = ("vault_token", "role_id", "secret_id")
"""Texts that `login.methods` checks."""


def _check(name: str, value: object, annotation: str) -> None:
    if annotation not in _TYPES:
        return  # one of a few words, which are checked when everything is known
    number = annotation in ("int", "float")
    if not isinstance(value, _TYPES[annotation]) or (number and isinstance(value, bool)):
        # Not the value itself: it may be a secret.
        raise ConfigError(f"{name}: found a value of type {type(value).__name__}; allowed is {annotation}")
    least = _AT_LEAST.get(name, 0)
    if number and not (isinstance(value, int | float) and least <= value < float("inf")):
        raise ConfigError(f"{name}: found {value}; allowed is {least} or more")
    if isinstance(value, str) and name not in _CREDENTIALS and not value.strip().isprintable():
        raise ConfigError(f"{name}: holds a character that cannot be printed")


def _annotations(kind: type[Config]) -> dict[str, str]:
    return {item.name: str(item.type) for item in fields(kind)}


def _own_namespace() -> str:
    """Return the pod's own namespace; "default" outside of one."""
    try:
        return Path(SERVICE_ACCOUNT_DIR, "namespace").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return "default"
    except (OSError, ValueError) as error:
        raise ConfigError(f"namespace: {SERVICE_ACCOUNT_DIR}/namespace cannot be read; name a namespace") from error
