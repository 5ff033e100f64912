"""The life cycle of a lab: repair after each kind of failure, two labs at once, and complete removal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ansible import ROOT
from support.lab import Lab
from support.search import processes
from support.servers import wait_until

from secretmanager.servers.vault import VaultClient

SERVERS = ["etcd", "kube-apiserver", "kube-controller-manager", "vault"]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    # Not pytest's own folder: a socket's path is short (108 bytes, unix(7)).
    lab = Lab(Path(tempfile.mkdtemp(prefix="kubevault-")))
    try:
        lab.play("lab.yml")
        vault = as_root(lab)
        assert vault.request("POST", "sys/mounts/transit", {"type": "transit"}).ok
        assert vault.request("POST", "transit/keys/kept", {}).ok
        lab.operator().create_secret("default", {"metadata": {"name": "kept"}, "data": {"a": "YQ=="}})
        yield lab
    finally:
        lab.play("lab-down.yml")


def as_root(lab: Lab) -> VaultClient:
    return lab.vault(token=(lab.folder / "vault/root-token").read_text().strip())


def pids(lab: Lab) -> dict[str, int]:
    """Return the process IDs of all servers, once supervisord says that all run: a second after their start."""
    wait_until("all servers", lambda: sorted(lab.pids()) == SERVERS)
    return lab.pids()


def of_lab(lab: Lab) -> set[int]:
    """Return the processes that name the lab's folder, as each of its servers does."""
    return {pid for pid, command in processes() if str(lab.folder) in command}


def assert_whole(lab: Lab) -> None:
    pids(lab)
    assert lab.operator().get_secret("default", "kept")["data"] == {"a": "YQ=="}
    assert as_root(lab).read_key("kept")["latest_version"] == 1


def test_a_killed_server_and_a_sealed_vault_are_repaired_and_the_others_go_on(lab: Lab) -> None:
    """Vault's process runs: only Vault itself says that it is of no use."""

    def status() -> tuple[int, str]:
        variables = {"KUBEVAULT_LAB": lab.folder, "VENV": sys.prefix, "PYTHON": sys.executable}
        run = ["make", "--silent", "lab-status", *(f"{name}={value}" for name, value in variables.items())]
        done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.splitlines()[-1]

    before = pids(lab)
    assert as_root(lab).request("PUT", "sys/seal", {}).ok
    assert status() == (2, "vault is sealed; repair the lab: make lab-up")
    os.kill(before["etcd"], signal.SIGKILL)
    lab.play("lab.yml")
    assert [name for name, pid in pids(lab).items() if pid != before[name]] == ["etcd"]
    assert status() == (0, "vault is unsealed")
    assert_whole(lab)


def test_all_servers_and_their_supervisor_killed_at_once_are_repaired(lab: Lab) -> None:
    for pid in (lab.supervisord(), *lab.pids().values()):
        os.kill(pid, signal.SIGKILL)
    lab.play("lab.yml")
    assert_whole(lab)


def test_two_labs_live_side_by_side_and_one_goes_without_a_trace(lab: Lab) -> None:
    other = Lab(Path(os.environ["KUBEVAULT_LAB"]))  # that of the other tests
    before = other.pids()
    ports = set(lab.ports.values())
    assert {lab.supervisord(), *lab.pids().values()} <= of_lab(lab), "otherwise the test proves nothing"
    assert ports.isdisjoint(other.ports.values())
    lab.play("lab-down.yml")
    assert not lab.folder.exists()
    assert of_lab(lab) == set()
    for port in ports:
        with socket.socket() as probe:
            # Ignore closed connections (TIME_WAIT), as servers do.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    assert other.pids() == before
    assert lab.play("lab-down.yml") == 0
