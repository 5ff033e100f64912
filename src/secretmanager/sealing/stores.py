"""Where sealed Secrets are stored. A store finds and writes them; this module has that of Kubernetes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

from ..errors import Forbidden, KubernetesError, SecretManagerError, SecretNotFound
from ..sealed import SEALED_LABEL
from ..servers.kubernetes import KubernetesClient, check_return, create_again
from ..servers.parallel import each
from .plan import Action, Object, being_deleted, finalizers_of
from .spec import SecretSpec

CONCURRENCY = 8
"""Number of concurrent requests by default."""

TIMEOUT = 30.0
"""Time to wait by default until a deleted Secret is gone, in seconds."""

LIST_FROM = 10
"""From this number of Secrets on, they are looked up by listing and not one by one."""


@dataclass(frozen=True)
class Change:
    """One Secret to write.

    Attributes:
        action: what to do; never ``UNCHANGED``.
        found: the Secret as found; None if it is to be created.
        secret: the Secret as it will be; None if it is to be deleted.
    """

    action: Action
    found: Object | None
    secret: Object | None

    @property
    def namespace(self) -> str:
        """The Secret's namespace."""
        return str(((self.secret or self.found) or {})["metadata"]["namespace"])

    @property
    def place(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{((self.secret or self.found) or {})['metadata']['name']}"


class Store(Protocol):
    """Keeps Secrets."""

    def find(self, wanted: Sequence[SecretSpec]) -> Mapping[str, Object]:
        """Return those of the Secrets that exist, by ``namespace/name``."""

    def write(
        self, changes: Sequence[Change], *, check: bool, done: Callable[[Change], None]
    ) -> Mapping[str, SecretManagerError]:
        """Write Secrets; in check mode, only validate the changes.

        Args:
            changes: the Secrets.
            check: write nothing.
            done: called after each that was written.

        Returns:
            What went wrong, by ``namespace/name``; a ConflictError if a Secret is not as it was found.
        """


class KubernetesStore:
    """Secrets in Kubernetes.

    Args:
        kubernetes: client that may get (better also list), create, update and, if needed, delete them. It should
            keep as many connections.
        concurrency: number of concurrent requests.
        written: called after each write with the change, and the Secret as Kubernetes then has it (None if it was
            deleted); by several threads.
        timeout: time to wait until a Secret that is to be recreated is gone, in seconds.
    """

    def __init__(
        self,
        kubernetes: KubernetesClient,
        concurrency: int = CONCURRENCY,
        written: Callable[[Change, Object | None], None] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self._kubernetes = kubernetes
        self._concurrency = concurrency
        self._written = written
        self._timeout = timeout

    def find(self, wanted: Sequence[SecretSpec]) -> dict[str, Object]:
        """Return those of the Secrets that exist, by ``namespace/name``.

        Many are found by their label. If listing is not allowed, each is requested by its name.

        Raises:
            Forbidden, KubernetesUnavailable: as the API says.
        """
        places = {item.place: (item.namespace, item.name) for item in wanted}
        found: dict[str, Object] = {}
        if len(places) >= LIST_FROM:
            with contextlib.suppress(Forbidden):  # by name, then
                found, places = self._listed(places)
        secrets = each(self._get, list(places.values()), self._concurrency)
        for place, secret in zip(places, secrets, strict=True):
            if secret:
                found[place] = secret
        return found

    def write(
        self, changes: Sequence[Change], *, check: bool, done: Callable[[Change], None]
    ) -> dict[str, SecretManagerError]:
        """Write Secrets concurrently; in check mode have the API validate them. As `Store.write`."""
        if len(changes) > 1 and not check and (refused := self._preflight(changes)):
            return refused

        def write(change: Change) -> SecretManagerError | None:
            try:
                secret = self._write(change, dry_run=check)
            except SecretManagerError as error:
                return error
            done(change)
            if self._written and not check:
                self._written(change, secret)
            return None

        errors = zip(changes, each(write, changes, self._concurrency), strict=True)
        return {change.place: error for change, error in errors if error}

    def _listed(self, places: Mapping[str, tuple[str, str]]) -> tuple[dict[str, Object], dict[str, tuple[str, str]]]:
        """List Secrets; return those found, and the places of others that exist without the label."""
        found: dict[str, Object] = {}
        for namespace in _lists(places):
            for secret in self._kubernetes.list_secrets(namespace, f"{SEALED_LABEL}=true"):
                place = f"{secret['metadata']['namespace']}/{secret['metadata']['name']}"
                if place in places:
                    found[place] = secret
        missing = {place: parts for place, parts in places.items() if place not in found}
        there = {item for namespace in _lists(missing) for item in self._kubernetes.list_names(namespace)}
        return found, {place: parts for place, parts in missing.items() if parts in there}

    def _get(self, parts: tuple[str, str]) -> Object | None:
        try:
            return self._kubernetes.get_secret(*parts)
        except SecretNotFound:
            return None

    def _preflight(self, changes: Sequence[Change]) -> dict[str, SecretManagerError]:
        """Try one change of each kind in each namespace, so that a missing namespace or right stops all of them."""

        def kind(change: Change) -> tuple[str, str]:
            return change.namespace, change.action

        refused: dict[str, SecretManagerError] = {}
        for _, alike in groupby(sorted(changes, key=kind), key=kind):
            change = next(alike)
            try:
                self._write(change, dry_run=True)
            except SecretManagerError as error:
                refused[change.place] = error
        return refused

    def _write(self, change: Change, *, dry_run: bool) -> Object | None:
        if change.found and change.action in (Action.DELETED, Action.DELETING, Action.RECREATED):
            if change.action is Action.RECREATED and change.secret is not None:
                check_return(self._kubernetes, change.namespace, change.secret)
            with contextlib.suppress(SecretNotFound):  # gone already
                self._kubernetes.delete_secret(change.namespace, change.found, dry_run=dry_run)
            if change.action is Action.RECREATED and finalizers_of(change.found) and not dry_run:
                self._wait_until_gone(change.namespace, change.found["metadata"])
        if change.secret is None or (change.action is Action.RECREATED and dry_run):
            return None
        if change.action is Action.UPDATED:
            return self._kubernetes.update_secret(change.namespace, change.secret, dry_run=dry_run)
        if change.action is not Action.RECREATED:
            return self._kubernetes.create_secret(change.namespace, change.secret, dry_run=dry_run)
        try:
            return create_again(self._kubernetes, change.namespace, change.secret)
        except SecretManagerError as error:
            error.remedy = "run again: the old Secret is deleted already, and the new one could not be made"
            raise

    def _wait_until_gone(self, namespace: str, metadata: Mapping[str, Any]) -> None:
        """Wait for the end of a Secret that has finalizers.

        Raises:
            KubernetesError: it is still there after the timeout.
        """
        deadline, pause = time.monotonic() + self._timeout, 0.05
        while (found := self._get((namespace, metadata["name"]))) and found["metadata"]["uid"] == metadata["uid"]:
            if time.monotonic() > deadline:
                raise KubernetesError(
                    f"{being_deleted(found)}; it is still there after {self._timeout:g} s",
                    place=f"{namespace}/{metadata['name']}",
                    remedy="run again when it is gone: it is deleted, and the new one is not created yet",
                )
            time.sleep(pause)
            pause = min(2 * pause, 1.0)


def _lists(places: Mapping[str, tuple[str, str]]) -> list[str | None]:
    """Return the namespaces to list; None for all at once, if there are many."""
    namespaces = sorted({namespace for namespace, _ in places.values()})
    return [None] if len(namespaces) >= LIST_FROM else list(namespaces)
