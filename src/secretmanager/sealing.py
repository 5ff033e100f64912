"""Sealing: values go through Vault's Transit engine into Kubernetes Secrets, and only where they changed.

Source: https://developer.hashicorp.com/vault/api-docs/secret/transit
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, ConflictError, SealedDataError, SecretNotFound, VaultError
from .sealed import MANIFEST_KEY, SEALED_LABEL, Manifest, Place, Scope, manifest_of
from .vault import TransitItem

if TYPE_CHECKING:
    from .kubernetes import KubernetesClient
    from .vault import VaultClient

WRITE_ATTEMPTS = 5
"""How often a Secret is read and written anew because another writer came between."""

_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")


@dataclass(frozen=True)
class Wanted:
    """One Secret as wanted; ``values`` maps data keys to plaintext and stays out of repr()."""

    namespace: str
    name: str
    values: Mapping[str, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        """Check the names, by RFC 1123 and Kubernetes' rule for data keys."""
        for label, text, pattern, allowed in (
            ("namespace", self.namespace, _NAMESPACE, "an RFC 1123 label"),
            ("name", self.name, _NAME, "an RFC 1123 subdomain"),
            *(("data key", key, _DATA_KEY, "letters, digits, '-', '_' and '.'") for key in self.values),
        ):
            if not pattern.fullmatch(text) or len(text) > 253:
                raise ConfigError(f"{label} {text!r} is not allowed; allowed is {allowed}")
        if MANIFEST_KEY in self.values:
            raise ConfigError(f"data key {MANIFEST_KEY!r} is the manifest's own; choose another")


@dataclass(frozen=True)
class Outcome:
    """What sealing did to one Secret, or in check mode would do. It names data keys and no value."""

    namespace: str
    name: str
    created: bool
    added: tuple[str, ...]
    updated: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether the Secret was, or would be, written."""
        return self.created or bool(self.added or self.updated)


def plaintext(value: object, where: str) -> bytes:
    """Give the bytes to seal: text as UTF-8, a dict or list as JSON, other scalars refused.

    Raises:
        ConfigError: the value is of another type, or holds what JSON cannot say. The error shows no value.

    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict | list):
        try:
            return json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except (ValueError, TypeError):
            # Not "from" the original, which could quote the value.
            raise ConfigError(f"{where} holds what JSON cannot say, such as NaN") from None
    raise ConfigError(f"{where} is of type {type(value).__name__}; allowed are text, dict and list")


class Sealer:
    """Seals Secrets with one Transit key.

    Args:
        vault: client whose token may ``transit/encrypt/KEY`` and ``transit/hmac/DIGEST_KEY``.
        kubernetes: client that may get, create and update the Secrets.
        transit_key: name of the Transit key.
        scope: where the ciphertext decrypts; strict needs a Transit key with ``derived``.
        digest_key: Transit key of the digests, never rotated; without it ``KEY-digest``.

    """

    def __init__(
        self,
        vault: VaultClient,
        kubernetes: KubernetesClient,
        transit_key: str,
        *,
        scope: Scope = Scope.STRICT,
        digest_key: str | None = None,
    ) -> None:
        """Keep the clients; nothing is sent yet."""
        self._vault = vault
        self._kubernetes = kubernetes
        self._transit_key = transit_key
        self._scope = scope
        self._digest_key = digest_key or f"{transit_key}-digest"
        self._probed = False

    def seal(self, wanted: Wanted, *, force: bool = False, check: bool = False) -> Outcome:
        """Seal the values that are new or changed into one Secret; its other data keys are left alone.

        Args:
            wanted: the Secret.
            force: take over data keys, or a Secret, that were not sealed here.
            check: write nothing, say what would be done.

        Raises:
            SealedDataError: a data key is there but not sealed here, and ``force`` is not given.
            ConfigError: the Transit key is not ``derived``, as the scope strict needs.
            ConflictError: others kept writing the Secret in between.
            VaultError, KubernetesError: a server refused or is out of reach.

        """
        keys = list(wanted.values)
        places = [Place(wanted.namespace, wanted.name, key) for key in keys]
        inputs = [place.hmac_input(wanted.values[place.key]) for place in places]
        digests = dict(zip(keys, self._vault.hmac(self._digest_key, inputs) if inputs else [], strict=True))
        sealed: dict[str, str] = {}
        for attempt in range(1, WRITE_ATTEMPTS + 1):
            found = self._find(wanted)
            manifest = self._manifest(found, wanted, force=force)
            present = (found or {}).get("data") or {}
            changed = [key for key in keys if key not in present or manifest.digests.get(key) != digests[key]]
            outcome = Outcome(
                wanted.namespace,
                wanted.name,
                found is None,
                tuple(key for key in changed if key not in present),
                tuple(key for key in changed if key in present),
            )
            if check or not outcome.changed:
                return outcome
            missing = [place for place in places if place.key in changed and place.key not in sealed]
            sealed |= self._encrypt(missing, wanted.values)
            body = self._body(
                found,
                wanted,
                manifest,
                {key: digests[key] for key in changed},
                {key: sealed[key] for key in changed},
            )
            try:
                if found is None:
                    self._kubernetes.create_secret(wanted.namespace, body)
                else:
                    self._kubernetes.update_secret(wanted.namespace, body)
            except ConflictError:
                if attempt == WRITE_ATTEMPTS:
                    raise
            else:
                return outcome
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _find(self, wanted: Wanted) -> dict[str, Any] | None:
        try:
            return self._kubernetes.get_secret(wanted.namespace, wanted.name)
        except SecretNotFound:
            return None

    def _manifest(self, found: dict[str, Any] | None, wanted: Wanted, *, force: bool) -> Manifest:
        """Give the manifest to start from; an empty one where all has to be sealed anew."""
        fresh = Manifest(self._transit_key, self._scope, self._digest_key)
        if found is None:
            return fresh
        place = f"{wanted.namespace}/{wanted.name}"
        try:
            manifest = manifest_of(found)
        except SealedDataError:
            if not force:
                raise
            manifest = None  # damaged; force seals anew
        ours: Mapping[str, str] = manifest.digests if manifest else {}
        foreign = sorted(key for key in wanted.values if key in (found.get("data") or {}) and key not in ours)
        if not force and (manifest is None or foreign):
            what = f"data keys {', '.join(foreign)} were" if foreign else "the Secret was"
            raise SealedDataError(f"{what} not sealed by this tool", place=place, remedy="set force to take over")
        if manifest is None or fresh == Manifest(manifest.transit_key, manifest.scope, manifest.digest_key):
            return manifest or fresh
        kept = sorted(set(ours) - set(wanted.values))
        if kept:
            raise SealedDataError(
                f"data keys {', '.join(kept)} are sealed with key {manifest.transit_key}, scope {manifest.scope}",
                place=place,
                remedy="give their values too, to seal all anew, or keep key and scope",
            )
        return fresh

    def _encrypt(self, places: Sequence[Place], values: Mapping[str, bytes]) -> dict[str, str]:
        if not places:
            return {}
        if self._scope is Scope.STRICT and not self._probed:
            self._require_derived()
        items = [TransitItem(values[place.key], place.context(self._scope)) for place in places]
        ciphertexts = self._vault.encrypt(self._transit_key, items)
        return dict(zip((place.key for place in places), ciphertexts, strict=True))

    def _require_derived(self) -> None:
        # Vault ignores the context of a key that is not derived, and the sealer's policy does not let it read
        # the key. Only a derived key refuses an item without context.
        try:
            self._vault.encrypt(self._transit_key, [TransitItem(b"", None)])
        except VaultError as error:
            if "context" not in str(error):
                raise
            self._probed = True
            return
        raise ConfigError(
            f"scope strict needs a derived Transit key, and {self._transit_key} is not; "
            "use scope cluster-wide or another key"
        )

    def _body(
        self,
        found: dict[str, Any] | None,
        wanted: Wanted,
        manifest: Manifest,
        digests: Mapping[str, str],
        sealed: Mapping[str, str],
    ) -> dict[str, Any]:
        body: dict[str, Any] = dict(found or {"apiVersion": "v1", "kind": "Secret", "type": "Opaque"})
        metadata = dict(body.get("metadata") or {"namespace": wanted.namespace, "name": wanted.name})
        metadata["labels"] = {**(metadata.get("labels") or {}), SEALED_LABEL: "true"}
        merged = Manifest(manifest.transit_key, manifest.scope, manifest.digest_key, {**manifest.digests, **digests})
        data = {**(body.get("data") or {}), **{key: _b64(text.encode()) for key, text in sealed.items()}}
        data[MANIFEST_KEY] = _b64(merged.dump())
        return {**body, "metadata": metadata, "data": data}


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
