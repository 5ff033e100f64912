"""The format of a sealed Secret, as pure functions.

A sealed Secret is a Kubernetes Secret whose values are ciphertext of Vault's Transit engine, each the bare
text ``vault:vN:...`` under its own data key. Another data key, ``MANIFEST_KEY``, holds a JSON manifest: the Transit
key, the scope, and for each value a digest of the plaintext, a checksum of the ciphertext, and a proof that all of
these belong together. It is a data key, not an annotation, because annotations are limited to 256 KiB in total, which
a Secret with many keys would exceed.
A Secret without a manifest may have been sealed by an older tool; its ciphertext counts as plain.

Sources: https://developer.hashicorp.com/vault/api-docs/secret/transit and
https://kubernetes.io/docs/concepts/configuration/secret/
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from .errors import SealedDataError
from .names import DATA_KEY, NAMESPACE, SUBDOMAIN, VAULT_NAME

MANIFEST_KEY = ".kubevault"
"""Data key of the manifest. The leading dot hides it if the Secret is mounted as files."""

SEALED_LABEL = "kubevault.io/sealed"
"""Label with the value ``true`` on each sealed Secret, to list them by."""

DIGEST_SUFFIX = "-digest"
"""Suffix of the name of a Transit key's digest key, unless the user names another one."""

SECRETS_ANNOTATION = "kubevault.io/secrets"
"""Annotation of a workload, such as a Deployment, that names the Secrets it reads, separated by commas."""

STAMP_ANNOTATION = "kubevault.io/digest"
"""Annotation of a workload's pod template: by Secret, the `values_digest` that its pods were started for."""

FORMAT = 2
"""Of a manifest whose values are bound together by proofs. One without any has format 1, as older versions wrote it."""

_FORMATS = (1, FORMAT)

MOST_BYTES = 1024 * 1024
"""Bytes that all values of a Secret have at most, of which the manifest is one.

Source: ``MaxSecretSize`` in https://pkg.go.dev/k8s.io/api/core/v1
"""

_VERSIONS = range(1, 10**9)

_BEGINNING = "dmF1bHQ6d"
"""How a ciphertext begins in base64."""

_VERSION_END = 24
"""Characters of base64 that hold the version of a ciphertext."""

# Base64 in its canonical form only: Vault's decoder ignores the unused bits of the last character.
_CIPHERTEXT = re.compile(
    r"vault:v([1-9][0-9]{0,8}):(?=.)(?:[A-Za-z0-9+/]{4})*"
    r"(?:[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=|[A-Za-z0-9+/][AQgw]==)?"
)

_VERSION = re.compile(rb"vault:v([1-9][0-9]{0,8}):")


class Scope(StrEnum):
    """Where a ciphertext can be decrypted; the terms are those of Sealed Secrets."""

    STRICT = "strict"
    """Only under its own namespace, name and data key. Needs a Transit key with ``derived``."""
    NAMESPACE_WIDE = "namespace-wide"
    """Only in its own namespace. Needs a Transit key with ``derived``."""
    CLUSTER_WIDE = "cluster-wide"
    """Anywhere. Needs a Transit key without ``derived``."""


@dataclass(frozen=True)
class Place:
    """Where a value belongs. No part can contain a ``/``, so its text is unambiguous."""

    namespace: str
    name: str
    key: str

    def __str__(self) -> str:
        """Return the place as errors name it."""
        return f"{self.namespace}/{self.name}[{self.key}]"

    def context(self, scope: Scope) -> bytes | None:
        """Return the context for Transit's key derivation; None for a plain key."""
        match scope:
            case Scope.STRICT:
                return self._path()
            case Scope.NAMESPACE_WIDE:
                return self.namespace.encode("ascii")  # it contains no slash, so it differs from every path of `STRICT`
            case Scope.CLUSTER_WIDE:
                return None

    def hmac_input(self, plaintext: bytes) -> bytes:
        """Return the input of a digest: purpose, place and the plaintext's SHA-256, separated by NUL (in no place).

        The hash instead of the plaintext keeps requests short, and the plaintext local if nothing changed.
        """
        return b"kubevault:1\0%b\0%b" % (self._path(), hashlib.sha256(plaintext).digest())

    def proof_input(self, purpose: str, *parts: str) -> bytes:
        """Return the input of a proof: a purpose, the place and what belongs to it, separated by NUL (in none)."""
        return b"\0".join([purpose.encode(), self._path(), *(part.encode() for part in parts)])

    def _path(self) -> bytes:
        return f"{self.namespace}/{self.name}/{self.key}".encode("ascii")


@dataclass(frozen=True)
class Manifest:
    """The manifest of one Secret: how its values are sealed.

    Attributes:
        transit_key: name of the Transit key that all its values are sealed with.
        scope: scope of all its values.
        digest_key: name of the Transit key that made the digests.
        digests: Transit HMAC (``vault:vN:...``) of each sealed data key.
        checksums: `checksum` of the ciphertext of each, by which a sealer without permission to decrypt detects damage.
        oldest_versions: of a value that was encrypted again unchanged, as by a rewrap, the oldest version of the
            Transit key that sealed it: whoever knows that version may know the value.
        place: ``namespace/name`` of the Secret that they were sealed in; empty if an older version of kubevault did it.
        proofs: by data key, the Transit HMAC of `proof_input` by the digest key, which only sealers can make: that this
            ciphertext was sealed here, of the value of this digest, with this key and in this scope.
        sealed_checksums: of a value that was rewrapped since, `checksum` of the ciphertext that its proof is about.
        rewrap_proofs: of such a value, the Transit HMAC of `rewrap_input` by the key's `rewrap_key`: that its
            ciphertext was made of that one. Whoever may rewrap can make it.
    """

    transit_key: str
    scope: Scope
    digest_key: str
    digests: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    oldest_versions: Mapping[str, int] = field(default_factory=dict)
    place: str = ""
    proofs: Mapping[str, str] = field(default_factory=dict)
    sealed_checksums: Mapping[str, str] = field(default_factory=dict)
    rewrap_proofs: Mapping[str, str] = field(default_factory=dict)

    def is_intact(self, key: str, text: str) -> bool | None:
        """Whether a value is the ciphertext that was sealed; None if no checksum of it is known.

        Args:
            key: its data key.
            text: the value, as `text_of` returns it.
        """
        expected = self.checksums.get(key)
        return None if expected is None else expected == checksum(text)

    @property
    def provable(self) -> set[str]:
        """Data keys that have a proof, and all that it is about."""
        return self.proofs.keys() & self.digests.keys() & self.checksums.keys()

    def proof_input(self, place: Place) -> bytes:
        """Return what the proof of one of the `provable` values is the HMAC of."""
        sealed = self.sealed_checksums.get(place.key) or self.checksums[place.key]
        facts = (self.scope, self.transit_key, self.digest_key, self.digests[place.key], sealed)
        return place.proof_input("kubevault:2:sealed", *facts)

    def rewrap_input(self, place: Place) -> bytes:
        """Return what the proof of a rewrap is the HMAC of, of a `provable` value that is in ``sealed_checksums``."""
        checksums = (self.sealed_checksums[place.key], self.checksums[place.key])
        return place.proof_input("kubevault:2:rewrapped", self.transit_key, *checksums)

    def is_of(self, place: str) -> bool:
        """Whether its values open in a Secret, ``namespace/name``, as far as that is known: not in most copies."""
        match self.scope if self.place else Scope.CLUSTER_WIDE:
            case Scope.STRICT:
                return place == self.place
            case Scope.NAMESPACE_WIDE:
                return place.partition("/")[0] == self.place.partition("/")[0]
            case Scope.CLUSTER_WIDE:
                return True

    @classmethod
    def _of(cls, facts: Mapping[str, Any]) -> Manifest:
        """Return the manifest of an object of JSON; of another form, it raises an error of Python's own."""
        manifest = cls(
            facts["transit_key"],
            Scope(facts["scope"]),
            facts["digest_key"],
            facts["digests"],
            facts.get("checksums", {}),
            facts.get("oldest_versions", {}),
            facts.get("place", ""),
            *(facts.get(name, {}) for name in _PROOFS),
        )
        if facts["format"] not in _FORMATS or not manifest._is_sound:
            raise ValueError
        return manifest

    @property
    def _is_sound(self) -> bool:
        """Whether all is of the form that it has here: names become parts of paths and requests, and are printed."""
        namespace, slash, name = self.place.partition("/")
        texts = (self.digests, self.checksums, self.proofs, self.sealed_checksums, self.rewrap_proofs)
        return (
            VAULT_NAME.allows(self.transit_key)
            and VAULT_NAME.allows(self.digest_key)
            and all(DATA_KEY.allows(key) for entries in (*texts, self.oldest_versions) for key in entries)
            and all(
                isinstance(text, str) and text.isascii() and "\0" not in text
                for entries in texts
                for text in entries.values()
            )
            and all(type(version) is int and version in _VERSIONS for version in self.oldest_versions.values())
            and (not self.place or (NAMESPACE.allows(namespace) and bool(slash) and SUBDOMAIN.allows(name)))
        )

    @property
    def _format(self) -> int:
        return FORMAT if self.proofs else 1

    def dump(self) -> bytes:
        """Return the manifest as JSON: the same bytes for the same content."""
        facts = {
            "format": self._format,
            "transit_key": self.transit_key,
            "scope": str(self.scope),
            "digest_key": self.digest_key,
            "digests": dict(self.digests),
            "checksums": dict(self.checksums),
            **({"oldest_versions": dict(self.oldest_versions)} if self.oldest_versions else {}),
            **({"place": self.place} if self.place else {}),
            **{name: dict(entries) for name in _PROOFS if (entries := getattr(self, name))},
        }
        return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def load(cls, text: bytes, place: str) -> Manifest:
        """Read a manifest.

        Args:
            text: its JSON.
            place: the Secret, ``namespace/name``, for errors.

        Raises:
            SealedDataError: it is not a manifest, or has a newer format.

        """
        try:
            facts = json.loads(text[: MOST_BYTES + 1])  # what is longer is cut, and so no JSON
            number = facts["format"]
            if number not in _FORMATS and type(number) is int and number in _VERSIONS:
                raise SealedDataError(
                    f"the manifest has format {number}; this version reads {' and '.join(map(str, _FORMATS))}",
                    place=place,
                    remedy="upgrade the package kubevault",
                )
            return cls._of(facts)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SealedDataError(
                f"the manifest in data key {MANIFEST_KEY!r} is damaged",
                place=place,
                remedy="seal the Secret again with force",
            ) from error


_PROOFS = ("proofs", "sealed_checksums", "rewrap_proofs")


def rewrap_key(transit_key: str) -> str:
    """Return the name of the Transit key that makes the proofs of a key's rewraps."""
    return f"{transit_key}-rewrap"


@dataclass(frozen=True)
class SealedValue:
    """One sealed value of a Secret.

    Attributes:
        ciphertext: ``vault:vN:...``.
        version: version of the Transit key that sealed it.
        scope: where it decrypts; None if no manifest names it, as of an older tool.
        transit_key: the Transit key; None if no manifest names it.
        damaged: whether the ciphertext is not the one that was sealed, by its manifest.
        oldest_version: oldest version that sealed the same value, before it was rewrapped; None if that is not known.
    """

    ciphertext: str
    version: int
    scope: Scope | None
    transit_key: str | None
    damaged: bool = False
    oldest_version: int | None = None

    @property
    def managed(self) -> bool:
        """Whether it was sealed here, so that a manifest names it."""
        return self.transit_key is not None


@dataclass(frozen=True)
class SealedSecret:
    """What is sealed in a Secret, as far as the Secret itself says it. A damaged manifest counts as none.

    Attributes:
        place: ``namespace/name`` of the Secret.
        data: its data, in base64, without the manifest.
        manifest: its manifest; None if it has none.
        error: what is wrong with its manifest; None if nothing is.
    """

    place: str
    data: Mapping[str, str] = field(repr=False)
    manifest: Manifest | None
    error: str | None = None

    @classmethod
    def of(cls, secret: Mapping[str, Any]) -> SealedSecret:
        """Look at a Secret as the Kubernetes API returns it."""
        error = None
        try:
            manifest = manifest_of(secret)
        except SealedDataError as failure:
            manifest, error = None, failure.message
        data = {key: encoded for key, encoded in (secret.get("data") or {}).items() if key != MANIFEST_KEY}
        return cls(place_of(secret), data, manifest, error)

    @property
    def transit_key(self) -> str | None:
        """The Transit key that the manifest names; None without one."""
        return self.manifest.transit_key if self.manifest else None

    @property
    def managed_keys(self) -> set[str]:
        """Data keys that were sealed here, also those that are gone."""
        return set(self.manifest.digests) if self.manifest else set()

    @cached_property
    def values(self) -> Mapping[str, SealedValue]:
        """The values that are ciphertext, by data key."""
        return dict(_sealed_values(self.data, self.manifest))

    @property
    def lost_keys(self) -> set[str]:
        """Data keys that were sealed here and hold no ciphertext any more."""
        return self.managed_keys - self.values.keys()

    @property
    def missing_keys(self) -> set[str]:
        """Those of them that are gone."""
        return self.lost_keys - self.data.keys()

    @property
    def broken_keys(self) -> set[str]:
        """Those of them whose value is neither ciphertext nor plaintext."""
        return {key for key in self.lost_keys & self.data.keys() if not is_plaintext(self.data[key])}

    @property
    def plain_keys(self) -> set[str]:
        """Data keys whose value is not sealed, whatever the manifest says."""
        return self.data.keys() - self.values.keys() - self.broken_keys

    @property
    def copied_from(self) -> str | None:
        """The Secret, ``namespace/name``, that its values were sealed for, if they do not open here; else None."""
        return self.manifest.place if self.manifest and not self.manifest.is_of(self.place) else None


def checksum(text: str) -> str:
    """Return a checksum of a text, such as a ciphertext: half of its SHA-256, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def key_version(ciphertext: str) -> int | None:
    """Return the version of the Transit key in ``vault:vN:...``, a ciphertext or an HMAC; None if it is other text."""
    match = _CIPHERTEXT.fullmatch(ciphertext)
    return int(match[1]) if match else None


def text_of(encoded: str) -> str:
    """Return a value of ``data`` as a text, byte for byte (ISO 8859-1): a ciphertext is one, whatever else it may hold.

    Raises:
        ValueError: it is not base64.
    """
    return base64.b64decode(encoded).decode("latin-1")


def is_plaintext(encoded: str) -> bool:
    """Whether a value of ``data`` is plaintext: a ciphertext, whole or damaged, begins with ``vault:v``.

    It is not decoded for that, since it may be a megabyte.
    """
    return not encoded.lstrip().startswith(_BEGINNING)


def place_of(secret: Mapping[str, Any]) -> str:
    """Return ``namespace/name``."""
    return "{namespace}/{name}".format_map(secret["metadata"])


def manifest_of(secret: Mapping[str, Any]) -> Manifest | None:
    """Return the manifest of a Secret as the Kubernetes API returns it; None if it has none.

    Raises:
        SealedDataError: the manifest is damaged.

    """
    encoded = (secret.get("data") or {}).get(MANIFEST_KEY)
    if encoded is None:
        return None
    place = place_of(secret)
    try:
        text = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise SealedDataError(f"data key {MANIFEST_KEY!r} is not base64", place=place) from error
    return Manifest.load(text, place)


def values_digest(secret: Mapping[str, Any] | None) -> str | None:
    """Return a hash of what a Secret's sealed values are, in hex; None if nothing is sealed in it, or it is None.

    It differs exactly if a value does, or a data key was added or removed. Neither a rewrap nor sealing the same values
    again changes it, nor does a rotation of the digest key. It is half of the SHA-256 of the digests in the manifest.

    Args:
        secret: as the Kubernetes API returns it.

    Raises:
        SealedDataError: the manifest is damaged.
    """
    manifest = manifest_of(secret) if secret else None
    if secret is None or manifest is None:
        return None
    digests = {key: text for key, text in manifest.digests.items() if key in secret["data"]}
    return checksum(json.dumps(digests, sort_keys=True, separators=(",", ":")))


def sealed_values(secret: Mapping[str, Any]) -> dict[str, SealedValue]:
    """Return the sealed values of a Secret as the Kubernetes API returns it, by data key. Other values are left out.

    Raises:
        SealedDataError: the manifest is damaged.

    """
    return dict(_sealed_values(secret.get("data") or {}, manifest_of(secret)))


def _sealed_values(data: Mapping[str, str], manifest: Manifest | None) -> Iterator[tuple[str, SealedValue]]:
    for key, encoded in data.items():
        if is_plaintext(encoded):
            continue
        try:
            ciphertext = base64.b64decode(encoded, validate=True).decode("ascii")
        except ValueError:
            continue  # not ASCII, so not a ciphertext
        if (version := key_version(ciphertext)) is None:
            continue
        if manifest is None or key not in manifest.digests:
            yield key, SealedValue(ciphertext, version, None, None)
            continue
        damaged = manifest.is_intact(key, ciphertext) is False
        oldest = None if damaged else oldest_version(manifest, key, encoded)
        yield key, SealedValue(ciphertext, version, manifest.scope, manifest.transit_key, damaged, oldest)


def with_ciphertexts(secret: Mapping[str, Any], ciphertexts: Mapping[str, str]) -> dict[str, Any]:
    """Return a Secret with new ciphertexts of the same plaintexts, for example after a rewrap; the manifest is updated.

    What was sealed stays proven only with `with_rewrap_proofs`; else the next sealing run seals it again.

    Args:
        secret: as the Kubernetes API returns it.
        ciphertexts: by data key; missing keys are added.

    Raises:
        SealedDataError: the manifest is damaged.
    """
    data = {**(secret.get("data") or {}), **{key: encode(text.encode()) for key, text in ciphertexts.items()}}
    manifest = manifest_of(secret)
    if manifest:
        ours = {key: text for key, text in ciphertexts.items() if key in manifest.digests}
        checksums = {**manifest.checksums, **{key: checksum(text) for key, text in ours.items()}}
        sealed = {key: manifest.checksums[key] for key in ours if key in manifest.provable}
        sealed |= manifest.sealed_checksums
        manifest = replace(
            manifest,
            checksums=checksums,
            oldest_versions={**manifest.oldest_versions, **dict(_oldest_versions(secret, manifest, ours))},
            sealed_checksums=sealed,
            rewrap_proofs={key: proof for key, proof in manifest.rewrap_proofs.items() if key not in ours},
        )
        data[MANIFEST_KEY] = encode(manifest.dump())
    return {**secret, "data": data}


def with_rewrap_proofs(secret: Mapping[str, Any], proofs: Mapping[str, str]) -> dict[str, Any]:
    """Return a Secret with proofs of values that `with_ciphertexts` put there.

    Args:
        secret: as `with_ciphertexts` returned it; it has a manifest.
        proofs: Transit HMAC of `Manifest.rewrap_input`, by data key.
    """
    manifest = manifest_of(secret)
    assert manifest  # noqa: S101 - for the type checker
    manifest = replace(manifest, rewrap_proofs={**manifest.rewrap_proofs, **proofs})
    return {**secret, "data": {**secret["data"], MANIFEST_KEY: encode(manifest.dump())}}


def oldest_version(manifest: Manifest, key: str, encoded: str) -> int | None:
    """Return the oldest version of the Transit key that sealed a value, as far as its manifest knows.

    Args:
        manifest: the manifest of its Secret.
        key: its data key.
        encoded: its ciphertext, as the Kubernetes API returns it in ``data``.
    """
    versions = [manifest.oldest_versions.get(key), encoded_version(encoded)]
    return min((version for version in versions if version), default=None)


def encoded_version(encoded: str) -> int | None:
    """Return the version of the Transit key of a ciphertext in ``data``, of which only the beginning is looked at."""
    try:
        match = _VERSION.match(base64.b64decode("".join(encoded[: 2 * _VERSION_END].split())[:_VERSION_END]))
    except binascii.Error:
        return None  # cut short, so no ciphertext
    return int(match[1]) if match else None


def _oldest_versions(
    secret: Mapping[str, Any], manifest: Manifest, ciphertexts: Mapping[str, str]
) -> Iterator[tuple[str, int]]:
    """Yield data key and oldest version of values that are now sealed with a newer one."""
    for key, text in ciphertexts.items():
        before = oldest_version(manifest, key, secret["data"].get(key, ""))
        if before and before != key_version(text):
            yield key, before


def encode(raw: bytes) -> str:
    """Return bytes as base64, which the Kubernetes API expects in ``data``."""
    return base64.b64encode(raw).decode("ascii")
