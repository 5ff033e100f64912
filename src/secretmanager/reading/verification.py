"""Reads sealed Secrets as a workload does, to prove that the chain works: with nothing but its service account."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import SealedDataError
from ..sealed import sealed_values
from ..servers.kubernetes import KubernetesClient
from ..servers.vault import VaultClient
from .opening import open_objects
from .requests import Request


@dataclass(frozen=True)
class Workload:
    """One workload.

    Attributes:
        role: its role in Vault.
        namespace: its namespace, which is also that of its Secrets.
        service_account: who it is.
        audience: audience of its token for Vault.
        secrets: names of the Secrets that it reads.
        transit_key: Transit key of values without a manifest, which an older tool sealed.
    """

    role: str
    namespace: str
    service_account: str
    audience: str
    secrets: Sequence[str]
    transit_key: str | None = None


def read_as(
    workload: Workload,
    operator: KubernetesClient,
    connect: Callable[[str], KubernetesClient],
    vault: VaultClient,
    auth_mount: str = "kubernetes",
) -> dict[str, list[str]]:
    """Read each of a workload's Secrets as the workload; keep only the names of the data keys.

    Args:
        workload: who reads what.
        operator: may have tokens issued for the workload's service account; does nothing else.
        connect: returns a client of the Kubernetes API for a bearer token.
        vault: client without a token.
        auth_mount: where Vault's Kubernetes auth is mounted.

    Returns:
        The sealed data keys of each Secret, by its name.

    Raises:
        SealedDataError: a Secret holds nothing sealed, or a value whose Transit key is unknown.
        LoginDenied, PermissionDenied, DecryptionFailed: Vault refused.
        Forbidden, SecretNotFound: Kubernetes refused.
    """
    namespace, account = workload.namespace, workload.service_account
    kubernetes = connect(operator.create_token(namespace, account, None))
    jwt = operator.create_token(namespace, account, workload.audience)
    token = vault.login_kubernetes(workload.role, jwt, auth_mount).client_token
    try:
        return {name: _read(workload, name, kubernetes, vault, token) for name in workload.secrets}
    finally:
        vault.revoke_self(token=token)


def connecting(options: Mapping[str, Any]) -> Callable[[str], KubernetesClient]:
    """Return what connects for `read_as`: the bearer token alone says who asks, and not the operator's certificate.

    Args:
        options: how Kubernetes is reached, as of `KubernetesClient.from_options`.
    """
    return lambda token: KubernetesClient.from_options(
        {**options, "api_key": token, "client_cert": None, "client_key": None}
    )


def _read(workload: Workload, name: str, kubernetes: KubernetesClient, vault: VaultClient, token: str) -> list[str]:
    secret = kubernetes.get_secret(workload.namespace, name)
    values = sealed_values(secret)
    if not values:
        raise SealedDataError(
            "the Secret holds nothing sealed",
            place=f"{workload.namespace}/{name}",
            remedy="seal it: kubevault_secret",
        )
    requests = [
        Request(name, workload.namespace, "SECRET", key, value.transit_key or workload.transit_key)
        for key, value in values.items()
    ]
    open_objects({requests[0].object_key: secret}, requests, lambda key, items: vault.decrypt(key, items, token=token))
    return sorted(values)
