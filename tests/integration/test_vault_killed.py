"""Vault is initialised, or restored, by a process that is killed at some request; then it is done again."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.intermediary import Intermediary
from support.servers import Authority, PrivateVault, running

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
        files = {"temporary_file": f"{folder}/temporary", "privileged_token_file": f"{folder}/privileged"}
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
        self.vault = PrivateVault(folder, storage={"raft": raft})
        authority = Authority(folder, "between")
        self._ca = str(authority.file)
        self.between = Intermediary(self.vault.url, self.vault.ca, authority.issue("front"))
        self.refused: list[str] = []
        self.points = 0

    def empty(self) -> None:
        """Have a Vault without data, as a new host has."""
        self.vault.kill()
        shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir()
        self.vault.start(unseal=False)

    def start(self, action: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, action, self.between.url, self._ca, self.folder]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, action: str) -> str:
        """Return what the process said; nothing if all is well."""
        process = self.start(action)
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

    def kill_at_each_request(self, action: str, lost: str) -> Iterator[None]:
        """Kill the process at one request after the other, each time for an empty Vault, and run it again.

        Yields once all is well again, and at last where it was not killed. Where the data has to be deleted before the
        process runs again, as it says, the request gets into `refused`.
        """
        for point in itertools.count(1):
            self.empty()
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


def test_a_restoration_that_was_killed(site: Site) -> None:
    assert site.run("init") == ""
    vault = site.vault.root
    vault.token = (site.folder / "root-token").read_text().strip()
    site.vault.write("sys/mounts/transit", type="transit")
    site.vault.write("transit/keys/shop")
    (ciphertext,) = vault.encrypt("shop", [TransitItem(b"PLAIN")])
    headers = {"X-Vault-Token": str(vault.token)}
    snapshot = site.between.forward("GET", "/v1/sys/storage/raft/snapshot", b"", headers).read()
    (site.folder / "snapshot").write_bytes(snapshot)
    for _ in site.kill_at_each_request("restore", "response"):
        assert vault.decrypt("shop", [TransitItem(ciphertext.encode())]) == [b"PLAIN"]
    assert site.refused == ["/v1/sys/init"]
    assert site.points > 10
