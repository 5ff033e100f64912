"""The lab's life: two at once, repaired after every kind of death, and gone when it is taken down."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.ansible import BIN, play_in_lab

from kubevault_lab import environment
from secretmanager.servers.kubernetes import KubernetesClient
from secretmanager.servers.vault import VaultClient

SERVERS = ["etcd", "kube-apiserver", "kube-controller-manager", "vault"]


@dataclass(frozen=True)
class Lab:
    folder: Path

    def play(self, playbook: str) -> int:
        """Run a playbook; give how many tasks changed something."""
        return play_in_lab(f"playbooks/{playbook}", self.folder).changed

    @property
    def env(self) -> dict[str, str]:
        return environment.read(self.folder)

    @property
    def ports(self) -> set[int]:
        return set(json.loads((self.folder / "ports.json").read_text()).values())

    def kubernetes(self) -> KubernetesClient:
        return KubernetesClient.from_kubeconfig(self.env["KUBECONFIG"])

    def vault(self) -> VaultClient:
        token = (self.folder / "vault/root-token").read_text().strip()
        return VaultClient(self.env["VAULT_ADDR"], ca_cert=self.env["VAULT_CACERT"], token=token)

    def pids(self) -> dict[str, int]:
        """Return the process of each server."""
        command = [BIN / "supervisorctl", "-c", self.folder / "supervisord.conf", "status"]
        status = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return {name: int(pid) for name, pid in re.findall(r"^(\S+)\s+RUNNING\s+pid (\d+)", status, re.M)}

    def supervisord(self) -> int:
        return int((self.folder / "supervisord.pid").read_text())


def make_lab() -> Lab:
    # Not pytest's own folder: a socket's path is short (108 bytes, unix(7)).
    return Lab(Path(tempfile.mkdtemp(prefix="kubevault-")))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    lab = make_lab()
    try:
        lab.play("lab.yml")
        vault = lab.vault()
        assert vault.request("POST", "sys/mounts/transit", {"type": "transit"}).ok
        assert vault.request("POST", "transit/keys/kept", {}).ok
        lab.kubernetes().create_secret("default", {"metadata": {"name": "kept"}, "data": {"a": "YQ=="}})
        yield lab
    finally:
        lab.play("lab-down.yml")


def assert_whole(lab: Lab) -> None:
    assert sorted(lab.pids()) == SERVERS
    assert lab.kubernetes().get_secret("default", "kept")["data"] == {"a": "YQ=="}
    assert lab.vault().read_key("kept")["latest_version"] == 1


def test_a_second_run_changes_nothing(lab: Lab) -> None:
    before = lab.pids()
    assert lab.play("lab.yml") == 0
    assert lab.pids() == before


@pytest.mark.parametrize("name", SERVERS)
def test_a_killed_server_is_repaired(lab: Lab, name: str) -> None:
    pid = lab.pids()[name]
    os.kill(pid, signal.SIGKILL)
    lab.play("lab.yml")
    assert lab.pids()[name] != pid
    assert_whole(lab)


def test_all_servers_and_their_supervisor_killed_at_once_are_repaired(lab: Lab) -> None:
    for pid in (lab.supervisord(), *lab.pids().values()):
        os.kill(pid, signal.SIGKILL)
    lab.play("lab.yml")
    assert_whole(lab)


def test_two_labs_live_side_by_side_and_one_goes_without_a_trace(lab: Lab) -> None:
    other = make_lab()
    try:
        other.play("lab.yml")
        ports, pids = other.ports, [other.supervisord(), *other.pids().values()]
        assert ports.isdisjoint(lab.ports)
        assert_whole(lab)
    finally:
        other.play("lab-down.yml")
        shutil.rmtree(other.folder, ignore_errors=True)
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert not other.folder.exists()
    for port in ports:
        with socket.socket() as probe:
            # As servers do: connections that have ended (TIME_WAIT) do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    assert_whole(lab)
    assert other.play("lab-down.yml") == 0
