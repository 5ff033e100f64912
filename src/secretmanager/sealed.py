"""The format of a sealed Secret, by pure functions.

A sealed Secret is a Kubernetes Secret whose values are ciphertext of Vault's Transit engine, each the bare
text ``vault:vN:...`` under its own data key. One more data key, ``MANIFEST_KEY``, holds a JSON manifest: what
is sealed, with which Transit key and in which scope, and a digest of each plaintext. The manifest is a
data key and no annotation because annotations are limited to 256 KiB in total, which many keys would exceed.
A Secret without a manifest may be one that an older tool sealed; its ciphertext counts as plain.

Sources: https://developer.hashicorp.com/vault/api-docs/secret/transit and
https://kubernetes.io/docs/concepts/configuration/secret/
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .errors import SealedDataError

MANIFEST_KEY = ".kubevault"
"""Data key of the manifest. The leading dot hides it where the Secret is mounted as files."""

SEALED_LABEL = "kubevault.io/sealed"
"""Label, of the value ``true``, by which sealed Secrets are listed."""

FORMAT = 1

_CIPHERTEXT = re.compile(r"vault:v([1-9][0-9]*):[A-Za-z0-9+/]+={0,2}")


class Scope(StrEnum):
    """Where a ciphertext decrypts; the words are those of Sealed Secrets."""

    STRICT = "strict"
    """Only under its own namespace, name and data key. Needs a Transit key with ``derived``."""
    CLUSTER_WIDE = "cluster-wide"
    """Anywhere."""


@dataclass(frozen=True)
class Place:
    """Where a value belongs. None of the parts can hold a ``/``, so its text is unambiguous."""

    namespace: str
    name: str
    key: str

    def __str__(self) -> str:
        """Give the place as errors name it."""
        return f"{self.namespace}/{self.name}[{self.key}]"

    def context(self, scope: Scope) -> bytes | None:
        """Give the context for Transit's key derivation; None for a plain key."""
        return self._path() if scope is Scope.STRICT else None

    def hmac_input(self, plaintext: bytes) -> bytes:
        """Give what the digest key signs: format, place and plaintext, set apart by NUL (in no place)."""
        return b"kubevault:%d\0%b\0%b" % (FORMAT, self._path(), plaintext)

    def _path(self) -> bytes:
        return f"{self.namespace}/{self.name}/{self.key}".encode("ascii")


@dataclass(frozen=True)
class Manifest:
    """What is sealed in one Secret.

    Attributes:
        transit_key: name of the Transit key that all its values are sealed with.
        scope: scope of all its values.
        digest_key: name of the Transit key that made the digests.
        digests: Transit HMAC (``vault:vN:...``) of each sealed data key.

    """

    transit_key: str
    scope: Scope
    digest_key: str
    digests: Mapping[str, str] = field(default_factory=dict)

    def dump(self) -> bytes:
        """Give the manifest as JSON: the same bytes for the same facts."""
        facts = {
            "format": FORMAT,
            "transit_key": self.transit_key,
            "scope": str(self.scope),
            "digest_key": self.digest_key,
            "digests": dict(self.digests),
        }
        return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def load(cls, text: bytes, place: str) -> Manifest:
        """Read a manifest.

        Args:
            text: its JSON.
            place: the Secret, ``namespace/name``, for errors.

        Raises:
            SealedDataError: it is none, or of a newer format.

        """
        try:
            facts = json.loads(text)
            found = facts["format"]
            if found != FORMAT:
                raise SealedDataError(
                    f"the manifest is of format {found!r}, this version reads {FORMAT}",
                    place=place,
                    remedy="upgrade the package kubevault",
                )
            digests = facts["digests"]
            if not all(isinstance(digest, str) for digest in digests.values()):
                raise TypeError("a digest is no text")  # noqa: TRY301 - one translation for all that is malformed
            return cls(str(facts["transit_key"]), Scope(facts["scope"]), str(facts["digest_key"]), digests)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SealedDataError(
                f"the manifest in data key {MANIFEST_KEY!r} is damaged",
                place=place,
                remedy="seal the Secret again with force",
            ) from error


@dataclass(frozen=True)
class SealedValue:
    """One sealed value as found; ``scope`` and ``transit_key`` are None where no manifest speaks of it."""

    ciphertext: str
    version: int
    scope: Scope | None
    transit_key: str | None


def key_version(ciphertext: str) -> int | None:
    """Give the version of the Transit key in ``vault:vN:...``; None where the text is no ciphertext."""
    match = _CIPHERTEXT.fullmatch(ciphertext)
    return int(match[1]) if match else None


def manifest_of(secret: Mapping[str, Any]) -> Manifest | None:
    """Give the manifest of a Secret as the Kubernetes API answers it; None where it has none.

    Raises:
        SealedDataError: the manifest is damaged.

    """
    encoded = (secret.get("data") or {}).get(MANIFEST_KEY)
    if encoded is None:
        return None
    place = "{namespace}/{name}".format_map(secret["metadata"])
    try:
        text = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise SealedDataError(f"data key {MANIFEST_KEY!r} is no base64", place=place) from error
    return Manifest.load(text, place)


def sealed_values(secret: Mapping[str, Any]) -> dict[str, SealedValue]:
    """Give the sealed values of a Secret as the Kubernetes API answers it, by data key. Others are left out.

    Raises:
        SealedDataError: the manifest is damaged.

    """
    manifest = manifest_of(secret)
    values = {}
    for key, encoded in (secret.get("data") or {}).items():
        try:
            ciphertext = base64.b64decode(encoded, validate=True).decode("ascii")
        except ValueError:
            continue  # not ASCII, so no ciphertext
        version = key_version(ciphertext)
        if version is None:
            continue
        ours = manifest if manifest and key in manifest.digests else None
        values[key] = SealedValue(ciphertext, version, ours.scope if ours else None, ours.transit_key if ours else None)
    return values
