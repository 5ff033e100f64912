"""Three Vault hosts under load, and what befalls them; run by tests/on-hosts.

Nothing that was acknowledged is lost, no wrong value is read, and errors are those of the package. How often and how long
is in the table at the end; no test asserts on it. The tests are one story: each goes on where the one before ended.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.load import Load, Report, Servers
from support.vault_hosts import VaultHosts

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
        self.reports: list[tuple[str, Report]] = []

    def lines(self) -> Iterator[str]:
        kinds = ("reader", "sealer", "rotator")
        yield f"| fault | {' | '.join(f'{kind}s: done, errors, longest interruption' for kind in kinds)} | lost |"
        yield f"|{'---|' * (len(kinds) + 2)}"
        for fault, report in self.reports:
            records = [report.records()[kind] for kind in kinds]
            cells = [
                f"{record.done}, {', '.join(f'{count} {name}' for name, count in record.errors.items()) or 'none'},"
                f" {record.longest:.1f} s"
                for record in records
            ]
            yield f"| {fault} | {' | '.join(cells)} | {', '.join(report.lost) or 'nothing'} |"


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    """Printed at the end, also if a test failed."""
    table = Table()
    yield table
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    terminal.ensure_newline()
    for line in table.lines():
        terminal.write_line(line)


@pytest.fixture(scope="module")
def hosts() -> Iterator[VaultHosts]:
    """The folder's path is short, for supervisord's socket."""
    folder = Path(tempfile.mkdtemp(prefix="kubevault-faults."))
    variables = {"kubevault_workloads": WORKLOADS, "kubevault_vaulted_secrets": VALUES}
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


def test_the_whole_chain_is_set_up(hosts: VaultHosts) -> None:
    hosts.play("site.yml")
    hosts.await_healthy()


def test_the_leader_is_killed(hosts: VaultHosts, load: Load, table: Table) -> None:
    leader = hosts.leader()
    with load.working() as report:
        hosts.hosts[leader].run("systemctl", "kill", "--signal=KILL", "vault")
        time.sleep(SECONDS)
    table.reports.append(("leader killed", report))
    assert report.lost == []
    hosts.play("playbooks/servers.yml")
    hosts.await_healthy()
