"""Opening sealed Secrets: one path from ciphertext to plaintext, for services, the command and the lookup plugin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from ..errors import DecryptionFailed
from ..sealed import Manifest, manifest_of, text_of
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
    manifests = {key: manifest_of(api_object) for key, api_object in objects.items()}
    where_of: dict[str, tuple[ObjectKey, str]] = {}

    def items() -> Iterator[tuple[str, tuple[int, str], TransitItem]]:
        for index, request in enumerate(requests):
            where = request.object_key
            for key, transit_key, item in sealed_items(objects[where], manifests[where], request):
                where_of[str(item.place)] = where, key
                yield transit_key, (index, key), item

    opened: list[dict[str, bytes]] = [{} for _ in requests]
    try:
        for (index, key), plaintext in batched_by_key(items(), decrypt):
            opened[index][key] = plaintext
    except DecryptionFailed as error:
        if error.place and error.place in where_of:
            where, key = where_of[error.place]
            data = objects[where]["data"]
            text = data[key] if where[0] == "configmaps" else text_of(data[key])
            _explain(error, text, objects[where], manifests[where], key)
        raise
    return opened


def _explain(error: DecryptionFailed, text: str, api_object: Object, manifest: Manifest | None, key: str) -> None:
    """Say the one cause that is known why a value does not decrypt.

    Args:
        error: what Vault said; its message, reason and remedy change.
        text: the ciphertext.
        api_object: the object.
        manifest: its manifest; None if an older tool sealed it, of which nothing is known.
        key: the data key.
    """
    intact = manifest.is_intact(key, text) if manifest else None
    if error.reason == "version" or intact is None:
        return
    if intact:
        error.remedy = (
            "the value is as it was sealed here, so the Transit key of this name is another one, as after Vault was set"
            " up again: restore the key, or seal the value again"
        )
        return
    error.damaged = True
    error.message = f"the value is damaged: it is not what was sealed here{_written(api_object, key)}"
    error.remedy = "seal the value again, or restore the Secret from a backup or Git"


def _written(api_object: Object, key: str) -> str:
    """Say who wrote a data key last, and when, as the API server keeps it; an empty text if it does not."""
    entries = [
        entry
        for entry in api_object["metadata"].get("managedFields") or []
        if f"f:{key}" in ((entry.get("fieldsV1") or {}).get("f:data") or {})
    ]
    if not entries:
        return ""
    last = max(entries, key=lambda entry: str(entry.get("time")))
    return f"; {last.get('manager')} wrote it last, at {last.get('time')}"


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
