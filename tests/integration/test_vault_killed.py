"""Vault is initialised, or restored, by a process that is killed at some request; then it is done again."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.intermediary import Intermediary
from support.servers import Authority, PrivateVault, running

from kubevault_lab.ports import free_port
from secretmanager.servers.vault import TransitItem

PROGRAM = """
import json, sys
from pathlib import Path
from secretmanager.admin.connection import Vault
from secretmanager.admin.initialisation import Initialisation, ensure_unsealed
from secretmanager.admin.restoration import Snapshot, restore
from secretmanager.errors import SecretManagerError
from secretmanager.servers.vault import VaultClient

action, url, ca, folder = sys.argv[1:]

def connect(url, token):
    return Vault(VaultClient(url, ca_cert=ca, token=token, retries=0))

keys, token = f"{folder}/keys.json", f"{folder}/root-token"
try:
    if action == "init":
        ensure_unsealed(connect(url, ""), Initialisation(3, 2, keys, token), timeout=30)
    else:
        snapshot = Snapshot(Path(folder, "snapshot"))
        files = {f"{name}_file": f"{folder}/{name}" for name in ("temporary", "note", "privileged_token")}
        restore(connect, [url], snapshot, keys, **files, timeout=30)
except SecretManagerError as error:
    sys.exit(str(error))
"""
"""What vault_init and vault_restore do, in one process that can be killed."""

REFUSED = "the process that initialised Vault was interrupted before it had the keys"


class Site:
    """A Vault with Raft storage, the files of its keys, and something in front of it that sees each request.

    Attributes:
        refused: requests after which `kill_at_each_request` had to begin with an empty Vault again.
        points: number of runs of `kill_at_each_request`, the one included that was not killed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._data = folder / "data"
        raft = {"path": str(self._data), "node_id": "vault", "performance_multiplier": 1}
        port = free_port()
        # What leads says this address, so that each request is seen.
        address = {"VAULT_API_ADDR": f"https://127.0.0.1:{port}"}
        self.vault = PrivateVault(folder, address, storage={"raft": raft})
        authority = Authority(folder, "between")
        self._ca = str(authority.file)
        self.between = Intermediary(self.vault.url, self.vault.ca, authority.issue("front"), port)
        self.refused: list[str] = []
        self.points = 0

    def empty(self) -> None:
        """Have a Vault without data, as a new host has."""
        self._stop()
        self._data.mkdir()
        self.vault.start(unseal=False)

    def _stop(self) -> None:
        self.vault.kill()
        shutil.rmtree(self._data, ignore_errors=True)

    def init(self) -> None:
        """Initialise an empty Vault, and use its root token."""
        assert self.run("init") == ""
        self.vault.root.token = (self.folder / "root-token").read_text().strip()

    def snapshot(self) -> bytes:
        headers = {"X-Vault-Token": str(self.vault.root.token)}
        return bytes(self.between.forward("GET", "/v1/sys/storage/raft/snapshot", b"", headers).read())

    def other(self) -> Callable[[], None]:
        """Make another Vault; return what has it run, unsealed, with its root token as the privileged one."""
        other = self.folder / "other"
        other.mkdir()
        self.empty()
        assert self.run("init", other) == ""
        self.vault.kill()
        self._data.rename(other / "data")
        keys = json.loads((other / "keys.json").read_text())["unseal_keys_b64"]

        def run() -> None:
            self._stop()
            shutil.copytree(other / "data", self._data)
            self.vault.start(unseal=False)
            for key in keys[:2]:
                assert self.vault.root.request("POST", "sys/unseal", {"key": key}).ok
            shutil.copy(other / "root-token", self.folder / "privileged_token")
            (self.folder / "note").unlink(missing_ok=True)

        return run

    def start(self, action: str, folder: Path | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, action, self.between.url, self._ca, folder or self.folder]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, action: str, folder: Path | None = None) -> str:
        """Return what the process said; nothing if all is well. Another folder may hold its files."""
        process = self.start(action, folder)
        output = process.communicate(timeout=120)[0]
        assert process.returncode == (1 if output else 0), output
        return output

    def run_killed(self, action: str, point: int, lost: str) -> str | None:
        """Start the process, and kill it at a request.

        Args:
            action: "init" or "restore".
            point: number of the request, where those that it repeats while it waits count as one.
            lost: "request", so that Vault does not get it, or "response", so that only the process does not.

        Returns:
            The request; None if the process ended well with fewer requests.
        """
        process, seen = self.start(action), []

        def at(path: str) -> bool:
            if path.endswith("/unseal") or seen[-1:] != [path]:
                seen.append(path)
            if len(seen) < point:
                return False
            process.kill()
            process.wait()
            return True

        if lost == "request":
            self.between.answer = lambda path: b"" if at(path) else None
        else:
            self.between.after = at
        output = process.communicate(timeout=120)[0]
        self.between.answer, self.between.after = lambda path: None, lambda path: None
        assert process.returncode in (0, -signal.SIGKILL), output
        return None if process.returncode == 0 else seen[-1]

    def kill_at_each_request(self, action: str, lost: str, begin: Callable[[], None] | None = None) -> Iterator[None]:
        """Kill the process at one request after the other, each time for an empty Vault, and run it again.

        Yields once all is well again, and at last where it was not killed. Where the data has to be deleted before the
        process runs again, as it says, the request gets into `refused`. Something else than an empty Vault is what
        `begin` has run.
        """
        for point in itertools.count(1):
            (begin or self.empty)()
            if action == "init":
                for name in ("keys.json", "root-token"):
                    (self.folder / name).unlink(missing_ok=True)
            request = self.run_killed(action, point, lost)
            if request and (said := self.run(action)):
                assert REFUSED in said
                self.refused.append(request)
                self.empty()
                assert self.run(action) == ""
            assert not self.sealed()
            assert self.left() == []
            self.points = point
            yield
            if not request:
                return

    def left(self) -> list[str]:
        """Return the names of files that nobody needs any more."""
        return [path.name for path in self.folder.iterdir() if path.name.startswith((".", "temporary"))]

    def sealed(self) -> bool:
        return bool(self.vault.root.request("GET", "sys/seal-status").json()["sealed"])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    with running(site.vault, site.empty):
        yield site
    site.between.close()


@pytest.mark.parametrize("lost", ["request", "response"])
def test_an_initialisation_that_was_killed(site: Site, lost: str) -> None:
    for _ in site.kill_at_each_request("init", lost):
        assert len(json.loads((site.folder / "keys.json").read_text())["unseal_keys_b64"]) == 3
        token = (site.folder / "root-token").read_text().strip()
        assert site.vault.root.request("GET", "auth/token/lookup-self", token=token).ok
    assert site.refused == ([] if lost == "request" else ["/v1/sys/init"])
    assert site.points > 5


@pytest.fixture
def ciphertext(site: Site) -> str:
    """What the Vault sealed whose snapshot and keys are in the site's folder."""
    site.init()
    site.vault.write("sys/mounts/transit", type="transit")
    site.vault.write("transit/keys/shop")
    (ciphertext,) = site.vault.root.encrypt("shop", [TransitItem(b"PLAIN")])
    (site.folder / "snapshot").write_bytes(site.snapshot())
    return ciphertext


def test_a_restoration_that_was_killed(site: Site, ciphertext: str) -> None:
    for _ in site.kill_at_each_request("restore", "response"):
        assert site.vault.root.decrypt("shop", [TransitItem(ciphertext.encode())]) == [b"PLAIN"]
    assert site.refused == ["/v1/sys/init"]
    assert site.points > 10


def test_a_restoration_over_another_vault_that_was_killed(site: Site, ciphertext: str) -> None:
    for _ in site.kill_at_each_request("restore", "response", begin=site.other()):
        assert site.vault.root.decrypt("shop", [TransitItem(ciphertext.encode())]) == [b"PLAIN"]
        assert not (site.folder / "privileged_token").exists()
    assert site.refused == []
    assert site.points > 10


def test_what_was_restored_is_not_overwritten_again(site: Site, ciphertext: str) -> None:
    """As long as nothing says that the restoration has ended, and nobody gives a privileged token."""
    site.empty()
    assert site.run("restore") == ""
    site.vault.write("transit/keys/later")
    assert site.run("restore") == ""
    assert site.vault.root.request("GET", "transit/keys/later").ok
    former = (site.folder / "snapshot").read_bytes()
    (site.folder / "snapshot").write_bytes(site.snapshot())
    assert "privileged_token is missing, but" in site.run("restore")
    (site.folder / "snapshot").write_bytes(former)
    (site.folder / "note").unlink()
    assert "privileged_token is missing, but" in site.run("restore")
