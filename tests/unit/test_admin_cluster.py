"""Which nodes may be removed from a cluster, and which node begins one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
from support.modules import COLLECTION, run_modules

from secretmanager.admin import connection
from secretmanager.admin.cluster import Leader, leads, remove_peers, serves
from secretmanager.admin.connection import Vault
from secretmanager.admin.initialisation import Initialisation, ensure_unsealed
from secretmanager.errors import ConfigError, VaultUnavailable
from secretmanager.servers.http import Response
from secretmanager.servers.vault import VaultClient


class Nodes:
    """Answers as the API of a cluster does, whose nodes are healthy or not."""

    def __init__(self, **healthy: bool) -> None:
        self.healthy = healthy
        self.removed: list[object] = []

    def request(self, method: str, path: str) -> dict[str, Any]:
        assert method == "GET"
        servers = [{"node_id": name, "voter": True} for name in self.healthy]
        if path == "sys/storage/raft/configuration":
            return {"data": {"config": {"servers": servers}}}
        assert path == "sys/storage/raft/autopilot/state"
        return {"data": {"servers": {name: {"healthy": healthy} for name, healthy in self.healthy.items()}}}

    def write(self, path: str, body: Mapping[str, object]) -> None:
        assert path == "sys/storage/raft/remove-peer"
        self.removed.append(body["server_id"])


def removed(nodes: Nodes, wanted: list[str]) -> tuple[list[object], list[str]]:
    done = remove_peers(cast(Vault, nodes), wanted)
    return nodes.removed, done.alive


def test_only_what_left_and_is_not_healthy_is_removed() -> None:
    assert removed(Nodes(a=True, b=True, c=False), ["a", "b"]) == (["c"], [])
    assert removed(Nodes(a=True, b=True, c=True), ["a", "b"]) == ([], ["c"])
    assert removed(Nodes(a=True, b=True, c=False), ["a", "b", "c"]) == ([], [])


def test_check_mode_foretells_what_is_removed_and_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = Nodes(a=True, b=True, c=False, d=True)
    module = import_module(f"ansible_collections.{COLLECTION}.plugins.modules.vault_raft_peers")
    monkeypatch.setattr(module, "logged_in_vault", lambda _: nullcontext(nodes))
    monkeypatch.setattr(connection, "Vault", lambda client: client)
    task: dict[str, Any] = {"vault_raft_peers": {"nodes": ["a", "b"]}}
    (foretold,) = run_modules([{**task, "check_mode": True}], tmp_path, {})
    assert nodes.removed == []
    assert (foretold["changed"], foretold["removed"], foretold["alive"]) == (True, ["c"], ["d"])
    assert foretold["diff"] == {"before": {"nodes": ["a", "b", "c", "d"]}, "after": {"nodes": ["a", "b", "d"]}}
    assert run_modules([task], tmp_path, {}) == [foretold]
    assert nodes.removed == ["c"]


@pytest.mark.parametrize("wanted", [["x", "y", "z"], ["a"], []])
def test_nothing_is_removed_if_the_nodes_given_are_no_majority(wanted: list[str]) -> None:
    nodes = Nodes(a=True, b=True, c=False)
    with pytest.raises(ConfigError, match=r"the cluster has a, b, c; without c, only .* no majority"):
        removed(nodes, wanted)
    assert nodes.removed == []


class Node:
    """Answers ``sys/seal-status`` as a node does; None if it does not listen."""

    def __init__(self, url: str, initialized: bool | None = False) -> None:
        self.url = url
        self.initialized = initialized
        self.written: list[str] = []

    def request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        if self.initialized is None:
            raise VaultUnavailable("no connection")
        if method == "POST":
            self.written.append(path)
        return {"initialized": self.initialized, "sealed": True, "type": "shamir"}


def begin(folder: Path, *nodes: Node) -> list[str]:
    """Run it for the first node, which is not initialised; return what was written to it."""
    wanted = Initialisation(1, 1, str(folder / "keys"), str(folder / "root"))
    cluster = [cast(Vault, node) for node in nodes]
    with pytest.raises((VaultUnavailable, KeyError)) as raised:
        ensure_unsealed(cluster[0], wanted, cluster=cluster, timeout=0)
    assert isinstance(raised.value, KeyError) is bool(nodes[0].written)  # of the response, which has no keys
    return nodes[0].written


def test_the_first_node_begins_only_if_every_other_one_answers_and_none_is_initialised(tmp_path: Path) -> None:
    first = "https://a"
    assert begin(tmp_path, Node(first), Node("https://b"), Node("https://c")) == ["sys/init"]
    assert begin(tmp_path, Node(first), Node("https://b"), Node("https://c", initialized=True)) == []
    assert begin(tmp_path, Node(first), Node("https://b", initialized=None), Node("https://c")) == []
    assert begin(tmp_path, Node(first), Node("https://b", None), Node("https://c", initialized=True)) == []


class Answering:
    """Answers ``sys/health`` and ``sys/leader`` as a node does."""

    def __init__(self, leader: dict[str, Any], *, standby: bool) -> None:
        self.answers = {"sys/leader": leader, "sys/health": {"standby": standby}}

    def request(self, method: str, path: str) -> dict[str, Any]:
        assert method == "GET"
        return self.answers[path.partition("?")[0]]


VAULT = {"ha_enabled": True, "is_self": False, "leader_address": "", "raft_applied_index": 0}
OPENBAO = {"ha_enabled": True}
"""What OpenBao 2.6.2 answers in place of it."""


@pytest.mark.parametrize("unset", [VAULT, OPENBAO])
@pytest.mark.parametrize(
    ("said", "standby", "serving", "leading"),
    [
        ({"leader_address": "https://a", "is_self": True}, False, True, True),
        ({"leader_address": "https://a"}, True, True, False),
        ({}, True, False, False),  # no node leads
        ({"leader_address": "https://a", "is_self": True}, True, False, True),  # it has just been elected
    ],
)
def test_what_openbao_leaves_out_means_what_vault_says(
    unset: dict[str, Any], said: dict[str, Any], standby: bool, serving: bool, leading: bool
) -> None:
    node = cast(Vault, Answering({**unset, **said}, standby=standby))
    assert (serves(node), leads(node)) == (serving, leading)
    assert Leader.known_to(node) == Leader(said.get("leader_address", ""), leading, 0)


def test_a_standby_that_does_not_reach_the_leader_is_unavailable() -> None:
    """https://developer.hashicorp.com/vault/api-docs/system/health: status 474. Waiting goes on after it."""
    health = Response(474, b'{"initialized": true, "sealed": false, "standby": true}')
    with pytest.raises(VaultUnavailable, match="474") as raised:
        VaultClient("https://vault.example.org:8200").checked("GET", "sys/health", health)
    assert "reaches the active node" in str(raised.value)
