"""Audit devices of the configuration, as OpenBao has them: Vault stands in for it, and ignores their stanzas."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from support.ansible import Run
from support.vault_nodes import VaultNodes


def device(name: str, file: str) -> dict[str, Any]:
    return {"name": name, "type": "file", "options": {"file_path": f"audit/{file}"}}


@pytest.fixture(scope="module")
def nodes() -> Iterator[VaultNodes]:
    """A node with one device, which its configuration has from now on."""
    with VaultNodes(["vault-1"], vault_server_audit_devices=[device("first", "first.log")]) as nodes:
        nodes.set_up()
        nodes.variables["vault_server_audit_in_configuration"] = True
        yield nodes


def state(nodes: VaultNodes) -> tuple[int, object]:
    """Return the process of the node, and its devices."""
    return nodes.lab.pids()["vault-1"], nodes.client().request("GET", "sys/audit").json()["data"]


def changes(run: Run) -> set[str]:
    """Return the names of the tasks that changed something."""
    return set(re.findall(r"^TASK \[vault-server : (.+)\] \*+\nchanged:", run.output, re.M))


def test_a_device_that_differs_is_refused_before_any_restart(nodes: VaultNodes) -> None:
    before = state(nodes)
    nodes.variables["vault_server_audit_devices"] = [device("first", "elsewhere.log")]
    said = " ".join(nodes.play(fails=True).output.split())
    assert "sys/audit/first: options.file_path: found 'audit/first.log', wanted 'audit/elsewhere.log'" in said
    assert state(nodes) == before


def test_a_device_that_was_added_is_foretold_and_looked_for_after_the_restart(nodes: VaultNodes) -> None:
    before = state(nodes)
    nodes.variables["vault_server_audit_devices"] = [device("first", "first.log"), device("second", "second.log")]
    files = [nodes.folder / "vault-1" / name for name in ("vault.hcl", "started-with")]
    written = [file.read_text() for file in files]
    foretold = changes(nodes.play("--check"))
    assert {"Write the configuration", "Restart Vault by supervisor"} <= foretold
    assert state(nodes) == before
    assert [file.read_text() for file in files] == written
    run = nodes.play(fails=True)
    assert "Look into the log of the active node" in " ".join(run.output.split())
    assert foretold <= changes(run)
    pid, devices = state(nodes)
    assert pid != before[0]
    assert devices == before[1]  # Vault enabled none, so the new one is still missing
