"""Audit logs on the hosts: rotated by logrotate, written twice, and without any value."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from testinfra.host import Host

from secretmanager.servers.vault import VaultClient

LOG = "/var/log/vault/audit.log"
JOURNAL = "journalctl --identifier=vault-audit --output=cat"


@pytest.fixture
def leader(vaults: dict[str, Host], health: Callable[[Host], int]) -> Host:
    """The node that leads, which writes the entries of all requests."""
    return next(host for host in vaults.values() if health(host) == 200)


@pytest.fixture
def operator(inventory: Path, groups: dict[str, list[str]]) -> VaultClient:
    token = (inventory / "secrets/vault-operator-token").read_text().strip()
    return VaultClient(
        [f"https://{name}:8200" for name in groups["vault"]], ca_cert=str(inventory / "pki/ca.crt"), token=token
    )


def test_a_rotated_log_is_whole_and_vault_goes_on_in_a_new_one(leader: Host, operator: VaultClient) -> None:
    old = leader.check_output(f"stat --format=%i {LOG}")
    leader.check_output("logrotate --force /etc/logrotate.d/vault")
    assert leader.check_output(f"stat --format=%i {LOG}.1") == old
    last = leader.check_output(f"tail --lines=1 {LOG}.1")
    assert operator.request("GET", "sys/audit").ok
    new = leader.file(LOG)
    assert '"path":"sys/audit"' in new.content_string
    assert (new.user, new.mode) == ("vault", 0o600)
    assert leader.check_output(f"tail --lines=1 {LOG}.1") == last


@pytest.mark.parametrize("read", [f"cat {LOG}*", JOURNAL])
def test_entries_hold_hashes_of_values_only(read: str, leader: Host, operator: VaultClient) -> None:
    entries = leader.check_output(read)
    assert operator.token
    assert operator.token not in entries
    plaintexts = re.findall(r'"plaintext":"([^"]*)"', entries)
    assert plaintexts
    assert [text for text in plaintexts if not text.startswith("hmac-sha256:")] == []
