"""A Lease of Kubernetes, by which one rotation of a key runs at a time in a cluster.

It spares work and conflicts. That nothing is lost where two run all the same is due to the compare-and-swap of each
Secret, so a Lease does not have to be exact to the second.

Source: https://kubernetes.io/docs/concepts/architecture/leases/; the fields mean what leader election means by them
(https://pkg.go.dev/k8s.io/client-go/tools/leaderelection), which does not compare the clocks of two machines either.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from ..admin.definitions import lease_name
from ..errors import ConfigError, ConflictError, KubernetesError, LeaseHeld, SecretNotFound
from ..servers.kubernetes import KubernetesClient, Object
from .planning import Shard

DURATION = 30
"""Time after which a Lease that its holder does not renew is taken over, in seconds."""


@contextmanager
def held(
    kubernetes: KubernetesClient, namespace: str, name: str, holder: str | None = None, *, duration: int = DURATION
) -> Iterator[Lease]:
    """Hold a Lease: it is created or taken over at the beginning, renewed by a thread, and released in the end.

    Args:
        kubernetes: client whose user may ``get``, ``create`` and ``update`` the Lease.
        namespace: the Lease's namespace.
        name: its name; `admin.definitions.lease_name` makes that of a Transit key.
        holder: who holds it; its own former Lease is taken over at once. The default is unique.
        duration: time after which another one may take it over if it is not renewed, in seconds.

    Raises:
        LeaseHeld: another one holds it, and renewed it within its time.
        Forbidden: RBAC lacks a verb on the Lease.
        SecretNotFound: the namespace does not exist.
    """
    lease = Lease(kubernetes, namespace, name, holder or f"{socket.gethostname()}_{uuid.uuid4()}", duration)
    lease.acquire()
    stop = threading.Event()
    renewer = threading.Thread(target=lease.keep, args=(stop,), name=f"lease {name}", daemon=True)
    renewer.start()
    try:
        yield lease
    finally:
        stop.set()
        renewer.join()
        lease.release()


@contextmanager
def one_at_a_time(
    kubernetes: KubernetesClient | None, namespace: str | None, transit_key: str, shard: Shard | None = None
) -> Iterator[Callable[[], None]]:
    """Hold the Lease of a rotation, if there is a namespace for it; yield a function that checks that it is still held.

    Args:
        kubernetes: as of `held`.
        namespace: the Lease's namespace; None to hold none.
        transit_key: the key that is rotated.
        shard: part of the Secrets, which has a Lease of its own.

    Raises:
        ConfigError: there is a namespace, and no Kubernetes.
        LeaseHeld, Forbidden, SecretNotFound: as `held`.
    """
    if not namespace:
        yield lambda: None
    elif kubernetes is None:
        raise ConfigError("lease_namespace: a Lease needs Kubernetes")
    else:
        name = lease_name(transit_key, (shard.index, shard.count) if shard else None)
        with held(kubernetes, namespace, name) as lease:
            yield lease.check


class Lease:
    """A Lease; arguments as of `held`, which is how to use it. Threads may share it."""

    def __init__(self, kubernetes: KubernetesClient, namespace: str, name: str, holder: str, duration: int) -> None:
        self.holder = holder
        self._kubernetes = kubernetes
        self._namespace = namespace
        self._name = name
        self._duration = duration
        self._current: Object | None = None
        self._until = 0.0
        self._taken_by: str | None = None

    def check(self) -> None:
        """Return if it is still held; to be called before each write.

        Raises:
            LeaseHeld: another one took it over, or may have done so, because it could not be renewed in time.
        """
        if self._taken_by is not None:
            raise self._refusal(f"it was taken over by {self._taken_by}", self._taken_by)
        if time.monotonic() > self._until:
            raise self._refusal(f"it could not be renewed for {self._duration} s, so that another one may hold it", "")

    def acquire(self) -> None:
        """Create it, or take it over: at once if nobody holds it, else if its holder does not renew it within its time.

        Raises:
            LeaseHeld, Forbidden, SecretNotFound: as `held`.
        """
        observed_spec, since = None, 0.0
        while True:
            self._current = self._read()
            spec = _spec(self._current)
            other = spec.get("holderIdentity")
            if other and other != self.holder:
                if spec != observed_spec:
                    if observed_spec:
                        raise self._refusal(f"{other} holds it since {spec.get('acquireTime')}", other)
                    observed_spec, since = spec, time.monotonic()
                duration = spec.get("leaseDurationSeconds") or self._duration
                if (remaining := since + duration - time.monotonic()) > 0:
                    time.sleep(min(1.0, remaining))
                    continue
            with suppress(ConflictError):  # another one was faster
                return self._write(spec, other)

    def keep(self, stop: threading.Event) -> None:
        """Renew it, three times within its duration, until an event is set or it is lost."""
        while self._taken_by is None and not stop.wait(self._duration / 3):
            # The API may be back before the time is over; `check` knows when it is.
            with suppress(KubernetesError):
                self._renew()

    def release(self) -> None:
        """Let others have it at once, unless it is lost. Where the API is unreachable, its time ends it."""
        if self._taken_by is None and time.monotonic() < self._until:
            with suppress(KubernetesError):
                spec = {**_spec(self._current), "leaseDurationSeconds": 1, "renewTime": _now()}
                del spec["holderIdentity"]
                self._put(spec)

    def _renew(self) -> None:
        try:
            self._write(_spec(self._current), self.holder)
        except (ConflictError, SecretNotFound):
            self._current = self._read()
            spec = _spec(self._current)
            if spec.get("holderIdentity") != self.holder:
                self._taken_by = spec.get("holderIdentity") or "nobody: it was deleted or released"
                return
            self._write(spec, self.holder)

    def _write(self, spec: dict[str, Any], previous_holder: str | None) -> None:
        now, start = _now(), time.monotonic()
        spec = {**spec, "holderIdentity": self.holder, "leaseDurationSeconds": self._duration, "renewTime": now}
        if previous_holder != self.holder:
            transitions = int(spec.get("leaseTransitions", -1)) + 1
            spec |= {"acquireTime": now, "leaseTransitions": transitions}
        self._put(spec)
        self._until = start + self._duration

    def _put(self, spec: dict[str, Any]) -> None:
        lease = self._current or {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name},
        }
        self._current = self._kubernetes.put_lease(self._namespace, {**lease, "spec": spec})

    def _read(self) -> Object | None:
        try:
            return self._kubernetes.get_lease(self._namespace, self._name)
        except SecretNotFound:
            return None

    def _refusal(self, message: str, holder: str) -> LeaseHeld:
        return LeaseHeld(f"Lease {self._name}: {message}", holder=holder, place=f"{self._namespace}/{self._name}")


def _spec(lease: Object | None) -> dict[str, Any]:
    return dict(lease["spec"]) if lease else {}


def _now() -> str:
    """Return the time as the API's MicroTime."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
