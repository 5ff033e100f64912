"""Vault is upgraded on all hosts by the inventory, as docs/servers.md says."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support import newer
from support.ansible import Run
from support.servers import wait_until
from testinfra.host import Host

pytestmark = pytest.mark.skipif(
    "KUBEVAULT_HOSTS_SANDBOX" not in os.environ, reason="hosts of a user reach no mirror here"
)


def test_standbys_are_upgraded_one_after_the_other_and_the_leader_last(
    vaults: dict[str, Host], leader: str, health: Callable[[Host], int], run: Callable[..., Run], inventory: Path
) -> None:
    version = newer.publish(Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "mirror")
    (inventory / "group_vars/all/upgrade.yml").write_text(f"vault_server_version: {version}\n")
    upgrade = run("playbooks/servers.yml", "--limit=vault")
    restarted = re.findall(
        r"TASK \[vault-server : Restart Vault by systemd\][^\n]*\nchanged: \[([^\]]+)", upgrade.output
    )
    assert sorted(restarted) == sorted(vaults)
    assert restarted[-1] == leader
    for host in vaults.values():
        program = host.check_output("readlink /proc/$(systemctl show --property MainPID --value vault)/exe")
        assert program == f"/opt/vault/{version}/vault"
        assert f"Vault v{version}" in host.check_output(f"{program} version")
    one_leads = [200, *[429] * (len(vaults) - 1)]
    wait_until("one leader", lambda: sorted(health(host) for host in vaults.values()) == one_leads)
