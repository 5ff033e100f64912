"""Audit logs on the hosts: rotated by logrotate, written twice, and without any value."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.servers import wait_until
from testinfra.host import Host

from secretmanager.servers.vault import VaultClient

LOG = "/var/log/vault/audit.log"
JOURNAL = "journalctl --identifier=vault-audit --output=cat"


@pytest.fixture
def host(vaults: dict[str, Host], leader: str) -> Host:
    """The node that leads, which writes the entries of all requests."""
    return vaults[leader]


@pytest.fixture
def operator(inventory: Path, groups: dict[str, list[str]]) -> VaultClient:
    token = (inventory / "secrets/vault-operator-token").read_text().strip()
    return VaultClient(
        [f"https://{name}:8200" for name in groups["vault"]], ca_cert=str(inventory / "pki/ca.crt"), token=token
    )


def test_a_rotated_log_is_whole_and_vault_goes_on_in_a_new_one(host: Host, operator: VaultClient) -> None:
    old = host.check_output(f"stat --format=%i {LOG}")
    host.check_output("logrotate --force /etc/logrotate.d/vault")
    assert host.check_output(f"stat --format=%i {LOG}.1") == old

    def is_in_the_new_one() -> bool:
        assert operator.request("GET", "sys/audit").ok
        new = host.file(LOG)
        return new.exists and '"path":"sys/audit"' in new.content_string

    # It was told by a signal, to which it answers nothing.
    wait_until("an entry in the new log", is_in_the_new_one)
    assert (host.file(LOG).user, host.file(LOG).mode) == ("vault", 0o600)
    last = host.check_output(f"tail --lines=1 {LOG}.1")
    assert operator.request("GET", "sys/audit").ok
    assert host.check_output(f"tail --lines=1 {LOG}.1") == last


@pytest.mark.parametrize("read", [f"cat {LOG}*", JOURNAL])
def test_entries_hold_hashes_of_values_only(read: str, host: Host, operator: VaultClient) -> None:
    entries = host.check_output(read)
    assert operator.token
    assert operator.token not in entries
    plaintexts = re.findall(r'"plaintext":"([^"]*)"', entries)
    assert plaintexts
    assert [text for text in plaintexts if not text.startswith("hmac-sha256:")] == []
