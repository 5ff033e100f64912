"""The configuration of a SecretManager, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast, get_args

from .errors import ConfigError

Source = Literal["KUBEVAULT", "KUBERNETES", "FILE", "ENVIRONMENT"]
AuthMethod = Literal["kubernetes", "approle"]


@dataclass(frozen=True)
class Config:
    """What a SecretManager is told. `from_dict` takes these names; ``SOURCE`` stands for ``source``.

    Attributes:
        source: where secrets come from.
        kube_config: path of a kubeconfig file; None for ``$KUBECONFIG``, the pod's own account, ``~/.kube/config``.
        context: context of that file; None for its current one.
        service_account: service account to log in to Vault as.
        namespace: its namespace.
        token_file: file of a projected service-account token for Vault, instead of asking for one.
        vault_url: Vault's address, ``https://...``.
        vault_namespace: Vault namespace (Enterprise, OpenBao).
        ca_cert: path of the PEM file of the CA of Vault's certificate; True for the system's own CAs.
        auth: how to log in to Vault.
        auth_mount: where that auth method is mounted; None for its own name.
        role: role of Vault to log in to.
        audience: whom the service account's token is for; None for the API server itself.
        role_id: role ID, for ``auth`` "approle".
        secret_id: secret ID, likewise.
        transit_mount: where the Transit engine is mounted.
        timeout: time that one answer may take, in seconds.
    """

    source: Source
    kube_config: str | None = None
    context: str | None = None
    service_account: str = "default"
    namespace: str = "default"
    token_file: str | None = None
    vault_url: str = ""
    vault_namespace: str | None = None
    ca_cert: bool | str = True
    auth: AuthMethod = "kubernetes"
    auth_mount: str | None = None
    role: str = ""
    audience: str | None = "vault"
    role_id: str = ""
    secret_id: str = field(default="", repr=False)
    transit_mount: str = "transit"
    timeout: float = 30.0

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Config:
        """Check a configuration.

        Args:
            config: by name, as the attributes; ``SOURCE`` names the source.

        Raises:
            ConfigError: an option is unknown, missing or of another type; names it.
        """
        given = {("source" if name == "SOURCE" else name): value for name, value in config.items()}
        known = {item.name: item for item in fields(cls)}
        if unknown := sorted(given.keys() - known.keys()):
            raise ConfigError(f"{unknown[0]}: there is no such option; allowed are SOURCE, {', '.join(sorted(known))}")
        if given.get("source") not in get_args(Source):
            raise ConfigError(f"SOURCE: found {given.get('source')!r}; allowed are {', '.join(get_args(Source))}")
        if given.get("ca_cert") in ("True", None):
            given["ca_cert"] = True  # as the published client takes it
        for name, value in given.items():
            _check_type(name, value, str(known[name].type))
        made = cls(**given)
        if made.source == "KUBEVAULT":
            made._check_kubevault()
        return made

    def _check_kubevault(self) -> None:
        if self.auth not in get_args(AuthMethod):
            raise ConfigError(f"auth: found {self.auth!r}; allowed are {', '.join(get_args(AuthMethod))}")
        needed = {
            "kubernetes": ("vault_url", "role"),
            "approle": ("vault_url", "role_id", "secret_id"),
        }[self.auth]
        for name in needed:
            if not getattr(self, name):
                raise ConfigError(f"{name}: is missing; SOURCE KUBEVAULT with auth {self.auth} needs it")


def _check_type(name: str, value: object, annotation: str) -> None:
    allowed: dict[str, type | tuple[type, ...]] = {
        "str": str,
        "str | None": (str, type(None)),
        "bool | str": (bool, str),
        "float": (int, float),
    }
    if annotation in allowed and not isinstance(value, cast("Any", allowed[annotation])):
        # Not the value itself: it may be a secret.
        raise ConfigError(f"{name}: found a value of type {type(value).__name__}; allowed is {annotation}")
