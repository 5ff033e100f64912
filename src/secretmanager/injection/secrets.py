"""Sealed Secrets whose manifests are at hand, beside those of the workloads that get them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ..errors import ConfigError, SealedDataError
from ..sealed import Manifest, manifest_of

Object = Mapping[str, Any]


def secrets_among(manifests: Iterable[Any]) -> list[Object]:
    """Return the Secrets among manifests."""
    return [
        manifest
        for manifest in manifests
        if isinstance(manifest, Mapping)
        and (manifest.get("apiVersion"), manifest.get("kind")) == ("v1", "Secret")
        and isinstance(manifest.get("metadata"), Mapping)
        and isinstance(manifest.get("data") or {}, Mapping)
    ]


def sealed_keys(
    names: Iterable[str], namespace: str | None, secrets: Sequence[Object]
) -> dict[str, Collection[str] | None]:
    """Return the sealed data keys of Secrets by name; None where the Secret is not at hand, or not sealed yet.

    Args:
        names: names of the Secrets.
        namespace: the workload's; None if its manifest has none.
        secrets: manifests that are at hand. One without a namespace may be that of the workload.

    Raises:
        ConfigError: one is damaged, or a copy, which opens nowhere but at the place that it was sealed for.
    """
    return {name: _keys(name, namespace, secrets) for name in names}


def _keys(name: str, namespace: str | None, secrets: Sequence[Object]) -> Collection[str] | None:
    for secret in secrets:
        metadata = secret["metadata"]
        own = metadata.get("namespace") or namespace
        if metadata.get("name") != name or (namespace and own != namespace):
            continue
        try:
            manifest = manifest_of({**secret, "metadata": {"namespace": own, "name": name}})
        except SealedDataError as error:
            raise ConfigError(f"Secret {name}: {error.message}", remedy=error.remedy) from error
        if manifest is None:
            continue
        _check_place(manifest, own, name)
        return set(manifest.digests)
    return None


def _check_place(manifest: Manifest, namespace: str | None, name: str) -> None:
    # Without a namespace, that of the sealed place is as good as any; the name tells.
    place = f"{namespace or manifest.place.partition('/')[0]}/{name}"
    if not manifest.is_of(place):
        raise ConfigError(
            f"Secret {name} is a copy: its values were sealed for {manifest.place}, and do not open here",
            remedy="seal it in this namespace by this name",
        )
