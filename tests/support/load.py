"""Sealers, readers and a rotator that work all the time, each with clients of its own, and note what went wrong.

Each sealer writes ascending numbers into a Secret of its own, and a reader reads it: the number that was acknowledged
when it began to read, or a later one. The rotator makes new versions of the Transit key, each of which is a write to
Vault's own storage.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from secretmanager import SecretManager
from secretmanager.errors import SecretManagerError
from secretmanager.login.session import VaultSession
from secretmanager.sealing.sealer import Sealer
from secretmanager.sealing.spec import SecretSpec
from secretmanager.sealing.stores import KubernetesStore
from secretmanager.servers.kubernetes import KubernetesClient
from secretmanager.servers.vault import VaultClient

from .servers import wait_until

PAUSE = 0.05
"""Seconds between two steps of one worker, so that servers and workers fit on one small machine."""

PATIENCE = 180.0
"""Seconds until a worker must succeed again; requests that were under way may take long."""


@dataclass(frozen=True)
class Servers:
    """Where workers find both servers, and what they work on: namespace, and name of the Transit key."""

    urls: Sequence[str]
    ca: str
    kubeconfig: str
    namespace: str
    key: str

    def vault(self, role: str) -> VaultClient:
        """Return a client that logs in as the service account with the name of its role."""
        kubernetes = self.kubernetes()
        client = VaultClient(self.urls, ca_cert=self.ca)
        login = client.login_kubernetes
        session = VaultSession(client, lambda: login(role, kubernetes.create_token(self.namespace, role, "vault")))
        client.token_source = session.token
        return client

    def kubernetes(self) -> KubernetesClient:
        return KubernetesClient.from_kubeconfig(self.kubeconfig)

    def manager(self, **options: Any) -> SecretManager:
        given = {
            "SOURCE": "KUBEVAULT",
            "kube_config": self.kubeconfig,
            "service_account": "reader",
            "namespace": self.namespace,
            "vault_url": ",".join(self.urls),
            "role": "reader",
            "ca_cert": self.ca,
        }
        return SecretManager({**given, **options})

    def read(self, manager: SecretManager, name: str) -> int:
        return int(manager.read_secrets(name, self.namespace, "SECRET", "value", self.key)["number"])


@dataclass
class Written:
    """Numbers that one writer sent, and those of which it was told that they are written."""

    sent: int = 0
    acknowledged: int = 0

    def write(self, write: Callable[[int], None]) -> None:
        self.sent += 1
        number = self.sent
        write(number)
        self.acknowledged = number


@dataclass
class Record:
    """What befell some workers of one kind.

    Attributes:
        done: number of steps that succeeded.
        errors: number of errors, by class.
        longest: longest time without a step that succeeded, in seconds.
    """

    done: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0

    def __add__(self, other: Record) -> Record:
        return Record(self.done + other.done, self.errors + other.errors, max(self.longest, other.longest))


class Worker(threading.Thread):
    """Repeats a step; an error of the package counts, and any other ends it."""

    def __init__(self, kind: str, step: Callable[[], None], pause: float = PAUSE) -> None:
        super().__init__(daemon=True)
        self.kind = kind
        self._pause = pause
        self.record = Record()
        self.failure: Exception | None = None
        self._step = step
        self._stopping = threading.Event()

    def run(self) -> None:
        since = time.monotonic()
        while not self._stopping.is_set():
            try:
                self._step()
            except SecretManagerError as error:
                self.record.errors[type(error).__name__] += 1
            except Exception as error:  # noqa: BLE001 - the test's own thread raises it
                self.failure = error
                return
            else:
                now = time.monotonic()
                self.record.longest = max(self.record.longest, now - since)
                since = now
                self.record.done += 1
            self._stopping.wait(self._pause)

    def stop(self) -> None:
        self._stopping.set()


class Load:
    """The workers; they begin with `working`.

    Args:
        servers: the servers.
        names: names of the Secrets, each with a sealer and a reader.

    Attributes:
        written: what the sealers wrote, by the Secret's name.
        rotations: number of new versions of the key that Vault acknowledged.
    """

    def __init__(self, servers: Servers, names: Sequence[str]) -> None:
        self.servers = servers
        self.written = {name: Written() for name in names}
        self.rotations = 0
        self._first_version = self._version()

    @contextmanager
    def working(self, url: str) -> Iterator[Report]:
        """Have all work within it, until each of them succeeds again; then nothing may be lost or wrong.

        Args:
            url: address of Vault that all use at first.
        """
        urls = sorted(self.servers.urls, key=lambda other: other != url)
        self.servers = replace(self.servers, urls=urls)
        report = Report(list(self._workers()))
        for worker in report.workers:
            worker.start()
        try:
            report.await_progress()
            yield report
            report.await_progress()
        finally:
            for worker in report.workers:
                worker.stop()
            for worker in report.workers:
                worker.join()
        report.raise_failure()
        report.lost = self.lost()

    def lost(self) -> list[str]:
        """Return what was acknowledged and is not there."""
        manager = self.servers.manager()
        found = {name: self.servers.read(manager, name) for name in self.written}
        manager.close()
        versions = self._version() - self._first_version
        lost = [name for name, written in self.written.items() if found[name] < written.acknowledged]
        return lost + ["versions of the key"] * (versions < self.rotations)

    def _version(self) -> int:
        return int(self.servers.vault("rotator").read_key(self.servers.key)["latest_version"])

    def _workers(self) -> Iterator[Worker]:
        for name, written in self.written.items():
            yield Worker("sealer", self._sealing(name, written))
            yield Worker("reader", self._reading(name, written))
        # Each version makes the key larger, of which Vault writes the whole.
        yield Worker("rotator", self._rotating(), pause=0.5)

    def _sealing(self, name: str, written: Written) -> Callable[[], None]:
        servers = self.servers
        sealer = Sealer(servers.vault("sealer"), KubernetesStore(servers.kubernetes()))

        def seal(number: int) -> None:
            values = {"value": json.dumps({"number": number}).encode()}
            sealer.seal([SecretSpec(servers.namespace, name, values, transit_key=servers.key)])

        return lambda: written.write(seal)

    def _reading(self, name: str, written: Written) -> Callable[[], None]:
        manager = self.servers.manager()

        def read() -> None:
            least = written.acknowledged
            number = self.servers.read(manager, name)
            assert least <= number <= written.sent, f"{name}: read {number}, of {least} to {written.sent}"

        return read

    def _rotating(self) -> Callable[[], None]:
        vault = self.servers.vault("rotator")

        def rotate() -> None:
            vault.rotate_key(self.servers.key)
            self.rotations += 1

        return rotate


@dataclass
class Report:
    """What befell the workers during one fault.

    Attributes:
        workers: the workers.
        lost: what was acknowledged and is not there.
    """

    workers: list[Worker]
    lost: list[str] = field(default_factory=list)

    def records(self) -> dict[str, Record]:
        """Return the record of each kind of worker."""
        found: dict[str, Record] = {}
        for worker in self.workers:
            found[worker.kind] = found.get(worker.kind, Record()) + worker.record
        return found

    def raise_failure(self) -> None:
        """Raise what no worker should, such as for a wrong value that was read."""
        for worker in self.workers:
            if worker.failure:
                raise worker.failure

    def await_progress(self) -> None:
        """Wait until each worker has made a step that began from now on."""
        before = [worker.record.done for worker in self.workers]

        def progressed() -> bool:
            self.raise_failure()
            return all(worker.record.done > done + 1 for worker, done in zip(self.workers, before, strict=True))

        wait_until("progress of all workers", progressed, PATIENCE)
