"""Vault on a host: what it may do, who may read its files, and that it comes back after a reboot."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from support.ansible import Run
from support.servers import PATIENCE, wait_until
from testinfra.host import Host

from kubevault_lab.hosts import machine

FIREWALLED = "203.0.113.0/24"
"""A network in which nobody is (TEST-NET-3, RFC 5737)."""


def test_vault_runs_and_is_started_at_boot(host: Host) -> None:
    service = host.service("vault")
    assert service.is_running
    assert service.is_enabled
    assert host.socket("tcp://0.0.0.0:8200").is_listening
    assert host.socket("tcp://0.0.0.0:8201").is_listening


def test_the_unit_exposes_little(host: Host) -> None:
    checked = host.run("systemd-analyze security --threshold=30 vault")
    assert checked.rc == 0, checked.stdout[-200:]


def test_the_process_has_no_privileges_and_dumps_no_core(host: Host) -> None:
    pid = host.check_output("systemctl show --property MainPID --value vault")
    assert host.file(f"/proc/{pid}").user == "vault"
    status = dict(
        line.split(":\t", 1) for line in host.file(f"/proc/{pid}/status").content_string.splitlines() if ":\t" in line
    )
    assert {name: int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == dict.fromkeys(
        ("CapEff", "CapPrm", "CapBnd"), 0
    )
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    limits = host.file(f"/proc/{pid}/limits").content_string.splitlines()
    assert next(line.split()[4:6] for line in limits if line.startswith("Max core file size")) == ["0", "0"]
    assert host.check_output("systemctl show --property MemorySwapMax --value vault") == "0"


def test_files_have_the_modes_that_they_need(host: Host) -> None:
    expected = {
        "/etc/vault.d": ("root", "vault", 0o750),
        "/etc/vault.d/vault.hcl": ("root", "vault", 0o640),
        "/etc/vault.d/tls.key": ("root", "vault", 0o640),
        "/opt/vault": ("root", "root", 0o755),
        "/opt/vault/data": ("vault", "root", 0o700),
        "/etc/systemd/system/vault.service": ("root", "root", 0o644),
    }
    found = {path: host.file(path) for path in expected}
    assert {path: (file.user, file.group, file.mode) for path, file in found.items()} == expected
    program = host.check_output("readlink /proc/$(systemctl show --property MainPID --value vault)/exe")
    assert (host.file(program).user, host.file(program).mode) == ("root", 0o755)


def test_what_is_secret_is_private_on_the_controller(inventory: Path) -> None:
    folder = inventory / "secrets"
    assert folder.stat().st_mode & 0o777 == 0o700
    found = {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()}
    assert found["vault-unseal-keys.json"] == "0o600"
    assert set(found.values()) == {"0o600"}


def test_the_inventory_is_read_without_what_is_secret(
    run: Callable[..., Run], groups: dict[str, list[str]], tmp_path: Path
) -> None:
    """A folder is an inventory with all that is in it, and a token would be a host's name."""
    playbook = tmp_path / "hosts.yml"
    debug = {"ansible.builtin.debug": {"msg": "host {{ inventory_hostname }}"}}
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [debug]}]))
    output = run(playbook).output
    assert "Failed to parse" not in output
    found = {line.split()[-1] for line in output.splitlines() if "msg: host" in line}
    assert found == {"localhost", *groups["vault"], *groups["microk8s"]}


def test_the_firewall_lets_in_only_whom_the_inventory_names(
    first: Host, groups: dict[str, list[str]], configure: Callable[..., Run]
) -> None:
    name = groups["vault"][0]
    port = first.socket("tcp://0.0.0.0:8200")
    configure("firewall", vault_server_firewall=True, vault_server_firewall_clients=[FIREWALLED])
    try:
        assert port.is_listening
        assert not reaches((name, 8200))
        everybody = ["198.51.100.0/24", "198.51.100.128/25", "2001:db8::/32", "2001:db8:1::/48"]  # some within others
        configure("firewall", vault_server_firewall=True, vault_server_firewall_clients=everybody)
        assert reaches((name, 8200), PATIENCE)
        assert not reaches((name, 8201))
        again = configure("firewall", vault_server_firewall=True, vault_server_firewall_clients=everybody)
        assert again.changed == 0
    finally:
        configure("no-firewall")
    assert reaches((name, 8201), PATIENCE)
    assert "vault" not in first.check_output("nft list tables")


def test_after_a_reboot_vault_is_there_and_the_next_run_unseals_it(
    vaults: dict[str, Host], run: Callable[..., Run], health: Callable[[Host], int]
) -> None:
    """Meanwhile, the other nodes serve."""
    name, host = next(iter(vaults.items()))
    before = booted(host)
    with suppress(RuntimeError):  # as the connection is closed
        host.run("systemctl reboot")
    wait_until("the reboot", lambda: booted(host) not in (None, before), machine.PATIENCE)
    wait_until("Vault after the reboot", lambda: host.service("vault").is_running, machine.PATIENCE)
    assert host.service("ssh").is_running
    assert health(host) == 503  # sealed
    others = [each for each in vaults.values() if each is not host]
    if len(others) > 1:  # a majority of three
        wait_until("another leader", lambda: 200 in [health(each) for each in others])
    assert run("playbooks/servers.yml", "--limit=vault").changes == {each: int(each == name) for each in vaults}
    one_leads = [200, *[429] * len(others)]
    wait_until("one leader", lambda: sorted(health(each) for each in vaults.values()) == one_leads)


def booted(host: Host) -> str | None:
    """Return what differs after each boot, of the kernel or of a container's first process; None while it is away."""
    try:
        return host.check_output("cat /proc/sys/kernel/random/boot_id; cut -d ' ' -f 22 /proc/1/stat")
    except RuntimeError:
        return None


def reaches(address: tuple[str, int], seconds: float = 2) -> bool:
    """Whether a port can be reached, which a firewall does not refuse but ignore."""
    try:
        with socket.create_connection(address, seconds):
            return True
    except OSError:
        return False
