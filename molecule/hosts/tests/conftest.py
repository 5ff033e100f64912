"""The inventory of the hosts, and Ansible with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from support.ansible import ROOT, Run, environment, run_playbook

Configure = Callable[..., Run]
"""Runs a part of the role vault-server on the Vault hosts, with variables."""


@pytest.fixture(scope="session")
def inventory() -> Path:
    return Path(os.environ["KUBEVAULT_HOSTS_INVENTORY"])


@pytest.fixture(scope="session")
def run(inventory: Path) -> Callable[..., Run]:
    """Runs a playbook with the inventory."""

    def run(playbook: str | Path, *arguments: str, fails: bool = False) -> Run:
        env = environment(ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_HOME=str(ROOT / ".ansible"))
        return run_playbook(playbook, f"--inventory={inventory}", *arguments, env=env, fails=fails)

    return run


@pytest.fixture
def configure(run: Callable[..., Run], tmp_path: Path) -> Configure:
    def configure(part: str, *, fails: bool = False, **variables: object) -> Run:
        role = {"ansible.builtin.include_role": {"name": "vault-server", "tasks_from": part, "handlers_from": "main"}}
        play = {"hosts": "vault", "become": True, "gather_facts": True, "vars": variables, "tasks": [role]}
        playbook = tmp_path / "playbook.yml"
        playbook.write_text(yaml.safe_dump([play]))
        return run(playbook, fails=fails)

    return configure
