"""Snapshots of three nodes, and the drill: all are lost, and come back from a snapshot and the unseal keys."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.ansible import ROOT
from support.vault_nodes import VaultNodes

from secretmanager.servers.vault import TransitItem

PROGRAM = ROOT / "roles/vault-snapshot/files/vault-snapshot"
VALUES = [b"PLAIN-a", b"PLAIN-b"]


class Backup:
    """What roles/vault-snapshot sets up on each host, without systemd, which loopback has not."""

    def __init__(self, nodes: VaultNodes) -> None:
        self.nodes = nodes
        self.folder = nodes.folder / "backup"
        self.folder.mkdir()
        self.identity = self.folder / "identity"
        made = subprocess.run(["age-keygen", "-o", self.identity], check=True, capture_output=True, text=True).stderr
        (self.folder / "recipients").write_text(made.split("Public key: ")[1])

    def run(self, action: str, name: str, **changed: Any) -> subprocess.CompletedProcess[str]:
        """Run the program as on the host of a node."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        settings = {
            "url": self.nodes.url(name),
            "ca_cert": self.nodes.ca,
            "token_file": str(self.nodes.folder / "secrets/snapshot-token"),
            "folder": str(folder),
            "encrypt": ["age", "--encrypt", "--recipients-file", str(self.folder / "recipients")],
            "suffix": ".age",
            "copy": [],
            "keep": {"days": 7, "weeks": 5, "months": 12},
            "max_age": 60,
            "timeout": 60,
            **changed,
        }
        (folder / "configuration.json").write_text(json.dumps(settings))
        return subprocess.run(
            [PROGRAM, action, folder / "configuration.json"], check=False, capture_output=True, text=True
        )

    def snapshots(self) -> list[Path]:
        return sorted(self.folder.glob("*/vault-*.snap.age"))

    def variables(self, **more: Any) -> list[str]:
        given = {
            "vault_server_snapshot": str(self.snapshots()[-1]),
            "vault_server_snapshot_decrypt": ["age", "--decrypt", "--identity", str(self.identity)],
            **more,
        }
        return ["--extra-vars", json.dumps(given)]


@pytest.fixture(scope="module")
def nodes() -> Iterator[VaultNodes]:
    """Three nodes. The folder's path is short, for supervisord's socket."""
    folder = Path(tempfile.mkdtemp(prefix="kubevault-snap."))
    nodes = VaultNodes(
        folder,
        ["vault-1", "vault-2", "vault-3"],
        vault_server_key_shares=3,
        vault_server_key_threshold=2,
        vault_operator_snapshot_token_file=str(folder / "secrets/snapshot-token"),
    )
    try:
        nodes.set_up()
        yield nodes
    finally:
        nodes.down()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def backup(nodes: VaultNodes) -> Backup:
    return Backup(nodes)


@pytest.fixture(scope="module")
def ciphertexts(nodes: VaultNodes) -> list[str]:
    """Values that the operator sealed."""
    operator = nodes.client()
    for path, body in [("sys/mounts/transit", {"type": "transit"}), ("transit/keys/shop", {})]:
        assert operator.request("POST", path, body).ok
    return operator.encrypt("shop", [TransitItem(value) for value in VALUES])


def test_the_token_reads_snapshots_and_nothing_else(nodes: VaultNodes) -> None:
    token = (nodes.folder / "secrets/snapshot-token").read_text().strip()
    client = nodes.client(nodes.leader(), token=token)
    about = client.request("GET", "auth/token/lookup-self").json()["data"]
    assert (about["policies"], about["renewable"]) == (["default", "kubevault-snapshot"], True)
    status = {
        (method, path): client.request(method, path, {}).status
        for method, path in [
            ("POST", "sys/storage/raft/snapshot"),
            ("POST", "sys/storage/raft/snapshot-force"),
            ("GET", "sys/storage/raft/configuration"),
            ("POST", "transit/decrypt/shop"),
        ]
    }
    assert set(status.values()) == {403}, status


def test_of_three_hosts_the_leader_takes_one_snapshot(
    nodes: VaultNodes, backup: Backup, ciphertexts: list[str]
) -> None:
    done = {name: backup.run("take", name) for name in nodes.nodes}
    assert {name: run.returncode for name, run in done.items()} == dict.fromkeys(nodes.nodes, 0), done
    (path,) = backup.snapshots()
    assert path.parent.name == nodes.leader()
    content = path.read_bytes()
    assert content.startswith(b"age-encryption.org/v1")
    metrics = (path.parent / "metrics.prom").read_text()
    assert f"\nvault_snapshot_size_bytes {len(content)}\n" in metrics
    assert [backup.run("check", name).returncode for name in nodes.nodes] == [0, 0, 0]


def test_the_drill_all_nodes_are_lost_and_every_value_is_read_again(
    nodes: VaultNodes, backup: Backup, ciphertexts: list[str]
) -> None:
    keys = (nodes.folder / "secrets/keys.json").read_text()
    token = (nodes.folder / "secrets/operator-token").read_text()
    for name in nodes.nodes:
        nodes.supervise("stop", name)
        shutil.rmtree(nodes.folder / name)
    nodes.restore(*backup.variables())
    assert nodes.changed() == 0
    for name in nodes.nodes:
        found = nodes.client(name).rewrap("shop", [TransitItem(text.encode()) for text in ciphertexts])
        assert len(found) == len(VALUES)
    assert (nodes.folder / "secrets/keys.json").read_text() == keys
    assert (nodes.folder / "secrets/operator-token").read_text() == token
    assert not list((nodes.folder / "secrets").glob("vault-restore*"))
