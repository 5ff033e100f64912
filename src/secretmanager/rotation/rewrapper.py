"""Rewrap: bring the values of Secrets to the newest version of their Transit key, without their plaintext.

What is done is at the newest version, so a run that was broken off is resumed by the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from ..errors import (
    ConflictError,
    DecryptionFailed,
    SecretManagerError,
    SecretNotFound,
    VaultError,
    unexpected,
)
from ..sealed import SEALED_LABEL, place_of, with_ciphertexts
from ..sealing import recreation
from ..servers.kubernetes import KubernetesClient, Object
from ..servers.vault import VaultClient
from .planning import Candidate, Options, Shard, Skip, make_candidate
from .proving import Rewrapped, prove
from .usage import foreign, pages

CONCURRENCY = 8
"""Number of Secrets that are written at once, by default."""

ATTEMPTS = 5
"""How often a Secret is read and rewrapped again because another writer changed it in between."""


@dataclass
class Report:
    """What became of the Secrets with values of a Transit key, each named by ``namespace/name``, or file and that.

    Attributes:
        current: how many were at the newest version already.
        rewrapped: those that were rewrapped; in check mode, that would be.
        skipped: those that were left as they are, and why: behind, damaged, or not opened by the key.
        failed: those that could not be written, and why.
        restored: those of which a run that was broken off had left a copy alone.
    """

    current: int = 0
    rewrapped: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    restored: list[str] = field(default_factory=list)

    @property
    def behind(self) -> dict[str, str]:
        """Those that are still behind, and why."""
        return {**self.skipped, **self.failed}

    def settles(self, name: str, candidate: Candidate) -> bool:
        """Note what becomes of a Secret of which nothing is to be written; return whether it is one."""
        if candidate.skip:
            self.skipped[name] = str(candidate.skip)
        elif candidate.behind:
            return False
        else:
            self.current += 1
        return True

    def refuses(self, name: str, error: VaultError) -> None:
        """Note that Vault does not rewrap a value of a Secret: the key does not open it, or for another reason."""
        if isinstance(error, DecryptionFailed):
            self.skipped[name] = f"{Skip.REFUSED}: {'; '.join(error.errors)}"
        else:
            self.failed[name] = str(error)

    def facts(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "current": self.current,
            "rewrapped": sorted(self.rewrapped),
            "skipped": dict(sorted(self.skipped.items())),
            "failed": dict(sorted(self.failed.items())),
            **({"restored": sorted(self.restored)} if self.restored else {}),
        }


Progress = Callable[[Report], None]
"""Called after each Secret, with what was done so far."""


class Copy(NamedTuple):
    """Where a copy is that a run has left behind, and the Secret that it stands for, both ``namespace/name``."""

    place: str
    original: str


class Rewrapper:
    """Rewraps Secrets in Kubernetes.

    Args:
        vault: client whose token may rewrap with the key.
        kubernetes: client that may list, get and update Secrets (and delete and create them, to recreate some). It
            should keep as many connections as ``concurrency``.
        options: what is rewrapped.
        newest: newest version of the Transit key.
        namespaces: those whose Secrets are rewrapped; all without one.
        concurrency: number of Secrets that are written at once.
        shard: part of the Secrets.
    """

    def __init__(
        self,
        vault: VaultClient,
        kubernetes: KubernetesClient,
        options: Options,
        newest: int,
        namespaces: Sequence[str] = (),
        concurrency: int = CONCURRENCY,
        shard: Shard | None = None,
    ) -> None:
        self._vault = vault
        self._kubernetes = kubernetes
        self._options = options
        self._newest = newest
        self._namespaces = namespaces
        self._concurrency = concurrency
        self._shard = shard or Shard()
        self._report = Report()
        self._progress: Progress = lambda report: None

    def run(
        self,
        report: Report,
        *,
        check: bool = False,
        progress: Progress = lambda report: None,
        still_held: Callable[[], None] = lambda: None,
    ) -> None:
        """Rewrap; what became of each Secret is added to the report.

        While the Secrets of one page are written, the next page is listed and rewrapped.

        Args:
            report: gets what became of each Secret.
            check: write nothing.
            progress: called after each Secret.
            still_held: called before Secrets or copies are written; raises if another rotation took over.

        Raises:
            Forbidden: RBAC lacks ``list``.
            SecretNotFound: there is no such namespace.
            VaultError: Vault refused, or is unreachable; what was written until then stays.
        """
        self._report, self._progress = report, progress
        with ThreadPoolExecutor(self._concurrency) as pool:
            copies: list[Copy] = []
            self._rewrap_all(self._secrets(copies), pool, still_held, check=check)
            if copies and not self._options.recreate:
                # Who writes a copy must not have others make a Secret of it without their knowing.
                self._report.skipped |= {copy.original: str(Skip.LEFT) for copy in self._alone(copies)}
            elif copies and check:
                self._report.restored += [copy.original for copy in self._alone(copies)]
            elif copies:
                still_held()
                # Only now does nothing else recreate the same Secrets.
                self._rewrap_all(self._finished(copies), pool, still_held, check=False)

    def _secrets(self, copies: list[Copy]) -> Iterator[Object]:
        """List the Secrets; the places of copies that a run has left behind are put into a list instead."""
        selector = None if self._options.unmanaged else f"{SEALED_LABEL}=true"
        for namespace in self._namespaces or (None,):
            empty = True
            for secret in self._kubernetes.list_secrets(namespace, selector):
                empty = False
                if recreation.is_copy(secret):
                    # It belongs to the shard of its original, so that no other one deletes it meanwhile.
                    original = recreation.original(secret)
                    copies += [Copy(place_of(secret), place_of(original))] if original in self._shard else []
                elif secret in self._shard:
                    yield secret
            if namespace and empty:
                self._kubernetes.require_namespace(namespace)

    def _finished(self, copies: Iterable[Copy]) -> Iterator[Object]:
        """Finish recreations; yield the Secrets that were missing until then."""
        for copy in copies:
            try:
                if secret := self._finish(copy):
                    self._report.restored.append(copy.original)
                    yield secret
            except SecretManagerError as error:
                self._report.failed[copy.place] = str(error)

    def _finish(self, copy: Copy) -> Object | None:
        try:
            secret = self._kubernetes.get_secret(*copy.place.split("/"))
        except SecretNotFound:
            return None  # another run has finished it
        return recreation.finish(self._kubernetes, secret) if recreation.is_copy(secret) else None

    def _alone(self, copies: Iterable[Copy]) -> Iterator[Copy]:
        """Yield the copies whose Secret is gone."""
        for copy in copies:
            try:
                self._kubernetes.get_secret(*copy.original.split("/"))
            except SecretNotFound:
                yield copy

    def _rewrap_all(
        self, secrets: Iterable[Object], pool: ThreadPoolExecutor, still_held: Callable[[], None], *, check: bool
    ) -> None:
        writing: list[Future[None]] = []
        try:
            for page in pages(self._candidates(secrets)):
                still_held()
                previous, writing = writing, self._rewrap(page, pool, check=check)
                _wait(previous)
        finally:
            _wait(writing)

    def _candidates(self, secrets: Iterable[Object]) -> Iterator[tuple[str, Candidate]]:
        """Yield the Secrets to rewrap, and the damaged ones, each with its place; of the others nothing is kept."""
        for secret in secrets:
            try:
                candidate = make_candidate(secret, self._newest, self._options)
            except Exception as error:  # noqa: BLE001 - what one tenant wrote ends the run for no other
                self._report.failed[place_of(secret)] = unexpected(error)
                continue
            if candidate is None:
                continue
            place = candidate.place
            if candidate.skip is Skip.DAMAGED or not self._report.settles(place, candidate):
                yield place, candidate

    def _rewrap(
        self, page: Sequence[tuple[str, Candidate]], pool: ThreadPoolExecutor, *, check: bool
    ) -> list[Future[None]]:
        """Rewrap the Secrets of a page, and begin to write them."""
        damaged = {place: candidate for place, candidate in page if candidate.skip is Skip.DAMAGED}
        foreign_places = foreign(self._vault, self._options.transit_key, damaged)
        own_page = [(place, candidate) for place, candidate in page if place not in foreign_places]
        candidates = [candidate for place, candidate in own_page if not self._report.settles(place, candidate)]
        if check:
            for candidate, secret in rewrapped(self._vault, self._options.transit_key, candidates):
                self._foretell(candidate, secret)
            return []
        return [
            pool.submit(self._write, candidate, secret)
            for candidate, secret in rewrapped(self._vault, self._options.transit_key, candidates)
        ]

    def _foretell(self, candidate: Candidate, secret: Object | VaultError) -> None:
        """Note what would become of a Secret; its new ciphertexts are thrown away."""
        if isinstance(secret, VaultError):
            self._report.refuses(candidate.place, secret)
            return
        try:
            if candidate.secret.get("immutable"):
                recreation.check(self._kubernetes, candidate.secret, candidate.secret)
        except SecretManagerError as error:
            self._report.failed[candidate.place] = str(error)
            self._progress(self._report)
        else:
            self._done(candidate.place)

    def _write(self, candidate: Candidate, secret: Object | VaultError) -> None:
        """Write a Secret if it is still as it was found; otherwise read it again, and rewrap that."""
        place = candidate.place
        try:
            for attempt in range(ATTEMPTS):
                if isinstance(secret, VaultError):
                    self._report.refuses(place, secret)
                    break
                try:
                    replace(self._kubernetes, candidate.secret, secret)
                except ConflictError:
                    if attempt == ATTEMPTS - 1:
                        raise
                else:
                    self._done(place)
                    return
                current = self._kubernetes.get_secret(*place.split("/"))
                new_candidate = make_candidate(current, self._newest, self._options)
                if new_candidate is None or self._report.settles(place, new_candidate):
                    break
                candidate = new_candidate
                ((candidate, secret),) = rewrapped(self._vault, self._options.transit_key, [new_candidate])
        except SecretNotFound:
            pass  # somebody deleted it
        except SecretManagerError as error:
            self._report.failed[place] = str(error)
        except Exception as error:  # noqa: BLE001 - as in `_candidates`
            self._report.failed[place] = unexpected(error)
        self._progress(self._report)

    def _done(self, place: str) -> None:
        self._report.rewrapped.append(place)
        self._progress(self._report)


def rewrapped(
    vault: VaultClient, transit_key: str, candidates: Sequence[Candidate]
) -> list[tuple[Candidate, Object | VaultError]]:
    """Rewrap the values of several Secrets in one batch.

    Returns:
        Each Secret as it will be, or with the first error that Vault gave for one of its values.
    """
    items = [item for candidate in candidates for item in candidate.behind.values()]
    results = iter(vault.rewrap_each(transit_key, items) if items else ())
    refused: dict[int, VaultError] = {}
    changed: dict[int, Rewrapped] = {}
    for index, candidate in enumerate(candidates):
        ciphertexts = dict(zip(candidate.behind, islice(results, len(candidate.behind)), strict=True))
        texts = {key: text for key, text in ciphertexts.items() if isinstance(text, str)}
        if error := next((text for text in ciphertexts.values() if isinstance(text, VaultError)), None):
            refused[index] = error
        else:
            changed[index] = Rewrapped(candidate.secret, with_ciphertexts(candidate.secret, texts), texts.keys())
    secrets = dict(zip(changed, prove(vault, transit_key, list(changed.values())), strict=True))
    return [(candidate, refused.get(index) or secrets[index]) for index, candidate in enumerate(candidates)]


def replace(kubernetes: KubernetesClient, existing: Object, secret: Object) -> None:
    """Replace a Secret if it is still as it was found."""
    if existing.get("immutable"):
        recreation.recreate(kubernetes, existing, secret)
        return
    metadata = {name: value for name, value in secret["metadata"].items() if name != "managedFields"}
    body = {**secret, "apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    kubernetes.update_secret(metadata["namespace"], body)


def _wait(writing: Iterable[Future[None]]) -> None:
    for write in writing:
        write.result()
