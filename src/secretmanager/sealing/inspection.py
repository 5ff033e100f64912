"""What is sealed in which Secret, with which version of which key, without decrypting anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import PermissionDenied, SealedDataError, TransitKeyNotFound, VaultError
from ..sealed import MANIFEST_KEY, Scope, checksum, key_version, manifest_of, sealed_values
from ..servers.vault import TransitItem, VaultClient
from .exposure import exposing_annotations


@dataclass(frozen=True)
class ValueInfo:
    """One sealed value.

    Attributes:
        key: its data key.
        version: version of the Transit key that sealed it.
        behind: whether the Transit key has a newer version; None if that is not known.
        managed: whether it was sealed here, so that there is a digest of it; else an older tool sealed it.
        damaged: whether the ciphertext is not the one that was written here.
    """

    key: str
    version: int
    behind: bool | None
    managed: bool
    damaged: bool


@dataclass(frozen=True)
class SecretInfo:
    """One Secret.

    Attributes:
        namespace: its namespace.
        name: its name.
        transit_key: the Transit key that its manifest names; None without a manifest.
        scope: where its values decrypt; None without a manifest.
        newest_version: newest version of the Transit key; None if that is not known.
        behind: whether a value is sealed with an older version; None if that is not known.
        values: its sealed values.
        plain_keys: data keys whose values are not sealed.
        missing_keys: data keys that were sealed here and are gone.
        exposing_annotations: annotations that hold plaintext of its sealed data keys.
        error: why the manifest cannot be read; None if it can, or there is none.
    """

    namespace: str
    name: str
    transit_key: str | None
    scope: Scope | None
    newest_version: int | None
    behind: bool | None
    values: tuple[ValueInfo, ...]
    plain_keys: tuple[str, ...]
    missing_keys: tuple[str, ...]
    exposing_annotations: tuple[str, ...] = ()
    error: str | None = None


class NewestVersions:
    """Finds out the newest version of Transit keys, each once.

    A token that may read the key learns it from Vault. A sealer may not: it has an empty text encrypted, and reads the
    version from the ciphertext.

    Args:
        vault: client that is logged in; None to find out nothing.
    """

    def __init__(self, vault: VaultClient | None) -> None:
        self._vault = vault
        self._known: dict[str, int | None] = {}

    def __call__(self, transit_key: str) -> int | None:
        """Return the newest version; None if the token may do neither, or there is no such key.

        Raises:
            VaultError: Vault refused otherwise, or is unreachable.
        """
        if transit_key not in self._known:
            self._known[transit_key] = self._find(self._vault, transit_key) if self._vault else None
        return self._known[transit_key]

    def _find(self, vault: VaultClient, transit_key: str) -> int | None:
        try:
            return int(vault.read_key(transit_key)["latest_version"])
        except TransitKeyNotFound:
            return None
        except PermissionDenied:
            pass
        for context in (None, b"kubevault"):
            try:
                (ciphertext,) = vault.encrypt(transit_key, [TransitItem(b"", context)])
                return key_version(ciphertext)
            except (PermissionDenied, TransitKeyNotFound):
                return None
            except VaultError as error:
                if context or "context" not in " ".join(error.errors):
                    raise
        return None


def inspect(
    secrets: Iterable[Mapping[str, Any]], newest: NewestVersions, transit_key: str | None = None
) -> Iterator[SecretInfo]:
    """Report what is sealed in Secrets.

    Args:
        secrets: as the Kubernetes API answers them.
        newest: finds out the newest version of a Transit key.
        transit_key: the Transit key of Secrets whose manifest does not name one.
    """
    for secret in secrets:
        yield _inspected(secret, newest, transit_key)


def _inspected(secret: Mapping[str, Any], newest: NewestVersions, fallback: str | None) -> SecretInfo:
    error = None
    try:
        manifest = manifest_of(secret)
    except SealedDataError as failure:
        manifest, error = None, failure.message
        data = {key: text for key, text in secret["data"].items() if key != MANIFEST_KEY}
        secret = {**secret, "data": data}
    name = manifest.transit_key if manifest else fallback
    latest = newest(name) if name else None
    data = secret.get("data") or {}
    values = []
    for key, value in sorted(sealed_values(secret).items()):
        managed = manifest is not None and key in manifest.digests
        known = manifest.checksums.get(key) if manifest else None
        damaged = managed and known is not None and known != checksum(value.ciphertext)
        behind = None if latest is None else value.version < latest
        values.append(ValueInfo(key, value.version, behind, managed, damaged))
    sealed = {value.key for value in values}
    digests = set(manifest.digests) if manifest else set()
    broken = sorted(key for key in digests & data.keys() if key not in sealed)
    values += [ValueInfo(key, 0, None, managed=True, damaged=True) for key in broken]
    states = [value.behind for value in values if value.behind is not None]
    return SecretInfo(
        secret["metadata"]["namespace"],
        secret["metadata"]["name"],
        manifest.transit_key if manifest else None,
        manifest.scope if manifest else None,
        latest,
        any(states) if states else None,
        tuple(values),
        tuple(sorted(data.keys() - sealed - digests - {MANIFEST_KEY})),
        tuple(sorted(digests - data.keys())),
        tuple(exposing_annotations(secret, sealed | digests)),
        error,
    )


def facts(info: SecretInfo) -> dict[str, Any]:
    """Return what is known of a Secret as a JSON object, its values under ``keys``."""
    keys = {
        value.key: {
            "version": value.version or None,
            "behind": value.behind,
            "managed": value.managed,
            "damaged": value.damaged,
        }
        for value in info.values
    }
    return {
        "namespace": info.namespace,
        "name": info.name,
        "transit_key": info.transit_key,
        "scope": info.scope.value if info.scope else None,
        "newest_version": info.newest_version,
        "behind": info.behind,
        "keys": keys,
        "plain_keys": list(info.plain_keys),
        "missing_keys": list(info.missing_keys),
        "exposing_annotations": list(info.exposing_annotations),
        "error": info.error,
    }
