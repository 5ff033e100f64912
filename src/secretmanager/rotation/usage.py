"""Which Secrets still use older versions of a Transit key, so that these cannot be retired yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

from ..errors import PermissionDenied, VaultError
from ..servers.kubernetes import PAGE, Object
from ..servers.vault import VaultClient
from .planning import Candidate, Options, make_candidate

T = TypeVar("T")


def behind(
    vault: VaultClient, secrets: Iterable[tuple[str, Object]], transit_key: str, newest: int
) -> Iterator[tuple[str, str]]:
    """Find the Secrets that are not at the newest version of a key.

    Values that no manifest names count if the key opens them: Vault is asked to rewrap them, and what it answers is
    thrown away. They count as well if the token may not rewrap.

    Args:
        vault: client whose token may, at best, rewrap with the key.
        secrets: all Secrets, of Kubernetes and of files, each with a name for it.
        transit_key: name of the key.
        newest: its newest version.

    Yields:
        The name of each that is behind, and why.
    """
    options = Options(transit_key, unmanaged=True, gitops=True, recreate=True)
    for page in pages(secrets, PAGE):
        candidates = {name: make_candidate(secret, newest, options) for name, secret in page}
        found = {name: candidate for name, candidate in candidates.items() if candidate}
        strange = foreign(vault, transit_key, found)
        for name, candidate in found.items():
            if name not in strange and (candidate.behind or candidate.skip):
                yield name, f"version {candidate.oldest}" if candidate.behind else str(candidate.skip)


def pages(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield items in lists of this size, the last of which may be shorter."""
    iterator = iter(items)
    while page := list(islice(iterator, size)):
        yield page


def foreign(vault: VaultClient, transit_key: str, found: Mapping[str, Candidate]) -> set[str]:
    """Return the names of the Secrets that are none of a key's, as far as that can be told; see `Candidate.probes`."""
    owned = [(name, item) for name, candidate in found.items() for item in candidate.probes]
    if not owned:
        return set()
    try:
        results = vault.rewrap_each(transit_key, [item for _, item in owned])
    except PermissionDenied:
        return set()
    opened = {name for (name, _), result in zip(owned, results, strict=True) if not isinstance(result, VaultError)}
    return {name for name, _ in owned} - opened
