"""Opening sealed Secrets: one path from ciphertext to plaintext, for services, the command and the lookup plugin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from ..sealed import manifest_of
from ..servers.kubernetes import KubernetesClient, Object, Resource
from ..servers.vault import TransitItem, VaultClient, batched_by_key
from .requests import Request, sealed_items

ObjectKey = tuple[Resource, str, str]
"""Kind, namespace and name of an object, as `Request.object_key`."""

Decrypt = Callable[[str, Sequence[TransitItem]], Sequence[bytes]]
"""Has Vault decrypt items with the Transit key of a name."""


def open_objects(
    objects: Mapping[ObjectKey, Object], requests: Sequence[Request], decrypt: Decrypt
) -> list[dict[str, bytes]]:
    """Decrypt what requests ask for, each Transit key in one batch.

    Args:
        objects: the objects that the requests are about, as the Kubernetes API returns them.
        requests: what to decrypt.
        decrypt: has Vault decrypt.

    Returns:
        For each request the plaintext by data key.

    Raises:
        SecretKeyNotFound, SecretFormatError, SealedDataError, WrongTransitKey: as `requests.sealed_items`.
        DecryptionFailed, PermissionDenied: Vault refused.
    """
    manifests = {key: manifest_of(found) for key, found in objects.items()}

    def items() -> Iterator[tuple[str, tuple[int, str], TransitItem]]:
        for index, request in enumerate(requests):
            where = request.object_key
            for key, transit_key, item in sealed_items(objects[where], manifests[where], request):
                yield transit_key, (index, key), item

    opened: list[dict[str, bytes]] = [{} for _ in requests]
    for (index, key), plaintext in batched_by_key(items(), decrypt):
        opened[index][key] = plaintext
    return opened


def open_secrets(
    kubernetes: KubernetesClient, vault: VaultClient, requests: Sequence[Request]
) -> list[dict[str, bytes]]:
    """Get Secrets, each once, and decrypt what requests ask for.

    Args:
        kubernetes: client that may get the Secrets.
        vault: client whose token may ``transit/decrypt/KEY``.
        requests: what to decrypt.

    Returns:
        For each request the plaintext by data key.

    Raises:
        SecretNotFound, Forbidden: Kubernetes refused.
        SecretKeyNotFound, SealedDataError, WrongTransitKey, DecryptionFailed, PermissionDenied: as `open_objects`.
    """
    objects = {key: kubernetes.get(*key) for key in dict.fromkeys(request.object_key for request in requests)}
    return open_objects(objects, requests, vault.decrypt)
