"""Prove rewraps: that a ciphertext was made of the one that a sealer sealed, and not of another one.

A rewrapper cannot make a sealer's proof, since it may not use the digest key. It makes one of its own step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import PermissionDenied, TransitKeyNotFound
from ..sealed import Manifest, Place, manifest_of, rewrap_key, with_rewrap_proofs
from ..servers.kubernetes import Object


class Prover(Protocol):
    """Has Vault make and check HMACs, as `servers.vault.VaultClient` does."""

    def hmac(self, key: str, inputs: Sequence[bytes]) -> list[str]:
        """Return the HMAC of each input."""

    def are_hmacs(self, key: str, pairs: Sequence[tuple[bytes, str]]) -> list[bool]:
        """Return of each pair of an input and a text whether the text is the input's HMAC."""


@dataclass(frozen=True)
class Rewrapped:
    """A Secret that was rewrapped.

    Attributes:
        original: as it was.
        secret: as it will be, as `sealed.with_ciphertexts` returned it.
        keys: data keys that were rewrapped.
    """

    original: Object
    secret: Object
    keys: Collection[str]

    def before(self) -> Iterator[tuple[str, tuple[bytes, str]]]:
        """Yield data key, input and proof of the values that had been rewrapped before."""
        manifest = manifest_of(self.original)
        for place in self._places(manifest):
            if manifest and place.key in manifest.sealed_checksums:
                yield place.key, (manifest.rewrap_input(place), manifest.rewrap_proofs.get(place.key, ""))

    def after(self, unproven: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield data key and input of the values whose rewrap is to be proven."""
        manifest = manifest_of(self.secret)
        for place in self._places(manifest):
            if manifest and place.key not in unproven:
                yield place.key, manifest.rewrap_input(place)

    def _places(self, manifest: Manifest | None) -> Iterator[Place]:
        metadata = self.original["metadata"]
        for key in manifest.provable.intersection(self.keys) if manifest else ():
            yield Place(metadata["namespace"], metadata["name"], key)


def prove(vault: Prover, transit_key: str, rewrapped: Sequence[Rewrapped]) -> list[Object]:
    """Return Secrets with proofs of their rewraps, two requests for all.

    A value that is not what an earlier rewrap made gets none, so that the next sealing run seals it again; nor does any
    if the token may not make proofs, or their key does not exist.

    Args:
        vault: has Vault make the proofs; its token may ``transit/hmac/REWRAP_KEY``.
        transit_key: Transit key of the values.
        rewrapped: the Secrets.
    """
    name = rewrap_key(transit_key)
    try:
        before = [(index, key, pair) for index, each in enumerate(rewrapped) for key, pair in each.before()]
        holds = vault.are_hmacs(name, [pair for *_, pair in before]) if before else []
        unproven: list[set[str]] = [set() for _ in rewrapped]
        for (index, key, _), is_proven in zip(before, holds, strict=True):
            unproven[index] |= set() if is_proven else {key}
        after = [
            (index, key, text) for index, each in enumerate(rewrapped) for key, text in each.after(unproven[index])
        ]
        hmacs = vault.hmac(name, [text for *_, text in after]) if after else []
    except (PermissionDenied, TransitKeyNotFound):
        return [each.secret for each in rewrapped]
    proofs: list[dict[str, str]] = [{} for _ in rewrapped]
    for (index, key, _), hmac in zip(after, hmacs, strict=True):
        proofs[index][key] = hmac
    return [
        with_rewrap_proofs(each.secret, new_proofs) if new_proofs else each.secret
        for each, new_proofs in zip(rewrapped, proofs, strict=True)
    ]
