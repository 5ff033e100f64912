"""Audit devices of the configuration, as OpenBao has them: one that is missing after the restart is an error."""

from __future__ import annotations

from typing import Any

from support.vault_nodes import VaultNodes


def test_a_device_that_was_added_is_looked_for_after_the_restart() -> None:
    """Vault stands in for OpenBao, and ignores the stanza, so the device is still missing then."""
    configured: dict[str, Any] = {"vault_server_audit_in_configuration": True, "vault_server_audit_devices": []}
    with VaultNodes(["vault-1"], **configured) as nodes:
        nodes.set_up()
        before = nodes.lab.pids()["vault-1"]
        device = {"name": "first", "type": "file", "options": {"file_path": "audit/first.log"}}
        nodes.variables["vault_server_audit_devices"] = [device]
        nodes.play("--check")
        run = nodes.play(fails=True)
        assert "Look into the log of the active node" in " ".join(run.output.split())
        assert nodes.lab.pids()["vault-1"] != before
