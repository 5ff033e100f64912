"""roles/vault-server on three nodes: one initialisation, nodes that come and go, restarts of one after the other."""

from __future__ import annotations

import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.servers import wait_until
from support.vault_nodes import VaultNodes

from secretmanager.errors import SecretManagerError
from secretmanager.servers.vault import TransitItem, VaultClient

SECRET = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def cluster() -> Iterator[VaultNodes]:
    with VaultNodes(
        ["vault-1", "vault-2", "vault-3"],
        vault_server_key_shares=3,
        vault_server_key_threshold=2,
        vault_server_telemetry={"prometheus_retention_time": "1h", "disable_hostname": True},
        vault_operator_metrics_token_file="{{ lab_supervisor_dir }}/secrets/metrics-token",
    ) as nodes:
        nodes.set_up()
        nodes.new_key("shop")
        wait_until("three votes", lambda: peers(nodes) == dict.fromkeys(nodes.nodes, True))
        yield nodes


def peers(cluster: VaultNodes) -> dict[str, bool]:
    """Return the nodes in Raft's configuration, and whether each has a vote."""
    found = cluster.client().request("GET", "sys/storage/raft/configuration").json()
    return {server["node_id"]: server["voter"] for server in found["data"]["config"]["servers"]}


def is_sealed(client: VaultClient) -> bool:
    return bool(client.request("GET", "sys/seal-status").json()["sealed"])


@contextmanager
def sealing_all_the_time(cluster: VaultNodes) -> Iterator[None]:
    """Encrypt without a pause, by a client of all nodes; any error fails the test."""
    done, problems = threading.Event(), []

    def work() -> None:
        client = cluster.client()
        while not done.is_set() and not problems:
            try:
                client.encrypt("shop", [TransitItem(b"value")])
            except SecretManagerError as error:
                problems.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert not problems


def test_three_nodes_are_one_cluster_and_a_second_run_changes_nothing(cluster: VaultNodes) -> None:
    assert [is_sealed(cluster.client(name)) for name in cluster.nodes] == [False] * 3
    assert cluster.changed() == 0
    found = cluster.client().request("GET", "sys/storage/raft/autopilot/configuration").json()["data"]
    assert (found["cleanup_dead_servers"], found["min_quorum"]) == (True, 3)


def test_each_audit_device_logs_hashes_only(cluster: VaultNodes) -> None:
    client = cluster.client(cluster.leader())
    client.encrypt("shop", [TransitItem(SECRET.encode())])
    folder = cluster.folder / cluster.leader() / "audit"
    logs = {path.name: path for path in folder.iterdir()}
    assert sorted(logs) == ["first.log", "second.log"]
    for path in logs.values():
        text = path.read_text()
        assert "transit/encrypt/shop" in text
        assert "hmac-sha256:" in text
        secrets = [TransitItem(SECRET.encode()).value.decode(), "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZ", client.token]
        assert [secret for secret in secrets if str(secret) in text] == []
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_operator_may_look_at_audit_devices_and_not_enable_one(cluster: VaultNodes) -> None:
    operator = cluster.client()
    assert sorted(operator.request("GET", "sys/audit").json()["data"]) == ["first/", "second/"]
    body = {"type": "file", "options": {"file_path": "stdout", "log_raw": "true"}}
    assert operator.request("POST", "sys/audit/third", body).status == 403
    assert operator.request("DELETE", "sys/audit/first").status == 403


def test_metrics_are_read_with_their_own_token_alone(cluster: VaultNodes) -> None:
    token = (cluster.folder / "secrets/metrics-token").read_text().strip()
    metrics = "sys/metrics"
    assert cluster.client(token=token).request("GET", metrics).json()["Gauges"]
    assert cluster.client(token="").request("GET", metrics).status in (400, 403)
    assert cluster.client().request("GET", metrics).status == 403
    assert cluster.client(token=token).request("GET", "sys/audit").status == 403


def test_a_changed_configuration_restarts_one_node_after_the_other_while_clients_work(cluster: VaultNodes) -> None:
    leader, before = cluster.leader(), cluster.lab.pids()
    cluster.variables["vault_server_telemetry"] = {"prometheus_retention_time": "2h", "disable_hostname": True}
    with sealing_all_the_time(cluster):
        run = cluster.play()
    restarted = [line.split("[")[1].split("]")[0] for line in run.output.splitlines() if line.startswith("changed: [")]
    assert restarted[-1] == leader
    after = cluster.lab.pids()
    assert {name: after[name] != before[name] for name in cluster.nodes} == dict.fromkeys(cluster.nodes, True)
    assert cluster.leader() != leader
    assert cluster.changed() == 0


def test_a_restart_that_was_interrupted_is_made_up_for(cluster: VaultNodes) -> None:
    leader = cluster.leader()
    late = next(name for name in cluster.nodes if name != leader)
    (cluster.folder / late / "started-with").write_text("of an older configuration")
    before = cluster.lab.pids()
    cluster.play()
    after = cluster.lab.pids()
    assert [name for name in cluster.nodes if after[name] != before[name]] == [late]


def test_a_node_that_does_not_come_back_ends_the_run_and_leaves_the_others(cluster: VaultNodes) -> None:
    good = cluster.variables["vault_server_telemetry"]
    before, leader = cluster.lab.pids(), cluster.leader()
    cluster.variables |= {
        "vault_server_telemetry": {"prometheus_retention_time": "not a time"},
        "vault_server_timeout": 5,
    }
    run = cluster.play(fails=True)
    cluster.variables |= {"vault_server_telemetry": good, "vault_server_timeout": 60}
    after = cluster.lab.pids()
    assert len([name for name in cluster.nodes if after.get(name) == before[name]]) == 2, run.output
    assert after[leader] == before[leader]
    cluster.play()
    assert [is_sealed(cluster.client(name)) for name in cluster.nodes] == [False] * 3
    assert cluster.changed() == 0


def test_a_node_that_is_lost_is_replaced_by_an_empty_one(cluster: VaultNodes) -> None:
    lost = cluster.leader()
    (ciphertext,) = cluster.client().encrypt("shop", [TransitItem(b"value")])
    cluster.supervise("stop", lost)
    shutil.rmtree(cluster.folder / lost)
    with sealing_all_the_time(cluster):
        cluster.play()
    wait_until("three votes", lambda: peers(cluster) == dict.fromkeys(cluster.nodes, True))
    assert cluster.client(lost).rewrap("shop", [TransitItem(ciphertext.encode())])
    assert cluster.changed() == 0


def test_a_node_that_left_the_inventory_is_removed_once_it_is_stopped_and_comes_back_empty(cluster: VaultNodes) -> None:
    left = cluster.nodes.pop()
    kept = cluster.play("--check")
    assert f"{left} is not in nodes, but it is a healthy node of the cluster" in " ".join(kept.output.split())
    assert left in peers(cluster)
    cluster.supervise("stop", left)
    wait_until("its absence", lambda: not healthy(cluster, left))
    cluster.play()
    assert sorted(peers(cluster)) == cluster.nodes

    shutil.rmtree(cluster.folder / left)
    cluster.nodes.append(left)
    cluster.play()
    wait_until("three votes", lambda: peers(cluster) == dict.fromkeys(cluster.nodes, True))


def healthy(cluster: VaultNodes, name: str) -> bool:
    """Whether autopilot calls a node healthy."""
    state = cluster.client().request("GET", "sys/storage/raft/autopilot/state").json()["data"]
    return bool(state["servers"][name]["healthy"])
