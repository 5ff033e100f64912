"""The inventory of the hosts, and Ansible with it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import testinfra
import yaml
from support.ansible import BIN, Run, ansible_environment, run_playbook
from support.servers import wait_until
from testinfra.host import Host

Configure = Callable[..., Run]
"""Runs a part of the role vault-server on the first host of Vault, with variables."""


@pytest.fixture(scope="session")
def inventory() -> Path:
    return Path(os.environ["KUBEVAULT_HOSTS_INVENTORY"])


@pytest.fixture(scope="session")
def groups(inventory: Path) -> dict[str, list[str]]:
    """Names of the hosts in each group."""
    command = [BIN / "ansible-inventory", f"--inventory={inventory}", "--list"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {name: listed[name]["hosts"] for name in ("vault", "microk8s")}


@pytest.fixture(scope="session")
def vaults(inventory: Path, groups: dict[str, list[str]]) -> dict[str, Host]:
    """All hosts of Vault, by name. The fixture `host` of testinfra is each of them in turn."""
    addresses = [f"ansible://{name}" for name in groups["vault"]]
    found = testinfra.get_hosts(addresses, ansible_inventory=str(inventory), sudo=True)
    return dict(zip(groups["vault"], found, strict=True))


@pytest.fixture(scope="session")
def first(vaults: dict[str, Host]) -> Host:
    """The first host of Vault, for what is the same on all."""
    return next(iter(vaults.values()))


@pytest.fixture(scope="session")
def run(inventory: Path) -> Callable[..., Run]:
    """Runs a playbook with the inventory."""

    def run(playbook: str | Path, *arguments: str, fails: bool = False) -> Run:
        env = ansible_environment()
        return run_playbook(playbook, f"--inventory={inventory}", *arguments, env=env, fails=fails)

    return run


@pytest.fixture(scope="session")
def health() -> Callable[[Host], int]:
    """Returns the HTTP status of Vault's sys/health on a host: 200 if it leads, 429 if it stands by, 503 if sealed."""
    code = (
        "import http.client, ssl; c = http.client.HTTPSConnection('127.0.0.1', 8200,"
        " context=ssl._create_unverified_context()); c.request('GET', '/v1/sys/health'); print(c.getresponse().status)"
    )
    return lambda host: int(host.check_output("python3 -c %s", code))


@pytest.fixture
def leader(vaults: dict[str, Host], health: Callable[[Host], int]) -> str:
    """Name of the host of Vault that leads, once there is one."""
    leaders: list[str] = []

    def found() -> bool:
        leaders[:] = (name for name, host in vaults.items() if health(host) == 200)
        return bool(leaders)

    wait_until("a leader", found)
    return leaders[0]


@pytest.fixture
def configure(run: Callable[..., Run], tmp_path: Path) -> Configure:
    def configure(part: str, *, fails: bool = False, **variables: object) -> Run:
        role = {"ansible.builtin.include_role": {"name": "vault-server", "tasks_from": part, "handlers_from": "main"}}
        play = {"hosts": "vault[0]", "become": True, "gather_facts": True, "vars": variables, "tasks": [role]}
        playbook = tmp_path / "playbook.yml"
        playbook.write_text(yaml.safe_dump([play]))
        return run(playbook, fails=fails)

    return configure
