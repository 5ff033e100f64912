"""Three Vault hosts under load, and what befalls them; run by `make faults`.

Nothing that was acknowledged is lost, no wrong value is read, and errors are those of the package. How many errors, and
how long an interruption, is in the table at the end; no test asserts on it. The tests are one story: each goes on where
the one before ended.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import clock, newer
from support.load import Load, Report, Servers
from support.servers import wait_until
from support.site import serve_release
from support.vault_hosts import DISKS, VaultHosts, printed

from kubevault_lab.hosts.sandbox import CONTROLLER
from secretmanager.errors import VaultUnavailable

NAMES = ["vault-1.example.org", "vault-2.example.org", "vault-3.example.org"]
SECRETS = [f"sealed-{number}" for number in range(8)]
SECONDS = float(os.environ.get("KUBEVAULT_FAULT_SECONDS", "15"))
"""How long each fault lasts under load."""

WORKLOADS = [
    {"role": role, "service_account": role, "namespace": "shop", **rights}
    for role, rights in {
        "reader": {"reads": ["shop-key"], "secrets": SECRETS},
        "sealer": {"seals": ["shop-key"]},
        "rotator": {"rotates": ["shop-key"], "namespaces": ["shop"]},
    }.items()
]
VALUES = [
    {"name": name, "namespace": "shop", "transit_key": "shop-key", "data": {"value": {"number": 0}}} for name in SECRETS
]


class Table:
    """What befell the workers during each fault."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, Report]] = []

    @contextmanager
    def row(self, fault: str, load: Load, leader: str) -> Iterator[None]:
        """Have all work during a fault, first with the node that leads."""
        with load.working(f"https://{leader}:8200") as report:
            self._rows.append((fault, report))
            yield
        assert report.lost == []

    def lines(self) -> Iterator[str]:
        yield "| fault | who | done | errors | longest interruption | lost |"
        yield f"|{'---|' * 6}"
        for fault, report in self._rows:
            for kind, record in report.records().items():
                errors = ", ".join(f"{count} {name}" for name, count in record.errors.items()) or "none"
                lost = ", ".join(report.lost) or "nothing"
                yield f"| {fault} | {kind} | {record.done} | {errors} | {record.longest:.1f} s | {lost} |"


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    """Printed at the end, also if a test failed."""
    table = Table()
    yield table
    # What is printed after a test is shown only if something failed.
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    assert capture
    with capture.global_and_fixture_disabled():
        print("", *table.lines(), sep="\n")


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of the key that decrypts snapshots."""
    path = tmp_path_factory.mktemp("identity") / "key"
    subprocess.run(["age-keygen", "-o", path], check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def hosts(identity: Path) -> Iterator[VaultHosts]:
    """The folder's path is short, for supervisord's socket."""
    folder = Path(tempfile.mkdtemp(prefix="kubevault-faults."))
    recipient = subprocess.run(["age-keygen", "-y", identity], check=True, capture_output=True, text=True).stdout
    variables = {
        "kubevault_workloads": WORKLOADS,
        "kubevault_vaulted_secrets": VALUES,
        "vault_snapshot_age_recipients": [recipient.strip()],
    }
    hosts = VaultHosts(folder, NAMES, variables)
    try:
        hosts.create()
        yield hosts
    finally:
        hosts.remove()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def load(hosts: VaultHosts) -> Load:
    return Load(Servers(hosts.urls, hosts.ca, hosts.kubeconfig, "shop", "shop-key"), SECRETS)


def test_vault_is_initialised_again_if_its_keys_were_lost(hosts: VaultHosts) -> None:
    keys = hosts.secrets / "vault-unseal-keys.json"
    hosts.kill_when(lambda output: keys.exists(), "site.yml")
    # As if it had been killed some milliseconds before: tests/integration/test_vault_killed.py does that.
    keys.unlink()
    keys.with_name(f".{keys.name}.12345678").touch()
    refused = hosts.play("playbooks/servers.yml", fails=True)
    assert "initialised Vault was interrupted before it had the keys" in " ".join(refused.output.split())
    told = {"kubevault_remove_confirmed": "yes", "kubevault_remove_data": True}
    hosts.play("playbooks/remove.yml", "--limit=vault", f"--extra-vars={json.dumps(told)}")
    hosts.play("playbooks/servers.yml")
    hosts.play("playbooks/remove.yml", "--limit=vault", f"--extra-vars={json.dumps(told)}")


@pytest.mark.parametrize("step", ["install", "initialise", "join", "audit", "operator"])
def test_the_first_run_is_killed(step: str, hosts: VaultHosts) -> None:
    keys = hosts.secrets / "vault-unseal-keys.json"
    steps = {
        "install": printed("TASK [vault-server : Unpack it]"),
        "initialise": lambda output: keys.exists(),
        "join": printed("TASK [vault-server : Initialise Vault once", f"changed: [{NAMES[0]}"),
        "audit": printed("TASK [vault-server : Enable the audit devices]"),
        "operator": printed("TASK [vault-operator : Revoke the privileged token]"),
    }
    hosts.kill_when(steps[step], "site.yml")


def test_the_next_run_sets_the_chain_up(hosts: VaultHosts) -> None:
    hosts.play("site.yml")
    hosts.await_healthy()


def test_the_leader_is_killed(hosts: VaultHosts, load: Load, table: Table) -> None:
    leader = hosts.leader()
    with table.row("leader killed", load, leader):
        hosts.hosts[leader].run("systemctl", "kill", "--signal=KILL", "vault")
        time.sleep(SECONDS)
    # systemd started it again, sealed.
    hosts.play("playbooks/servers.yml")
    hosts.await_healthy()


def test_two_hosts_are_lost_and_the_rest_comes_back_by_itself(hosts: VaultHosts, load: Load, table: Table) -> None:
    leader = hosts.leader()
    other = next(name for name in NAMES if name != leader)
    with table.row("host of the leader lost", load, leader):
        hosts.hosts[leader].kill()
        time.sleep(SECONDS)
    stale = load.servers.manager(cache_plaintext_ttl=1, cache_stale_if_error=3600)
    kept = load.servers.read(stale, SECRETS[0])
    with table.row("two of three hosts lost", load, other):
        hosts.hosts[other].kill()
        time.sleep(SECONDS)
        assert load.servers.read(stale, SECRETS[0]) == kept
        impatient = load.servers.manager(timeout=5, election_timeout=1, retries=1)

        def misses_a_leader() -> bool:
            with pytest.raises(VaultUnavailable) as caught:
                load.servers.read(impatient, SECRETS[0])
            return "wait until Vault has a leader" in str(caught.value)

        # Before, the node that is left does not know that it is alone.
        wait_until("a Vault without a leader", misses_a_leader)
        for name in (leader, other):
            hosts.hosts[name].start()
        hosts.unseal(leader, other)
    hosts.await_healthy()
    assert load.servers.read(stale, SECRETS[0]) > kept


def test_the_leader_is_cut_off_from_the_others(hosts: VaultHosts, load: Load, table: Table) -> None:
    leader = hosts.leader()
    others = [host.address for name, host in hosts.hosts.items() if name != leader]
    with table.row("leader cut off from the other nodes", load, leader):
        hosts.hosts[leader].cut(*others)
        time.sleep(SECONDS)
        hosts.hosts[leader].mend()
    hosts.await_healthy()


def test_the_leader_is_cut_off_from_clients(hosts: VaultHosts, load: Load, table: Table) -> None:
    leader = hosts.leader()
    with table.row("leader cut off from clients", load, leader):
        hosts.hosts[leader].cut(CONTROLLER)
        time.sleep(SECONDS)
        hosts.hosts[leader].mend()
    hosts.await_healthy()


@pytest.mark.parametrize("kind", DISKS)
def test_a_disk_of_the_leader_is_full(kind: str, hosts: VaultHosts, load: Load, table: Table) -> None:
    leader = hosts.leader()
    with table.row(f"disk full on the leader: {kind}", load, leader):
        hosts.fill(leader, kind)
        time.sleep(SECONDS)
        hosts.clear(leader, kind)
    hosts.await_healthy()


@pytest.mark.skipif(not clock.CAN_SHIFT, reason="the clock of a process can be shifted on x86-64 alone")
@pytest.mark.parametrize("minutes", [10, -10])
def test_the_clock_of_the_leader_is_wrong(minutes: int, hosts: VaultHosts, load: Load, table: Table) -> None:
    leader = hosts.leader()
    with table.row(f"clock of the leader {minutes:+} minutes", load, leader):
        clock.shift(hosts.pid(leader), 60 * minutes)
        seen = hosts.client(leader).request("GET", "sys/health").json()["server_time_utc"]
        assert round((seen - time.time()) / 60) == minutes
        time.sleep(SECONDS)
        clock.shift(hosts.pid(leader), 0)
    hosts.await_healthy()


def test_an_upgrade_is_killed_and_run_again(hosts: VaultHosts, load: Load, table: Table) -> None:
    steps = [
        printed("TASK [vault-server : Download the release"),
        printed("TASK [vault-server : Restart Vault by systemd]", "changed: "),
    ]
    hosts.set_variables("upgrade", {"vault_server_version": newer.publish(serve_release())})
    leader = hosts.leader()
    with table.row("upgrade, killed twice and run again", load, leader):
        for reached in steps:
            hosts.kill_when(reached, "playbooks/servers.yml")
        hosts.play("playbooks/servers.yml")
    hosts.await_healthy()


def test_a_restoration_is_killed_and_run_again(hosts: VaultHosts, load: Load, identity: Path) -> None:
    """All hosts were lost."""
    for host in hosts.hosts.values():
        host.run("systemctl", "start", "vault-snapshot")
    taken = [
        path for host in hosts.hosts.values() for path in host.root.glob("var/lib/vault-snapshot/vault-*.snap.age")
    ]
    snapshot = shutil.copy(max(taken, key=lambda path: path.name), hosts.folder)
    hosts.remove_hosts()
    hosts.create_hosts()
    given = {
        "vault_server_snapshot": snapshot,
        "vault_server_snapshot_decrypt": ["age", "--decrypt", "--identity", str(identity)],
        "kubevault_restore_confirmed": "yes",
    }
    restoration = "playbooks/restore.yml", f"--extra-vars={json.dumps(given)}"
    temporary = hosts.secrets / "vault-restore-keys.json"
    hosts.kill_when(lambda output: temporary.exists(), *restoration)
    hosts.kill_when(printed("TASK [vault-server : Restore the snapshot]"), *restoration)
    hosts.kill_when(printed("TASK [vault-server : Initialise Vault once", f"changed: [{NAMES[1]}"), *restoration)
    hosts.play(*restoration)
    hosts.await_healthy()
    assert load.lost() == []
    assert not list(hosts.secrets.glob("*vault-restore*"))
