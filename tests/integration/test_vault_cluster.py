"""roles/vault-server on three nodes: one initialisation, nodes that come and go, restarts of one after the other."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.servers import wait_until
from support.vault_nodes import VaultNodes


@pytest.fixture(scope="module")
def cluster() -> Iterator[VaultNodes]:
    """Three nodes. The folder's path is short, for supervisord's socket."""
    folder = Path(tempfile.mkdtemp(prefix="kubevault-nodes."))
    nodes = VaultNodes(
        folder, ["vault-1", "vault-2", "vault-3"], vault_server_key_shares=3, vault_server_key_threshold=2
    )
    try:
        nodes.play()
        yield nodes
    finally:
        nodes.down()
        shutil.rmtree(folder, ignore_errors=True)


def peers(cluster: VaultNodes) -> dict[str, bool]:
    """Return the nodes in Raft's configuration, and whether each has a vote."""
    found = cluster.client().request("GET", "sys/storage/raft/configuration").json()
    return {server["node_id"]: server["voter"] for server in found["data"]["config"]["servers"]}


def test_three_nodes_are_one_cluster_and_a_second_run_changes_nothing(cluster: VaultNodes) -> None:
    wait_until("three votes", lambda: peers(cluster) == dict.fromkeys(cluster.nodes, True))
    assert {cluster.client(name).request("GET", "sys/seal-status").json()["sealed"] for name in cluster.nodes} == {
        False
    }
    assert cluster.changed() == 0
