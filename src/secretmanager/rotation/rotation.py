"""A whole rotation: a new version of a Transit key, all Secrets brought to it, the old versions retired."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import NotRetired
from ..sealed import place_of
from ..servers.kubernetes import KubernetesClient, Object
from ..servers.vault import VaultClient
from .keys import KeyVersions, await_rotation, retire, rotate
from .planning import Options, Shard
from .rewrapper import CONCURRENCY, Progress, Report, Rewrapper
from .usage import find_usage


@dataclass(frozen=True)
class Steps:
    """What is done, in this order.

    Attributes:
        rotate: make a new version, if the newest is older than ``older_than``.
        older_than: that age, in seconds.
        rewrap: bring the Secrets to the newest version.
        retire: have the key decrypt nothing older, unless something still is.
        trim: also delete the older versions, for ever.
    """

    rotate: bool = False
    older_than: float = 0.0
    rewrap: bool = False
    retire: bool = False
    trim: bool = False


@dataclass
class Outcome:
    """What was done; in check mode, would be.

    Attributes:
        rotated: whether a new version was made.
        newest_version: newest version of the key; in check mode, of before.
        report: what became of the Secrets.
        retired: whether older versions were retired or trimmed.
        min_decryption_version: oldest version that decrypts.
    """

    rotated: bool = False
    newest_version: int = 0
    report: Report = field(default_factory=Report)
    retired: bool = False
    min_decryption_version: int = 0

    @property
    def changed(self) -> bool:
        """Whether anything was changed."""
        return self.rotated or bool(self.report.rewrapped or self.report.restored) or self.retired

    def facts(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "changed": self.changed,
            "rotated": self.rotated,
            "newest_version": self.newest_version,
            **self.report.facts(),
            "retired": self.retired,
            "min_decryption_version": self.min_decryption_version,
        }


def run(
    vault: VaultClient,
    kubernetes: KubernetesClient | None,
    options: Options,
    steps: Steps,
    *,
    namespaces: Sequence[str] = (),
    manifests: Sequence[Path] = (),
    shard: Shard | None = None,
    concurrency: int = CONCURRENCY,
    check: bool = False,
    progress: Progress = lambda report: None,
    still_held: Callable[[], None] = lambda: None,
    outcome: Outcome | None = None,
) -> Outcome:
    """Rotate, rewrap and retire.

    Args:
        vault: client that is logged in; each step needs rights of its own (docs/trust.md).
        kubernetes: client of the Kubernetes API; None to rewrap files alone.
        options: which values.
        steps: what is done.
        namespaces: those whose Secrets are rewrapped; all without one.
        manifests: files, and folders of files, of sealed Secrets.
        shard: part of the Secrets in Kubernetes that is rewrapped. The first one rotates, the others wait for that.
        concurrency: number of Secrets that are written at once.
        check: change nothing.
        progress: called after each Secret.
        still_held: called before each step and page of Secrets; raises where another rotation took over
            (`lease.one_at_a_time`).
        outcome: gets what was done, also before an error.

    Raises:
        LeaseHeld: another rotation took over; what was done before stays.
        NotRetired: something needs an older version, so that nothing was retired; what was done before stays.
        SecretManagerError: a server refused, or is unreachable.
    """
    outcome = Outcome() if outcome is None else outcome
    versions = KeyVersions.read(vault, options.transit_key)
    still_held()
    if steps.rotate and shard and shard.index and not check:
        versions = await_rotation(vault, versions, steps.older_than)
    elif steps.rotate:
        versions, outcome.rotated = rotate(vault, versions, steps.older_than, check=check)
    outcome.newest_version, outcome.min_decryption_version = versions.newest, versions.min_decryption
    if outcome.rotated and check:  # everything would be behind the new version
        versions = replace(versions, newest=versions.newest + 1)
    newest = versions.newest
    if steps.rewrap:
        if kubernetes:
            rewrapper = Rewrapper(vault, kubernetes, options, newest, namespaces, concurrency, shard)
            rewrapper.run(outcome.report, check=check, progress=progress, still_held=still_held)
        if manifests:
            from .files import FileRewrapper  # here, because its imports take a third of the command's start

            FileRewrapper(vault, manifests, options, newest).run(outcome.report, check=check, progress=progress)
    if steps.retire:
        usage = find_usage(vault, _everything(kubernetes, manifests), versions, trim=steps.trim)
        outcome.report.skipped = {**usage.unopened, **outcome.report.skipped}
        still_needed = usage.needed
        if check:  # they would not be left
            still_needed = {
                place: why for place, why in still_needed.items() if place not in {*outcome.report.rewrapped}
            }
        if still_needed:
            raise NotRetired(options.transit_key, still_needed)
        still_held()
        outcome.retired = retire(vault, versions, trim=steps.trim, check=check)
        if outcome.retired and not check:
            outcome.min_decryption_version = newest
    return outcome


def _everything(kubernetes: KubernetesClient | None, manifests: Sequence[Path]) -> Iterator[tuple[str, Object]]:
    if kubernetes:
        for secret in kubernetes.list_secrets():
            yield place_of(secret), secret
    if manifests:
        from .files import secrets_of

        yield from secrets_of(manifests)
