"""Restart workloads in Kubernetes whose Secrets have other values than their pods were started for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ..errors import (
    ConfigError,
    ConflictError,
    Forbidden,
    RestartFailed,
    SecretManagerError,
    SecretNotFound,
)
from ..sealed import SECRETS_ANNOTATION, STAMP_ANNOTATION, values_digest
from ..sealing.plan import Object, Outcome
from ..sealing.spec import WORKLOAD_KINDS, SecretSpec
from ..servers.kubernetes import KubernetesClient
from ..servers.parallel import each
from .rollout import hanging, rollout
from .workloads import Restart, Workload, annotated, asking, digests, hold, named, outdated, owner, patch, stamp

ATTEMPTS = 10
"""How often a workload is read and stamped again because another writer, such as its controller, changed it."""

TIMEOUT = 300.0
"""Time to wait by default until the rollouts are done, in seconds."""

_PAUSES = (0.2, 2.0)  # seconds; first and longest pause between two looks at a rollout


class LiveWorkloads:
    """The workloads of Secrets in Kubernetes.

    Use it in this order: `find` before the Secrets are sealed, so that a mistake stops everything; `stamp` afterwards.

    Args:
        kubernetes: client that may get and patch the workloads, and list them where they are found by annotation.
        specs: the Secrets, with what each restarts.
        concurrency: number of concurrent requests.
        check: write nothing, and say what would be done. A workload that does not exist is not an error then.
        waits: whether `wait` will be called.

    Attributes:
        warnings: what the user should know: what does not restart at once, and what does not exist yet.
        restarted: what was, or in check mode would be, restarted.
    """

    def __init__(
        self,
        kubernetes: KubernetesClient,
        specs: Sequence[SecretSpec],
        *,
        concurrency: int = 1,
        check: bool = False,
        waits: bool = False,
    ) -> None:
        self._kubernetes = kubernetes
        self._named = named(specs)
        self._asking = asking(specs)
        self._concurrency = concurrency
        self._check = check
        self._waits = waits
        self._found: dict[Workload, Object] = {}
        self._secrets: dict[Workload, set[str]] = {}
        self.warnings: list[str] = []
        self.restarted: list[Restart] = []

    def find(self) -> None:
        """Find the workloads.

        Raises:
            SecretNotFound: one does not exist.
            Forbidden: RBAC lacks ``get``, or ``list`` where they are found by annotation.
            ConfigError: there will be no rollout to wait for.
            RestartFailed: several of these.
        """
        errors: list[SecretManagerError] = []
        answers: list[tuple[Workload, Object | SecretManagerError | None]] = [
            *zip(self._named, each(self._get, list(self._named), self._concurrency), strict=True),
            *self._annotated(),
        ]
        for workload, answer in answers:
            if isinstance(answer, Mapping):
                self._found[workload] = answer
                named_here = self._named.get(workload, set())
                self._secrets[workload] = named_here | (annotated(answer) & self._asking.get(workload.namespace, set()))
            elif answer:
                errors.append(answer)
        errors += self._refusals()
        _raise(errors)

    def stamp(self, outcomes: Iterable[Outcome]) -> None:
        """Stamp the workloads whose Secrets have other values than their stamp says: one request for each.

        What the Secrets hold is read again before, so that of runs at the same time the last one that writes a Secret
        is the one whose stamp stays.

        Args:
            outcomes: what was sealed.

        Raises:
            RestartFailed: some could not be stamped, or are stamped by a manifest that somebody applies. The next run
                sees that, and stamps them.
        """
        sealed = digests(outcomes)
        expected = {
            workload: {name: sealed[place] for name in names if (place := (workload.namespace, name)) in sealed}
            for workload, names in self._secrets.items()
        }
        due = sorted(workload for workload, entries in expected.items() if outdated(self._found[workload], entries))
        results = list(each(lambda workload: self._stamped(workload, expected[workload]), due, self._concurrency))
        self.restarted += [result for result in results if isinstance(result, Restart)]
        if errors := [result for result in results if isinstance(result, SecretManagerError)]:
            raise RestartFailed(errors)

    def wait(self, timeout: float = TIMEOUT, progress: Callable[[str], None] = lambda text: None) -> None:
        """Wait until the rollouts of all workloads are done, also of those that were stamped by a run before.

        Args:
            timeout: time for all of them, in seconds.
            progress: called with a line whenever one has got further.

        Raises:
            RestartFailed: some are not done, with what keeps them.
        """
        deadline, pause = time.monotonic() + timeout, _PAUSES[0]
        last_texts: dict[Workload, str] = {}
        failed: list[Workload] = []
        pending = sorted(self._found)
        while pending:
            for workload in list(pending):
                state = rollout(workload.kind, self._found[workload])
                if last_texts.get(workload) != state.text:
                    last_texts[workload] = state.text
                    progress(f"{workload}: {'rollout done: ' if state.done else ''}{state.text}")
                if state.done or state.failed:
                    pending.remove(workload)
                    failed += [workload] if state.failed else []
            if not pending or time.monotonic() > deadline:
                break
            time.sleep(pause)
            pause = min(1.5 * pause, _PAUSES[1])
            answers = each(self._get, pending, self._concurrency)
            for workload, answer in zip(list(pending), answers, strict=True):
                if not isinstance(answer, Mapping):
                    raise RestartFailed([answer or _missing(workload)])
                self._found[workload] = answer
        if unfinished := sorted(failed + pending):
            raise RestartFailed([self._unfinished(workload, last_texts[workload], timeout) for workload in unfinished])

    def _get(self, workload: Workload) -> Object | SecretManagerError | None:
        """Return a workload, or what is wrong; None if it does not exist yet, in check mode."""
        try:
            return self._kubernetes.get(workload.resource, workload.namespace, workload.name)
        except SecretNotFound:
            if not self._check:
                return _missing(workload)
            self.warnings.append(
                f"Not there yet: {workload}. Check mode assumes that it would be created before; a run fails if it is"
                " not."
            )
            return None
        except Forbidden as error:
            return _forbidden(error, workload)
        except SecretManagerError as error:
            return error

    def _annotated(self) -> Iterator[tuple[Workload, Object | SecretManagerError]]:
        """Yield the workloads whose annotation names one of the Secrets."""
        for namespace, names in self._asking.items():
            annotated_names: set[str] = set()
            for kind in WORKLOAD_KINDS:
                listed = Workload(namespace, kind, "*")
                try:
                    for item in self._kubernetes.list_objects(listed.resource, namespace):
                        if annotated(item) & names:
                            annotated_names |= annotated(item)
                            yield Workload(namespace, kind, item["metadata"]["name"]), item
                except Forbidden as error:
                    error.remedy = f"grant it by RBAC: list on {listed.resource}.apps; or name the workloads in restart"
                    yield listed, error
            if unknown := sorted(names - annotated_names):
                self.warnings.append(
                    f"restart: no workload of namespace {namespace} has an annotation {SECRETS_ANNOTATION} that names"
                    f" {', '.join(unknown)}"
                )

    def _refusals(self) -> Iterator[SecretManagerError]:
        for workload, definition in self._found.items():
            if (reason := hold(definition)) and self._waits:
                yield ConfigError(f"there is no rollout to wait for: {reason}", place=str(workload))
            elif reason:
                self.warnings.append(f"{workload}: {reason}")

    def _stamped(self, workload: Workload, digests: Mapping[str, str]) -> Restart | SecretManagerError | None:
        """Stamp one workload; return what went wrong, or None if another run has done it already."""
        definition = self._found[workload]
        for attempt in range(ATTEMPTS):
            try:
                if attempt:
                    time.sleep(random.uniform(0, 0.05 * attempt))  # noqa: S311 - no secret
                    definition = self._kubernetes.get(workload.resource, workload.namespace, workload.name)
                # After the workload: whoever writes the Secret later stamps later, and then the version does not fit.
                entries = outdated(definition, self._present(workload, outdated(definition, digests)))
                if not entries:
                    return None
                if manager := owner(definition):
                    return _applied(workload, manager)
                version = {"metadata": {"resourceVersion": definition["metadata"]["resourceVersion"]}}
                self._found[workload] = self._kubernetes.merge(
                    workload.resource,
                    workload.namespace,
                    workload.name,
                    {**version, **patch(stamp(definition, entries))},
                    dry_run=self._check,
                )
                return Restart(workload, tuple(entries))
            except ConflictError as error:
                conflict: SecretManagerError = error
            except Forbidden as error:
                return _forbidden(error, workload)
            except SecretManagerError as error:
                return error
        return conflict

    def _present(self, workload: Workload, entries: Mapping[str, str]) -> dict[str, str]:
        """Return entries for what the Secrets hold now; in check mode as they are, since nothing was written."""
        if self._check:
            return dict(entries)
        present: dict[str, str] = {}
        for name in entries:
            try:
                digest = values_digest(self._kubernetes.get_secret(workload.namespace, name))
            except SecretNotFound:
                continue  # it was deleted, which restarts nothing
            if digest is not None:
                present[name] = digest
        return present

    def _unfinished(self, workload: Workload, text: str, timeout: float) -> SecretManagerError:
        reasons = "; ".join(hanging(self._kubernetes, workload, self._found[workload]))
        return SecretManagerError(
            f"its rollout is not done after {timeout:g} s: {text}" + (f"; {reasons}" if reasons else ""),
            place=str(workload),
            remedy="the Secrets are sealed, and the pods that ran before stay until new ones are ready",
        )


def _missing(workload: Workload) -> SecretNotFound:
    return SecretNotFound(
        "it does not exist",
        status=404,
        place=str(workload),
        remedy="correct restart, which names workloads of the Secret's namespace, or create it before",
    )


def _applied(workload: Workload, manager: str) -> ConfigError:
    return ConfigError(
        f"its stamp {STAMP_ANNOTATION} is in the manifest that {manager} applies, which would put it back",
        place=str(workload),
        remedy="give the manifest's file (restart_dest, --restart-manifest), or take the stamp out there",
    )


def _forbidden(error: Forbidden, workload: Workload) -> Forbidden:
    error.place = str(workload)
    error.remedy = (
        f"grant it by RBAC: apiGroups [apps], resources [{workload.resource}], resourceNames [{workload.name}], verbs"
        " [get, patch] (role workload-rbac: restarts)"
    )
    return error


def _raise(errors: Sequence[SecretManagerError]) -> None:
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise RestartFailed(errors)
