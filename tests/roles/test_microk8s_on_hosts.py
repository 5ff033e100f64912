"""roles/microk8s on three hosts with the real snapd, by the stand-in for MicroK8s; run by tests/on-hosts.

The tests are one story: each goes on where the one before ended.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import ROOT, Run, ansible_environment, run_playbook
from support.microk8s_stand_in.pack import pack_of_the_lab

from kubevault_lab.hosts import machine, snapd
from kubevault_lab.hosts.rootfs import USER

FIRST, WORKER, SECOND = NAMES = ("one.example.org", "worker.example.org", "two.example.org")
NEWER = "1.37.0"


@dataclass(frozen=True)
class Cluster:
    """Three hosts, and a folder for what the controller has."""

    folder: Path
    hosts: dict[str, machine.Host]

    def run(self, *arguments: str, on: str = "all", fails: bool = False, version: str = "", **variables: Any) -> Run:
        """Run the role on hosts, with variables that differ from the inventory's."""
        given = {**self.files(version), **variables}
        playbook = self.folder / "play.yml"
        roles = [{"role": str(ROOT / "roles/microk8s")}]
        playbook.write_text(
            yaml.safe_dump([{"hosts": "microk8s", "become": True, "gather_facts": False, "roles": roles}])
        )
        env = ansible_environment()
        inventory = f"--inventory={self.folder / 'inventory.yml'}"
        chosen = f"--limit={on}", f"--extra-vars={json.dumps(given)}"
        return run_playbook(playbook, inventory, *chosen, *arguments, env=env, fails=fails)

    def files(self, version: str) -> dict[str, Any]:
        """Variables for the snaps of a version."""
        folder = self.folder / f"snaps{version}"
        bases = [{"file": str(folder / f"{name}.snap")} for name in ("bare", "snapd")]
        return {"microk8s_snap_file": str(folder / "microk8s.snap"), "microk8s_base_snaps": bases}

    def microk8s(self, *arguments: str, host: str = FIRST) -> str:
        return self.hosts[host].run("/snap/bin/microk8s", *arguments).stdout

    def nodes(self) -> dict[str, dict[str, Any]]:
        found = json.loads(self.microk8s("kubectl", "get", "nodes", "--output=json"))["items"]
        return {node["metadata"]["name"]: node for node in found}

    def api_names(self) -> set[tuple[str, str]]:
        """Names of the API's certificate, which is verified as Python 3.13 does."""
        content = yaml.safe_load((self.folder / "kubeconfig").read_text())["clusters"][0]["cluster"]
        authority = base64.b64decode(content["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        address = self.hosts[FIRST].address
        plain = socket.create_connection((address, 16443))
        with plain, context.wrap_socket(plain, server_hostname=address) as connection:
            certificate = connection.getpeercert()
        assert certificate
        return {(str(kind), str(name)) for kind, name in certificate["subjectAltName"]}  # type: ignore[misc]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("microk8s")
    pack_of_the_lab(folder / "snaps")
    pack_of_the_lab(folder / f"snaps{NEWER}", NEWER)
    hosts = machine.create(NAMES, snapd.ARGUMENTS)
    for host in hosts:
        snapd.start(host)
    login = {
        **machine.CONNECTION,
        # Snaps are compressed.
        "ansible_ssh_args": "-o ControlMaster=auto -o ControlPersist=60s",
        "microk8s_snap_dangerous": True,
        "microk8s_kubeconfig": str(folder / "kubeconfig"),
    }
    members = {name: {"microk8s_worker": name == WORKER} for name in NAMES}
    inventory = {"all": {"vars": login, "children": {"microk8s": {"hosts": members}}}}
    (folder / "inventory.yml").write_text(yaml.safe_dump(inventory))
    yield Cluster(folder, {host.name: host for host in hosts})
    for host in hosts:
        host.remove()


def test_a_check_on_empty_hosts_predicts_the_installation(cluster: Cluster) -> None:
    run = cluster.run("--check")
    assert run.changes == dict.fromkeys(NAMES, 3)
    assert "snapd would install" in run.output
    assert not (cluster.hosts[FIRST].root / "snap/microk8s").exists()


def test_a_file_that_nobody_signed_is_refused_unless_told(cluster: Cluster) -> None:
    run = cluster.run(on=FIRST, fails=True, microk8s_snap_dangerous=False)
    assert "found no assertion (microk8s_assert_file, microk8s_base_snaps)" in run.output
    assert not (cluster.hosts[FIRST].root / "snap/microk8s").exists()


def test_hosts_become_one_cluster_and_no_token_is_told(cluster: Cluster) -> None:
    run = cluster.run("-vvv")
    assert set(cluster.nodes()) == set(NAMES)
    tokens = (cluster.hosts[FIRST].root / "var/snap/microk8s/current/credentials/cluster-tokens.txt").read_text()
    found = [line.split("|")[0] for line in tokens.splitlines()]
    assert len(found) == 2
    assert not [token for token in found if token in run.output]
    assert (cluster.folder / "kubeconfig").stat().st_mode & 0o777 == 0o600
    assert cluster.run().changes == dict.fromkeys(NAMES, 0)


def test_a_worker_runs_no_api_server(cluster: Cluster) -> None:
    running = cluster.hosts[WORKER].run("pgrep", "--list-name", "kube", check=False).stdout
    assert "kube-apiserver" not in running
    assert "kube-apiserver" in cluster.hosts[SECOND].run("pgrep", "--list-name", "kube").stdout


def test_names_addons_and_users(cluster: Cluster) -> None:
    variables: dict[str, Any] = {
        "microk8s_sans": ["DNS:kubernetes.example.org", "IP:192.0.2.10"],
        "microk8s_addons": ["dns:192.0.2.53", "core/rbac", "hostpath-storage"],
        "microk8s_users": [USER],
    }
    predicted = cluster.run("--check", "--diff", on=FIRST, **variables)
    assert "MicroK8s would enable hostpath-storage" in predicted.output
    assert ("DNS", "kubernetes.example.org") not in cluster.api_names()
    cluster.run(on=FIRST, **variables)
    assert {("DNS", "kubernetes.example.org"), ("IP Address", "192.0.2.10")} <= cluster.api_names()
    assert "hostpath-storage" in re.findall(
        r"name: (\S+)[^-]*status: enabled", cluster.microk8s("status", "--format=yaml")
    )
    assert "microk8s" in cluster.hosts[FIRST].run("id", "--groups", "--name", USER).stdout.split()
    assert cluster.run(on=FIRST, **variables).changes == {FIRST: 0}
    cluster.run(on=FIRST)
    assert ("DNS", "kubernetes.example.org") not in cluster.api_names()


def test_an_unknown_addon_and_an_unknown_user_are_errors(cluster: Cluster) -> None:
    assert "Addon missing was not found" in cluster.run(on=FIRST, fails=True, microk8s_addons=["missing"]).output
    assert (
        "found nobody-here, who is no user of"
        in cluster.run(on=FIRST, fails=True, microk8s_users=["nobody-here"]).output
    )


def test_a_stopped_microk8s_is_started(cluster: Cluster) -> None:
    cluster.microk8s("stop", host=SECOND)
    assert cluster.run("--check", on=SECOND).changes == {SECOND: 1}
    assert cluster.run(on=SECOND).changes == {SECOND: 1}
    assert "running: True" in cluster.microk8s("status", host=SECOND)


def test_a_ca_without_key_usage_is_told(cluster: Cluster) -> None:
    script = """
        mkdir /root/older
        cd /root/older
        openssl req -x509 -newkey rsa:2048 -noenc -days 10 -subj /CN=older -keyout ca.key -out ca.crt
        /snap/bin/microk8s refresh-certs /root/older
    """
    cluster.hosts[FIRST].run("sh", "-euc", script)
    run = cluster.run(on=FIRST, fails=True)
    assert "keyUsage with keyCertSign" in " ".join(run.output.split())
    assert "refresh-certs --cert ca.crt" in " ".join(run.output.split())
    cluster.microk8s("refresh-certs", "--undo")
    cluster.run(on=FIRST)


def test_one_node_after_the_other_is_drained_upgraded_and_takes_work_again(cluster: Cluster) -> None:
    run = cluster.run(version=NEWER)
    wanted = ("Drain the node", "Have snapd install the file", "Have it take work again")
    pattern = rf"TASK \[\S+ : ({'|'.join(wanted)})[^\n]*\n(?:[^\n]*\n)?changed: \[([^\] ]+)"
    assert re.findall(pattern, run.output) == [(task, name) for name in (FIRST, SECOND, WORKER) for task in wanted]
    assert NEWER in cluster.microk8s("version")
    assert not [name for name, node in cluster.nodes().items() if node["spec"].get("unschedulable")]
    assert cluster.run(version=NEWER).changes == dict.fromkeys(NAMES, 0)


def test_an_upgrade_that_ended_in_between_is_taken_up(cluster: Cluster) -> None:
    cluster.microk8s("kubectl", "annotate", "node", SECOND, "kubevault-drained=true")
    cluster.microk8s("kubectl", "cordon", SECOND)
    cluster.run(on=SECOND, version=NEWER)
    node = cluster.nodes()[SECOND]
    assert "unschedulable" not in node["spec"]
    assert "kubevault-drained" not in node["metadata"].get("annotations", {})


def test_a_host_that_was_reinstalled_is_told_apart(cluster: Cluster) -> None:
    cluster.hosts[WORKER].run("snap", "remove", "--purge", "microk8s")
    run = cluster.run(on=WORKER, version=NEWER, fails=True)
    assert f"run `microk8s remove-node {WORKER} --force` on {FIRST}" in " ".join(run.output.split())
    cluster.microk8s("remove-node", WORKER, "--force")
    cluster.run(on=WORKER, version=NEWER)
    assert set(cluster.nodes()) == set(NAMES)


def test_a_host_without_snapd_is_told(cluster: Cluster) -> None:
    cluster.hosts[WORKER].run("systemctl", "stop", "snapd.socket", "snapd.service")
    run = cluster.run(on=WORKER, fails=True)
    assert f"snapd does not answer on {WORKER}; install it" in " ".join(run.output.split())
