"""Where sealed Secrets are stored. A store finds and writes them; this module has that of Kubernetes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from ..errors import Forbidden, SecretManagerError, SecretNotFound
from ..sealed import SEALED_LABEL
from ..servers.kubernetes import KubernetesClient
from ..servers.parallel import each
from . import recreation
from .plan import LEFT, Action, Object
from .recreation import TIMEOUT
from .spec import SecretSpec, State

CONCURRENCY = 8
"""Number of concurrent requests by default."""

LIST_FROM = 10
"""From this number of Secrets on, they are looked up by listing and not one by one."""


Places = Mapping[str, tuple[str, str]]
"""Namespace and name, by the place that they are looked up for."""


@dataclass(frozen=True)
class Change:
    """One Secret to write.

    Attributes:
        action: what to do; never ``UNCHANGED``.
        existing: the Secret as found; None if it is to be created.
        secret: the Secret as it will be; None if it is to be deleted.
    """

    action: Action
    existing: Object | None
    secret: Object | None

    @property
    def namespace(self) -> str:
        """The Secret's namespace."""
        return str(((self.secret or self.existing) or {})["metadata"]["namespace"])

    @property
    def place(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{((self.secret or self.existing) or {})['metadata']['name']}"


class Store(Protocol):
    """Keeps Secrets."""

    def find(self, specs: Sequence[SecretSpec]) -> Mapping[str, Object]:
        """Return those of the Secrets that exist, by ``namespace/name``."""

    def write(
        self, changes: Sequence[Change], *, check: bool, on_written: Callable[[Change], None]
    ) -> Mapping[str, SecretManagerError]:
        """Write Secrets; in check mode, only validate the changes.

        Args:
            changes: the Secrets.
            check: write nothing.
            on_written: called after each that was written.

        Returns:
            What went wrong, by ``namespace/name``; a ConflictError if a Secret is not as it was found.
        """


class KubernetesStore:
    """Secrets in Kubernetes.

    Args:
        kubernetes: client that may get (better also list), create, update and, if needed, delete them. It should
            keep as many connections.
        concurrency: number of concurrent requests.
        announce: called after each write with the change, and the Secret as Kubernetes then has it (None if it was
            deleted); by several threads.
        timeout: time to wait until a Secret that is to be recreated is gone, in seconds.
    """

    def __init__(
        self,
        kubernetes: KubernetesClient,
        concurrency: int = CONCURRENCY,
        announce: Callable[[Change, Object | None], None] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self._kubernetes = kubernetes
        self._concurrency = concurrency
        self._announce = announce
        self._timeout = timeout

    def find(self, specs: Sequence[SecretSpec]) -> dict[str, Object]:
        """Return those of the Secrets that exist, by ``namespace/name``.

        Many are found by their label. If listing is not allowed, each is requested by its name.

        Raises:
            Forbidden, KubernetesUnavailable: as the API says.
        """
        places: Places = {spec.place: (spec.namespace, spec.name) for spec in specs}
        copies: Places = {
            spec.place: (spec.namespace, recreation.copy_name(spec.name))
            for spec in specs
            if spec.state is State.PRESENT
        }
        existing: dict[str, Object] = {}
        if len(places) >= LIST_FROM:
            with contextlib.suppress(Forbidden):  # by name, then
                existing, places, copies = self._listed(places, copies)
        existing |= self._by_name(places)
        with contextlib.suppress(Forbidden):  # who may not look for copies has made none
            copies = {place: parts for place, parts in copies.items() if place not in existing}
            existing |= {
                place: recreation.left_of(copy)
                for place, copy in self._by_name(copies).items()
                if recreation.is_copy(copy)
            }
        return existing

    def write(
        self, changes: Sequence[Change], *, check: bool, on_written: Callable[[Change], None]
    ) -> dict[str, SecretManagerError]:
        """Write Secrets concurrently; in check mode have the API validate them. As `Store.write`."""
        if len(changes) > 1 and not check and (refused := self._preflight(changes)):
            return refused

        def write(change: Change) -> SecretManagerError | None:
            try:
                secret = self._write(change, dry_run=check)
            except SecretManagerError as error:
                return error
            on_written(change)
            if self._announce and not check:
                self._announce(change, secret)
            return None

        errors = zip(changes, each(write, changes, self._concurrency), strict=True)
        return {change.place: error for change, error in errors if error}

    def _listed(self, places: Places, copies: Places) -> tuple[dict[str, Object], Places, Places]:
        """List Secrets; return those found, and the places of others that exist: without the label, and as copies."""
        existing: dict[str, Object] = {}
        labelled = set()
        for namespace in _lists(places):
            for secret in self._kubernetes.list_secrets(namespace, f"{SEALED_LABEL}=true"):
                place = f"{secret['metadata']['namespace']}/{secret['metadata']['name']}"
                labelled.add((secret["metadata"]["namespace"], secret["metadata"]["name"]))
                if place in places:
                    existing[place] = secret
        missing = {place: parts for place, parts in places.items() if place not in existing}
        present = {item for namespace in _lists(missing) for item in self._kubernetes.list_names(namespace)}
        return (
            existing,
            {place: parts for place, parts in missing.items() if parts in present},
            {place: parts for place, parts in copies.items() if parts in labelled},
        )

    def _by_name(self, places: Places) -> dict[str, Object]:
        secrets = each(self._get, list(places.values()), self._concurrency)
        return {place: secret for place, secret in zip(places, secrets, strict=True) if secret}

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
        for _, same_kind in groupby(sorted(changes, key=kind), key=kind):
            change = next(same_kind)
            try:
                self._write(change, dry_run=True)
            except SecretManagerError as error:
                refused[change.place] = error
        return refused

    def _write(self, change: Change, *, dry_run: bool) -> Object | None:
        if change.action is Action.RECREATED and change.existing and change.secret:
            return self._recreate(change.existing, change.secret, dry_run=dry_run)
        if change.existing and change.action in (Action.DELETED, Action.DELETING):
            with contextlib.suppress(SecretNotFound):  # gone already
                self._kubernetes.delete_secret(change.namespace, change.existing, dry_run=dry_run)
        if change.secret is None:
            return None
        write = self._kubernetes.update_secret if change.action is Action.UPDATED else self._kubernetes.create_secret
        return write(change.namespace, change.secret, dry_run=dry_run)

    def _recreate(self, existing: Object, secret: Object, *, dry_run: bool) -> Object | None:
        if copy := existing.get(LEFT):
            return recreation.restore(self._kubernetes, copy, secret, dry_run=dry_run)
        if dry_run:
            recreation.check(self._kubernetes, existing, secret)
            return None
        return recreation.recreate(self._kubernetes, existing, secret, self._timeout, crowded=True)


def _lists(places: Mapping[str, tuple[str, str]]) -> list[str | None]:
    """Return the namespaces to list; None for all at once, if there are many."""
    namespaces = sorted({namespace for namespace, _ in places.values()})
    return [None] if len(namespaces) >= LIST_FROM else list(namespaces)
