"""Names of an inventory that would mean something else where roles write them: refused before anything is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.ansible import Ansible

HOSTILE = ["a; rm", 'a"b', "a\nb", "%h", "$x"]

ROTATION = {"kubevault_rotation_environment": {"VAULT_ADDR": "https://vault.example.org:8200"}}
SNAPSHOT = {
    "vault_snapshot_url": "https://vault.example.org:8200",
    "vault_snapshot_ca_cert": "ca.crt",
    "vault_snapshot_token_file": "token",
    "vault_snapshot_age_recipients": ["age1"],
}
FILES = ("ca_cert", "keys_file", "root_token_file", "tls_cert", "tls_key", "token_file")
SERVER = {
    "vault_server_url": "https://vault.example.org:8200",
    "vault_server_binary": "/usr/bin/vault",
    **{f"vault_server_{name}": f"/nosuch/{name}" for name in FILES},
}

ROLES: dict[str, tuple[str, str, dict[str, Any], tuple[str, ...]]] = {
    "rotation on a host": (
        "kubevault-rotation",
        "systemd",
        ROTATION,
        ("transit_key", "user", "on_calendar", "program", "textfile_dir"),
    ),
    "snapshots": (
        "vault-snapshot",
        "main",
        SNAPSHOT,
        ("user", "on_calendar", "dir", "config_dir", "copy_dirs", "textfile_dir", "environment_file"),
    ),
    "vault": (
        "vault-server",
        "configure",
        SERVER,
        (
            "user",
            "program",
            "config_dir",
            "data_dir",
            "audit_dir",
            "audit_max_size",
            "firewall_clients",
            "firewall_cluster",
        ),
    ),
}
LISTS = ("copy_dirs", "firewall_clients", "firewall_cluster")


@pytest.mark.parametrize("case", ROLES)
def test_a_role_names_each_variable_and_writes_nothing(case: str, tmp_path: Path) -> None:
    role, tasks_from, variables, names = ROLES[case]
    prefix = role.replace("-", "_")
    hostile = {
        f"{prefix}_{name}": HOSTILE if name in LISTS else HOSTILE[number % len(HOSTILE)]
        for number, name in enumerate(names)
    }
    task = {"ansible.builtin.include_role": {"name": role, "tasks_from": tasks_from}, "vars": {**variables, **hostile}}
    # In check mode, in case that it is not refused.
    run = Ansible(tmp_path).play(task, arguments=("--check",), fails=True)
    message = run.output.replace("\\\\", "\\")
    found = re.findall(r"(\w+): found .*?; allowed is", message)
    assert [name for name in hostile if name not in found] == []
    assert "changed=0" in run.output
