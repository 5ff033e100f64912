"""Which Secrets still use older versions of a Transit key, so that these cannot be retired yet.

What counts is what the key opens, and not what a Secret says: anybody who may write Secrets can name a key, and a
version of it. Vault is asked to rewrap each older value, and what it answers is thrown away.

- What it opens, at the place where it is or at that for which its manifest says that it was sealed, needs the version.
- What it refuses as not authentic needs no version, since no version opens it. If the key is derived, that is said of
  the contexts of these places: somewhere else, a copy might be opened. Nobody reads it there, and nothing tells it from
  what was never sealed.
- Where Vault does not say whether it opens a value, the version counts as needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol, TypeVar

from ..errors import DecryptionFailed, PermissionDenied, VaultError, unexpected
from ..servers.kubernetes import PAGE, PAGE_BYTES, Object
from ..servers.vault import VaultClient
from .keys import KeyVersions
from .planning import Candidate, OldSecret, Skip, Suspect, old_secret

ASKED = 500
"""Values that Vault is asked about at once, each in up to 4 contexts."""

MOST_ASKED = 1000
"""Values of a Secret with a damaged manifest about which Vault is asked to tell whose it is."""


class Sized(Protocol):
    """What has a size, in bytes."""

    @property
    def size(self) -> int:
        """Bytes."""


Item = TypeVar("Item", bound=Sized)


@dataclass(frozen=True)
class Usage:
    """What uses older versions of a Transit key; Secrets of Kubernetes and of files, each by a name for it.

    Attributes:
        needed: those that need an older version, or may need it, and why.
        unopened: those whose manifest names the key, and for which no older version does anything, and why.
    """

    needed: dict[str, str] = field(default_factory=dict)
    unopened: dict[str, str] = field(default_factory=dict)


def find_usage(
    vault: VaultClient, secrets: Iterable[tuple[str, Object]], versions: KeyVersions, *, trim: bool
) -> Usage:
    """Find what uses older versions of a key.

    Of what the token may not rewrap, everything counts as needed.

    Args:
        vault: client whose token may, at best, rewrap with the key.
        secrets: all Secrets, of Kubernetes and of files, each with a name for it.
        versions: the key's versions.
        trim: whether older versions shall be deleted for ever. Then also those are needed that are retired already and
            that the manifest of a value names: lowered again, they may open it.

    Raises:
        VaultError: Vault is not available, or refuses otherwise than for one of the values.
    """
    usage = Usage()
    for page in pages(_old_secrets(secrets, versions, usage)):
        needed = _needed(vault, [value for _, old in page for value in old.values], versions, trim=trim)
        for name, old in page:
            if needed_values := [value for value in old.values if value in needed]:
                oldest = min(needed_values, key=lambda value: value.version)
                is_open = oldest.version >= versions.min_decryption
                usage.needed[name] = str((old.fault if is_open else None) or needed[oldest])
            elif old.names_key:
                usage.unopened[name] = str(old.fault or Skip.REFUSED)
    return usage


def pages(items: Iterable[tuple[str, Item]]) -> Iterator[list[tuple[str, Item]]]:
    """Yield items with their names in lists, each of as many, and with as many bytes, as a page of Secrets."""
    page: list[tuple[str, Item]] = []
    size = 0
    for name, item in items:
        if page and (len(page) == PAGE or size + item.size > PAGE_BYTES):
            yield page
            page, size = [], 0
        page.append((name, item))
        size += item.size
    if page:
        yield page


def foreign(vault: VaultClient, transit_key: str, candidates: Mapping[str, Candidate]) -> set[str]:
    """Return the names of the Secrets that are not of a key, as far as that can be told; see `Candidate.suspects`.

    Of a Secret with very many values it is not told, since somebody may have written them for the time that this takes.
    """
    values_by_name = {
        name: [value for value in candidate.suspects if not value.is_too_short]
        for name, candidate in candidates.items()
        if candidate.suspects
    }
    names = {value: name for name, values in values_by_name.items() if len(values) <= MOST_ASKED for value in values}
    refused = {name for name, values in values_by_name.items() if len(values) <= MOST_ASKED}
    try:
        for derived in (False, True):
            for value, results in _asked(vault, transit_key, list(names), derived=derived):
                if not all(isinstance(result, DecryptionFailed) for result in results):
                    refused.discard(names[value])
    except PermissionDenied:
        return set()
    return refused


def _asked(
    vault: VaultClient, transit_key: str, values: Sequence[Suspect], *, derived: bool
) -> Iterator[tuple[Suspect, Sequence[str | VaultError]]]:
    """Have a key rewrap values; yield each with what Vault answers in each of its contexts."""
    for start in range(0, len(values), ASKED):
        batch = [(value, value.items(derived=derived)) for value in values[start : start + ASKED]]
        results = iter(vault.rewrap_each(transit_key, [item for _, items in batch for item in items]))
        for value, items in batch:
            yield value, list(islice(results, len(items)))


def _old_secrets(
    secrets: Iterable[tuple[str, Object]], versions: KeyVersions, usage: Usage
) -> Iterator[tuple[str, OldSecret]]:
    for name, secret in secrets:
        try:
            old = old_secret(secret, versions.newest, versions.name)
        except Exception as error:  # noqa: BLE001 - what one tenant wrote ends the run for no other
            usage.needed[name] = unexpected(error)
            continue
        if old:
            yield name, old


def _needed(vault: VaultClient, values: Sequence[Suspect], versions: KeyVersions, *, trim: bool) -> dict[Suspect, str]:
    """Return the values that need an older version, or may need it, and why."""
    decryptable = [value for value in values if value.version >= versions.min_decryption and not value.is_too_short]
    try:
        answers = _asked(vault, versions.name, decryptable, derived=versions.derived)
        needed = [value for value, results in answers if _may_open(value, results)]
    except PermissionDenied:
        needed = decryptable
    # Of a version that is retired, Vault does not say what it opens.
    retired_versions = range(versions.min_available, versions.min_decryption)
    retired = [value for value in values if trim and value.managed and value.version in retired_versions]
    return {
        **{value: f"version {value.version}" for value in needed},
        **{value: f"version {value.version}, which is retired and would be deleted" for value in retired},
    }


_NOT_AUTHENTIC = (
    "message authentication failed",
    "invalid ciphertext length",
    "invalid ciphertext: could not decode base64",
    "crypto/rsa: decryption error",
)
"""What Vault says of a text that no key has sealed, or another key or context than the one that it has tried. All else
that it says is not about that.

Source: ``DecryptWithOptions`` in ``sdk/helper/keysutil/policy.go``, and AES-GCM, ChaCha20-Poly1305 and RSA-OAEP of Go.
"""


def _may_open(value: Suspect, results: Sequence[str | VaultError]) -> bool:
    """Whether a key opens a value in one of its contexts, or Vault does not say that it does not."""
    messages = [" ".join(result.errors) if isinstance(result, VaultError) else "" for result in results]
    if not messages:  # of a derived key, and without a place: no context is known in which to ask
        return value.managed
    return not all(any(words in text for words in _NOT_AUTHENTIC) for text in messages)
