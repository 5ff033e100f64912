"""The life cycle of a lab: repair after each kind of failure, two labs at once, and complete removal."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lab import Lab

from secretmanager.servers.vault import VaultClient

SERVERS = ["etcd", "kube-apiserver", "kube-controller-manager", "vault"]


def make_lab() -> Lab:
    # Not pytest's own folder: a socket's path is short (108 bytes, unix(7)).
    return Lab(Path(tempfile.mkdtemp(prefix="kubevault-")))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    lab = make_lab()
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


def assert_whole(lab: Lab) -> None:
    assert sorted(lab.pids()) == SERVERS
    assert lab.operator().get_secret("default", "kept")["data"] == {"a": "YQ=="}
    assert as_root(lab).read_key("kept")["latest_version"] == 1


def test_a_killed_server_is_repaired_and_the_others_go_on(lab: Lab) -> None:
    before = lab.pids()
    os.kill(before["etcd"], signal.SIGKILL)
    lab.play("lab.yml")
    assert [name for name, pid in lab.pids().items() if pid != before[name]] == ["etcd"]
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
        ports, pids = set(other.ports.values()), [other.supervisord(), *other.pids().values()]
        assert ports.isdisjoint(lab.ports.values())
        assert_whole(lab)
    finally:
        other.play("lab-down.yml")
        left = other.folder.exists()
        shutil.rmtree(other.folder, ignore_errors=True)
    assert not left
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    for port in ports:
        with socket.socket() as probe:
            # Ignore closed connections (TIME_WAIT), as servers do.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    assert_whole(lab)
    assert other.play("lab-down.yml") == 0
