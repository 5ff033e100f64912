"""Vault is initialised, or restored, by a process that is killed at some request; then it is done again."""

from __future__ import annotations

import json
import queue
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.forked import Forked
from support.intermediary import Intermediary
from support.servers import Authority, PrivateVault, wait_until
from support.vault_admin import initialise_vault, restore_vault

from kubevault_lab.ports import free_port
from secretmanager.servers.vault import TransitItem

Action = Callable[[str, str, Path], None]
"""What a process does with a Vault: its address, file of its CA, and the folder of its files."""

READS = ("auth/token/lookup-self", "sys/health", "sys/leader", "sys/seal-status")
"""Requests that change nothing."""

REFUSED = "the process that initialised Vault was interrupted before it had the keys"

VAULTS = 4
"""How many are killed at the same time: most of the time, each waits until Vault has elected itself."""


@dataclass(frozen=True)
class Killed:
    """A process that was killed, after which all is well again.

    Attributes:
        request: the request at which it was; None if it ended well with fewer requests.
        refused: whether the data had to be deleted before it ran again, as it said.
    """

    request: str | None
    refused: bool


class Site:
    """A Vault with Raft storage, the files of its keys, and something in front of it that sees each request."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._data = folder / "data"
        self._other = folder / "other"
        raft = {"path": str(self._data), "node_id": "vault", "performance_multiplier": 1}
        port = free_port()
        # What leads says this address, so that each request is seen.
        address = {"VAULT_API_ADDR": f"https://127.0.0.1:{port}"}
        self.vault = PrivateVault(folder, address, storage={"raft": raft})
        authority = Authority(folder, "between")
        self._ca = str(authority.file)
        self.between = Intermediary(self.vault.url, self.vault.ca, authority.issue("front"), port)

    def close(self) -> None:
        self.vault.program.end()
        self.between.close()

    def begin_empty(self) -> None:
        """Have a Vault without data, as a new host has."""
        self._stop()
        self._data.mkdir()
        self.vault.start(unseal=False)

    def begin_with_another(self) -> None:
        """Have another Vault that runs, unsealed, with its root token as the privileged one."""
        if not self._other.exists():
            self._other.mkdir()
            self.begin_empty()
            assert self.run(initialise_vault, self._other) == ""
            self.vault.kill()
            self._data.rename(self._other / "data")
        self._stop()
        shutil.copytree(self._other / "data", self._data)
        self.vault.start(unseal=False)
        for key in json.loads((self._other / "keys.json").read_text())["unseal_keys_b64"][:2]:
            assert self.vault.root.request("POST", "sys/unseal", {"key": key}).ok
        shutil.copy(self._other / "root-token", self.folder / "privileged_token")
        (self.folder / "note").unlink(missing_ok=True)

    def _stop(self) -> None:
        self.vault.kill()
        shutil.rmtree(self._data, ignore_errors=True)

    def snapshot(self) -> bytes:
        headers = {"X-Vault-Token": str(self.vault.root.token)}
        return bytes(self.between.forward("GET", "/v1/sys/storage/raft/snapshot", b"", headers).read())

    def start(self, action: Action, folder: Path | None = None) -> Forked:
        return Forked(action, self.between.url, self._ca, folder or self.folder)

    def run(self, action: Action, folder: Path | None = None) -> str:
        """Return what the process said; nothing if all is well. Another folder may hold its files."""
        process = self.start(action, folder)
        status = process.wait()
        assert status == (1 if process.output else 0), process.output
        return process.output

    def run_killed(self, action: Action, point: int, lost: str) -> str | None:
        """Start the process, and kill it at a request.

        Args:
            action: what it does.
            point: number of the request, where those in a row that only read, and change nothing, count as one.
            lost: "request", so that Vault does not get it, or "response", so that only the process does not.

        Returns:
            The request; None if the process ended well with fewer requests.
        """
        processes: queue.SimpleQueue[Forked] = queue.SimpleQueue()
        seen: list[str] = []

        def at(path: str) -> bool:
            path = path.partition("?")[0].removeprefix("/v1/")
            if not (path in READS and seen and seen[-1] in READS):
                seen.append(path)
            if len(seen) < point:
                return False
            if seen[-2:-1] == ["sys/unseal"] and path in READS:
                wait_until("an open Vault", self.is_open)
            processes.get().kill()
            return True

        if lost == "request":
            self.between.answer = lambda path: b"" if at(path) else None
        else:
            self.between.after = at
        process = self.start(action)
        processes.put(process)
        status = process.wait()
        self.between.answer, self.between.after = lambda path: None, lambda path: None
        assert status in (0, -signal.SIGKILL), process.output
        return None if status == 0 else seen[-1]

    def kill_and_run_again(self, action: Action, point: int, lost: str, begin: Callable[[], None]) -> Killed:
        """Kill the process at a request, and run it again; arguments as of `run_killed`.

        `begin` provides the Vault: an empty one, or another. Where its data has to be deleted, it is empty then.
        """
        begin()
        if action is initialise_vault:
            for name in ("keys.json", "root-token"):
                (self.folder / name).unlink(missing_ok=True)
        request = self.run_killed(action, point, lost)
        # Only then a run may be refused; otherwise Vault may be at work now, which changes its data.
        before = self.state() if request == "sys/init" else None
        refusal = self.run(action) if request else ""
        if refusal:
            assert REFUSED in refusal
            assert self.state() == before
            self.begin_empty()
            assert self.run(action) == ""
        assert self.is_open()
        assert self.left() == []
        return Killed(request, bool(refusal))

    def state(self) -> tuple[dict[str, bytes], Any]:
        """Return the contents of all files, Vault's data among them, but not its log; and what it says of its seal."""
        files = {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        del files[str(self.vault.program.log)]
        return files, self.vault.root.request("GET", "sys/seal-status").json()

    def is_open(self) -> bool:
        return self.vault.root.request("GET", "sys/health").status == 200

    def left(self) -> list[str]:
        """Return the names of files that nobody needs any more."""
        return [path.name for path in self.folder.iterdir() if path.name.startswith((".", "temporary"))]


def kill_at_each_request(sites: Sequence[Site], kill: Callable[[Site, int], Killed]) -> list[Killed]:
    """Kill a process at each of its requests, and at last let it end by itself, with several Vaults at the same time.

    Args:
        sites: the Vaults.
        kill: kills it at the request of a number, and checks that all is well again.

    Returns:
        The killed processes, by the number of the request.
    """
    killed: list[Killed] = []
    with ThreadPoolExecutor(len(sites)) as pool:
        while all(one.request for one in killed):
            points = range(len(killed) + 1, len(killed) + len(sites) + 1)
            killed += pool.map(kill, sites, points)
    return [one for one in killed if one.request]


def writes(killed: Sequence[Killed]) -> list[str]:
    """Return the requests that change something in Vault at which a process was killed, in order."""
    return [str(one.request) for one in killed if one.request not in READS]


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[list[Site]]:
    sites = [Site(tmp_path / str(number)) for number in range(VAULTS)]
    yield sites
    for site in sites:
        site.close()


@pytest.fixture
def ciphertext(sites: list[Site]) -> str:
    """What the Vault sealed whose snapshot and keys are in the folder of each site."""
    first, *others = sites
    first.begin_empty()
    assert first.run(initialise_vault) == ""
    first.vault.root.token = (first.folder / "root-token").read_text().strip()
    first.vault.write("sys/mounts/transit", type="transit")
    first.vault.write("transit/keys/shop")
    (ciphertext,) = first.vault.root.encrypt("shop", [TransitItem(b"PLAIN")])
    (first.folder / "snapshot").write_bytes(first.snapshot())
    for site in others:
        site.vault.root.token = first.vault.root.token
        for name in ("snapshot", "keys.json"):
            shutil.copy(first.folder / name, site.folder)
    return ciphertext


def assert_restored(site: Site, ciphertext: str) -> None:
    assert site.vault.root.decrypt("shop", [TransitItem(ciphertext.encode())]) == [b"PLAIN"]


UNSEALED = ["sys/unseal"] * 3
"""The former keys are forgotten, and two entered."""


@pytest.mark.parametrize("lost", ["request", "response"])
def test_an_initialisation_that_was_killed(sites: list[Site], lost: str) -> None:
    def kill(site: Site, point: int) -> Killed:
        killed = site.kill_and_run_again(initialise_vault, point, lost, site.begin_empty)
        assert len(json.loads((site.folder / "keys.json").read_text())["unseal_keys_b64"]) == 3
        token = (site.folder / "root-token").read_text().strip()
        assert site.vault.root.request("GET", "auth/token/lookup-self", token=token).ok
        return killed

    killed = kill_at_each_request(sites, kill)
    assert [one.request for one in killed if one.refused] == ([] if lost == "request" else ["sys/init"])
    assert writes(killed) == ["sys/init", *UNSEALED]


def test_a_restoration_that_was_killed(sites: list[Site], ciphertext: str) -> None:
    def kill(site: Site, point: int) -> Killed:
        killed = site.kill_and_run_again(restore_vault, point, "response", site.begin_empty)
        assert_restored(site, ciphertext)
        return killed

    killed = kill_at_each_request(sites, kill)
    assert [one.request for one in killed if one.refused] == ["sys/init"]
    restored = ["auth/token/create-orphan", "sys/storage/raft/snapshot-force"]
    assert writes(killed) == ["sys/init", *UNSEALED, *restored, *UNSEALED]


def test_a_restoration_over_another_vault_that_was_killed(sites: list[Site], ciphertext: str) -> None:
    def kill(site: Site, point: int) -> Killed:
        killed = site.kill_and_run_again(restore_vault, point, "response", site.begin_with_another)
        assert_restored(site, ciphertext)
        assert not (site.folder / "privileged_token").exists()
        return killed

    killed = kill_at_each_request(sites, kill)
    assert [one.request for one in killed if one.refused] == []
    assert writes(killed) == ["auth/token/create-orphan", "sys/storage/raft/snapshot-force", *UNSEALED]


def test_what_was_restored_is_not_overwritten_again(sites: list[Site], ciphertext: str) -> None:
    """As long as nothing says that the restoration has ended, and nobody gives a privileged token."""
    site = sites[0]
    site.begin_empty()
    assert site.run(restore_vault) == ""
    site.vault.write("transit/keys/later")
    assert site.run(restore_vault) == ""
    assert site.vault.root.request("GET", "transit/keys/later").ok
    former = (site.folder / "snapshot").read_bytes()
    (site.folder / "snapshot").write_bytes(site.snapshot())
    assert "privileged_token is missing, but" in site.run(restore_vault)
    (site.folder / "snapshot").write_bytes(former)
    (site.folder / "note").unlink()
    assert "privileged_token is missing, but" in site.run(restore_vault)
