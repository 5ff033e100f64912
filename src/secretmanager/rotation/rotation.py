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
from .lease import one_at_a_time
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


@dataclass(frozen=True)
class Rotation:
    """What to do with a Transit key, and with which Secrets.

    Attributes:
        options: which values are rewrapped.
        steps: what is done.
        namespaces: those whose Secrets are rewrapped; all without one.
        manifests: files, and folders of files, of sealed Secrets.
        shard: part of the Secrets in Kubernetes that is rewrapped. The first one rotates, the others wait for that.
        concurrency: number of Secrets that are written at once.
        lease_namespace: namespace of the Lease by which one rotation runs at a time; None for no Lease.
        check: change nothing.
    """

    options: Options
    steps: Steps
    namespaces: Sequence[str] = ()
    manifests: Sequence[Path] = ()
    shard: Shard | None = None
    concurrency: int = CONCURRENCY
    lease_namespace: str | None = None
    check: bool = False

    def run(
        self,
        vault: VaultClient,
        kubernetes: KubernetesClient | None,
        outcome: Outcome,
        progress: Progress = lambda report: None,
    ) -> None:
        """Rotate, rewrap and retire.

        Args:
            vault: client that is logged in; each step needs rights of its own (docs/trust.md).
            kubernetes: client of the Kubernetes API; None to rewrap files alone.
            outcome: gets what was done, also before an error.
            progress: called after each Secret.

        Raises:
            LeaseHeld: another rotation runs, or took over; what was done before stays.
            NotRetired: something needs an older version, so that nothing was retired; what was done before stays.
            SecretManagerError: a server refused, or is unreachable.
        """
        lease_namespace = None if self.check else self.lease_namespace
        with one_at_a_time(kubernetes, lease_namespace, self.options.transit_key, self.shard) as still_held:
            self.run_held(vault, kubernetes, outcome, progress, still_held)

    def run_held(
        self,
        vault: VaultClient,
        kubernetes: KubernetesClient | None,
        outcome: Outcome,
        progress: Progress = lambda report: None,
        still_held: Callable[[], None] = lambda: None,
    ) -> None:
        """Do it with a Lease that the caller holds; as `run`.

        Args:
            vault: as of `run`.
            kubernetes: as of `run`.
            outcome: as of `run`.
            progress: as of `run`.
            still_held: called before each step and page of Secrets; raises where another rotation took over.
        """
        versions = KeyVersions.read(vault, self.options.transit_key)
        still_held()
        versions = self._rotate(vault, versions, outcome)
        if self.steps.rewrap:
            self._rewrap(vault, kubernetes, versions.newest, outcome.report, progress, still_held)
        if self.steps.retire:
            self._retire(vault, kubernetes, versions, outcome, still_held)

    def _rotate(self, vault: VaultClient, versions: KeyVersions, outcome: Outcome) -> KeyVersions:
        """Make a new version, or wait until the first shard did; return the versions that there are, or would be."""
        if self.steps.rotate and self.shard and self.shard.index and not self.check:
            versions = await_rotation(vault, versions, self.steps.older_than)
        elif self.steps.rotate:
            versions, outcome.rotated = rotate(vault, versions, self.steps.older_than, check=self.check)
        outcome.newest_version, outcome.min_decryption_version = versions.newest, versions.min_decryption
        if outcome.rotated and self.check:  # everything would be behind the new version
            return replace(versions, newest=versions.newest + 1)
        return versions

    def _rewrap(
        self,
        vault: VaultClient,
        kubernetes: KubernetesClient | None,
        newest: int,
        report: Report,
        progress: Progress,
        still_held: Callable[[], None],
    ) -> None:
        if kubernetes:
            rewrapper = Rewrapper(
                vault, kubernetes, self.options, newest, self.namespaces, self.concurrency, self.shard
            )
            rewrapper.run(report, check=self.check, progress=progress, still_held=still_held)
        if self.manifests:
            from .files import FileRewrapper  # here, because its imports take a third of the command's start

            files = FileRewrapper(vault, self.manifests, self.options, newest)
            files.run(report, check=self.check, progress=progress)

    def _retire(
        self,
        vault: VaultClient,
        kubernetes: KubernetesClient | None,
        versions: KeyVersions,
        outcome: Outcome,
        still_held: Callable[[], None],
    ) -> None:
        report = outcome.report
        usage = find_usage(vault, _everything(kubernetes, self.manifests), versions, trim=self.steps.trim)
        report.skipped = {**usage.unopened, **report.skipped}
        # In check mode, what would be rewrapped would not be left.
        rewrapped = {*report.rewrapped} if self.check else set()
        if needed := {place: why for place, why in usage.needed.items() if place not in rewrapped}:
            raise NotRetired(self.options.transit_key, needed)
        still_held()
        outcome.retired = retire(vault, versions, trim=self.steps.trim, check=self.check)
        if outcome.retired and not self.check:
            outcome.min_decryption_version = versions.newest


def _everything(kubernetes: KubernetesClient | None, manifests: Sequence[Path]) -> Iterator[tuple[str, Object]]:
    if kubernetes:
        for secret in kubernetes.list_secrets():
            yield place_of(secret), secret
    if manifests:
        from .files import secrets_of

        yield from secrets_of(manifests)
