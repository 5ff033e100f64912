"""Plan the rewrap of one Secret, by pure functions: which of its values are behind, and whether it may be written."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any

from ..errors import ConfigError
from ..sealed import Manifest, Place, Scope, SealedSecret, SealedValue, is_plaintext, place_of
from ..sealing import recreation
from ..servers.kubernetes import Object
from ..servers.vault import TransitItem

GITOPS_LABELS = ("kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name", "argocd.argoproj.io/instance")
"""Labels of objects that Flux or Argo CD owns: https://fluxcd.io/flux/components/kustomize/kustomizations/ and
https://argo-cd.readthedocs.io/en/stable/user-guide/resource_tracking/"""

GITOPS_ANNOTATIONS = ("argocd.argoproj.io/tracking-id",)
"""Annotations of such objects. Argo CD can also use the label ``app.kubernetes.io/instance``, which Helm sets, too."""


SHORTEST = 22
"""Characters of base64 that 16 bytes have at least."""

OVERHEAD = 2000
"""About how many bytes a value takes besides its text, while Vault is asked to rewrap it."""


class Skip(StrEnum):
    """Why a Secret that is behind is not rewrapped."""

    GITOPS = "Argo CD or Flux owns it: rewrap its file in Git, or use --gitops"
    IMMUTABLE = "it is immutable: use --recreate"
    DELETED = "it is being deleted"
    UNPLACED = "its file names no namespace, which its values may be bound to: add it"
    COPY = "it is a copy: its values were sealed for another Secret, and do not open here: seal them here"
    DAMAGED = "its manifest, or a value, is damaged: seal it again"
    LEFT = "a recreation that was broken off left its copy alone: use --recreate"
    REFUSED = "the key does not open it: it was sealed with another key, or its version is retired or lost"


@dataclass(frozen=True)
class Options:
    """What is rewrapped.

    Attributes:
        transit_key: name of the Transit key.
        unmanaged: also values that no manifest names, as an older tool seals them.
        gitops: also Secrets that Argo CD or Flux owns.
        recreate: also immutable Secrets, which are deleted and made again.
    """

    transit_key: str
    unmanaged: bool = False
    gitops: bool = False
    recreate: bool = False


@dataclass(frozen=True)
class Candidate:
    """A Secret with values of the Transit key, to rewrap.

    Attributes:
        secret: as the API returns it.
        behind: the values to rewrap, by data key.
        oldest: oldest version among its values of this key.
        skip: why it is not rewrapped; None if it is, or if nothing is behind.
        suspects: its values if its manifest cannot be read. If the key opens none of them, the Secret is not its own.
    """

    secret: Object
    behind: Mapping[str, TransitItem]
    oldest: int
    skip: Skip | None = None
    suspects: Sequence[Suspect] = ()

    @property
    def place(self) -> str:
        """``namespace/name``."""
        return place_of(self.secret)

    @property
    def size(self) -> int:
        """About how many bytes it takes, most of them for the data and annotations of its Secret."""
        parts = self.secret.get("data"), self.secret["metadata"].get("annotations")
        texts = sum(len(key) + len(str(text)) for part in parts for key, text in (part or {}).items())
        return texts + OVERHEAD * (len(self.behind) + len(self.suspects))


def make_candidate(secret: Object, newest: int, options: Options) -> Candidate | None:
    """Look at a Secret.

    Args:
        secret: as the API returns it.
        newest: newest version of the Transit key.
        options: what is rewrapped.

    Returns:
        What is to be done; None if it has no value of the key.
    """
    sealed = SealedSecret.of(secret)
    if sealed.error:
        suspects = list(_suspects(secret, None))
        return Candidate(secret, {}, 0, Skip.DAMAGED, suspects) if suspects else None
    ours = {key: value for key, value in sealed.values.items() if _is_ours(value, options)}
    lost = sealed.lost_keys if sealed.transit_key == options.transit_key else set()
    if not ours and not lost:
        return None
    behind = {key: value for key, value in ours.items() if value.version < newest}
    oldest = min((value.version for value in ours.values()), default=newest)
    if lost or any(value.damaged for value in ours.values()):
        return Candidate(secret, {}, oldest, Skip.DAMAGED)
    metadata = secret["metadata"]
    # Where a file names no namespace, it is not known whether it is a copy.
    if behind and metadata["namespace"] and sealed.copied_from:
        return Candidate(secret, {}, oldest, Skip.COPY)
    items = {key: _item(Place(metadata["namespace"], metadata["name"], key), value) for key, value in behind.items()}
    return Candidate(secret, items, oldest, _skip(secret, options) if behind else None)


def _is_ours(value: SealedValue, options: Options) -> bool:
    return options.unmanaged if value.transit_key is None else value.transit_key == options.transit_key


def _item(place: Place, value: SealedValue) -> TransitItem:
    context = place.context(value.scope) if value.scope else None
    return TransitItem(value.ciphertext.encode(), context, str(place))


@dataclass(frozen=True, eq=False, slots=True)
class Suspect:
    """A value that a Transit key may have sealed. A Secret may have tens of thousands, so it is small.

    Attributes:
        secret: its Secret, ``namespace/name``.
        key: its data key.
        version: version of the Transit key that the ciphertext names.
        text: the ciphertext.
        managed: whether the manifest says that the key sealed it.
        homes: namespace and name of the Secrets that it may have been sealed for.
    """

    secret: str
    key: str
    version: int
    text: bytes
    managed: bool
    homes: Sequence[tuple[str, str]]

    @property
    def is_too_short(self) -> bool:
        """Whether it has not even the 16 bytes, in base64, by which a key of any type knows its own."""
        return len(self.text.rpartition(b":")[2]) < SHORTEST

    def items(self, *, derived: bool) -> list[TransitItem]:
        """Return it in each context that it may have been sealed with, by a key that is derived or is not."""
        places = [Place(*home, self.key) for home in self.homes]
        contexts = {place.context(scope) for place in places for scope in (Scope.STRICT, Scope.NAMESPACE_WIDE)}
        label = f"{self.secret}[{self.key}]"
        return [
            TransitItem(self.text, context, label)
            for context in (sorted(filter(None, contexts)) if derived else [None])
        ]


@dataclass(frozen=True)
class OldSecret:
    """What of a Secret older versions of a Transit key may have sealed.

    Attributes:
        values: those values.
        names_key: whether its manifest names the key.
        fault: what is wrong with it, if something is.
    """

    values: Sequence[Suspect]
    names_key: bool
    fault: Skip | None

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return sum(OVERHEAD + len(value.text) for value in self.values)


def old_secret(secret: Object, newest: int, transit_key: str) -> OldSecret | None:
    """Look for what older versions of a Transit key may have sealed. What is damaged may still be opened, so it counts.

    Args:
        secret: as the API returns it.
        newest: newest version of the key.
        transit_key: its name.

    Returns:
        None if there is nothing, and nothing is wrong with a Secret whose manifest names the key.
    """
    if recreation.is_copy(secret):
        secret = recreation.original(secret)
    sealed = SealedSecret.of(secret)
    fault = Skip.DAMAGED if sealed.error else None
    names_key = sealed.transit_key == transit_key
    if names_key and (candidate := make_candidate(secret, newest, Options(transit_key, gitops=True, recreate=True))):
        fault = candidate.skip if candidate.skip in (Skip.DAMAGED, Skip.COPY) else None
    suspects = _suspects(secret, sealed.manifest)
    values = [value for value in suspects if value.version < newest and (names_key or not value.managed)]
    return OldSecret(values, names_key, fault) if values or (names_key and fault) else None


_CIPHERTEXT = re.compile(rb"vault:v(\d{1,9}):")
"""As Vault takes it: with version 0 for the first one, too."""


def _suspects(secret: Object, manifest: Manifest | None) -> Iterator[Suspect]:
    """Yield the values that may be ciphertext, also where white space got into it."""
    metadata, place = secret["metadata"], place_of(secret)
    homes = [(metadata["namespace"], metadata["name"])] if metadata["namespace"] else []
    if manifest and manifest.place:
        namespace, _, name = manifest.place.partition("/")
        homes.append((namespace, name))
    for key, encoded in (secret.get("data") or {}).items():
        if is_plaintext(encoded):
            continue
        try:
            text = b"".join(base64.b64decode(encoded).split())
        except binascii.Error:
            continue  # Kubernetes does not take it either
        if match := _CIPHERTEXT.match(text):
            managed = manifest is not None and key in manifest.digests
            yield Suspect(place, key, max(1, int(match[1])), text, managed, homes)


def _skip(secret: Object, options: Options) -> Skip | None:
    metadata = secret["metadata"]
    if metadata.get("deletionTimestamp"):
        return Skip.DELETED
    if not options.gitops and is_owned_by_gitops(secret):
        return Skip.GITOPS
    return Skip.IMMUTABLE if secret.get("immutable") and not options.recreate else None


def is_owned_by_gitops(secret: Object) -> bool:
    """Whether Argo CD or Flux would put a Secret back as it is in Git."""
    labels, annotations = (secret["metadata"].get(name) or {} for name in ("labels", "annotations"))
    return any(name in labels for name in GITOPS_LABELS) or any(name in annotations for name in GITOPS_ANNOTATIONS)


@dataclass(frozen=True)
class Shard:
    """One of several parts of all Secrets, each of which one process rewraps.

    Attributes:
        index: from 0.
        count: how many parts there are.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse ``I/N``, with I from 0 as in ``JOB_COMPLETION_INDEX``.

        Raises:
            ConfigError: it has another form.
        """
        index, slash, number = text.partition("/")
        if not (slash and index.isdecimal() and number.isdecimal() and int(index) < int(number)):
            raise ConfigError(f"shard: found {text!r}; allowed is I/N with I from 0 to N-1, such as 0/4")
        return cls(int(index), int(number))

    def __contains__(self, secret: Mapping[str, Any]) -> bool:
        """Whether a Secret is in this part."""
        if self.count == 1:
            return True
        return int.from_bytes(sha256(place_of(secret).encode()).digest()[:8], "big") % self.count == self.index
