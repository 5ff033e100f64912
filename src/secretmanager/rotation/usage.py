"""Which Secrets still use older versions of a Transit key, so that these cannot be retired yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ..errors import PermissionDenied, VaultError
from ..servers.kubernetes import PAGE, PAGE_BYTES, Object
from ..servers.vault import VaultClient
from .planning import Candidate, Options, make_candidate


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
    candidates = ((name, make_candidate(secret, newest, options)) for name, secret in secrets)
    for page in pages((name, each) for name, each in candidates if each and (each.behind or each.skip)):
        strange = foreign(vault, transit_key, dict(page))
        for name, candidate in page:
            if name not in strange:
                yield name, f"version {candidate.oldest}" if candidate.behind else str(candidate.skip)


def pages(candidates: Iterable[tuple[str, Candidate]]) -> Iterator[list[tuple[str, Candidate]]]:
    """Yield Secrets with their names in lists, each of as many, and with as many bytes, as a page of a list."""
    page: list[tuple[str, Candidate]] = []
    size = 0
    for name, candidate in candidates:
        if page and (len(page) == PAGE or size + candidate.size > PAGE_BYTES):
            yield page
            page, size = [], 0
        page.append((name, candidate))
        size += candidate.size
    if page:
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
