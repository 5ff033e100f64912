"""Opening a sealed Secret by hand: what the command and the lookup plugin show. Services have `manager`."""

from __future__ import annotations

from ..servers.kubernetes import KubernetesClient
from ..servers.vault import TransitItem, VaultClient
from .requests import Request, sealed_items


def open_secret(
    kubernetes: KubernetesClient,
    vault: VaultClient,
    namespace: str,
    name: str,
    key: str | None = None,
    transit_key: str | None = None,
) -> dict[str, bytes]:
    """Read a sealed Secret.

    Args:
        kubernetes: client that may get the Secret.
        vault: client whose token may ``transit/decrypt/KEY``.
        namespace: the Secret's namespace.
        name: its name.
        key: a data key; None for all.
        transit_key: Vault's key, where the Secret does not say it, as an older tool sealed it.

    Returns:
        The plaintext by data key.

    Raises:
        SecretNotFound, SecretKeyNotFound: there is no such thing.
        SealedDataError: a value is not sealed.
        DecryptionFailed, PermissionDenied: Vault does not open it.
    """
    request = Request(name, namespace, "SECRET", key, transit_key)
    batches: dict[str, list[tuple[str, TransitItem]]] = {}
    for data_key, used, item in sealed_items(kubernetes.get_secret(namespace, name), request):
        batches.setdefault(used, []).append((data_key, item))
    opened: dict[str, bytes] = {}
    for used, batch in batches.items():
        plaintexts = vault.decrypt(used, [item for _, item in batch])
        opened |= {data_key: plain for (data_key, _), plain in zip(batch, plaintexts, strict=True)}
    return opened
