"""A Vault on a host, which a second Vault on another host opens after each boot; run by tests/on-hosts.

The tests are one story: each goes on where the one before ended.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from support.ansible import ROOT
from support.servers import wait_until
from support.site import Site, serve_release

from kubevault_lab.hosts import machine
from secretmanager.errors import VaultError

VAULT, SECOND = "vault.example.org", "seal.example.org"
AUTHORITY = "/etc/ssl/certs/seal-ca.pem"


@dataclass(frozen=True)
class Two:
    """Both Vaults, each with an inventory of its own, and their hosts."""

    vault: Site
    second: Site
    hosts: dict[str, machine.Host]

    def is_open(self) -> bool:
        """Whether the first Vault serves."""
        try:
            return self.vault.client(VAULT, token=None, retries=0).request("GET", "sys/health").status == 200
        except VaultError:
            return False


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    serve_release()
    hosts = machine.create([VAULT, SECOND])
    vault, second = (
        Site(tmp_path_factory.mktemp("site"), {}, {"vault": [name], "microk8s": []}) for name in (VAULT, SECOND)
    )
    for site in (vault, second):
        site.play("playbooks/servers.yml")
    yield Two(vault, second, {host.name: host for host in hosts})
    for host in hosts:
        host.remove()


def seal_key(second: Site, token: Path) -> Path:
    """Return a playbook that makes the key in the second Vault, and a file of a token for it."""
    role = {
        "role": str(ROOT / "roles/vault-seal-key"),
        "vault_seal_key_vault_url": f"https://{SECOND}:8200",
        "vault_seal_key_vault_ca_cert": second.ca,
        "vault_seal_key_admin_token_file": str(second.secrets / "vault-root-token"),
        "vault_seal_key_token_file": str(token),
    }
    playbook = second.folder / "seal-key.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "controller", "gather_facts": False, "roles": [role]}]))
    return playbook


def test_the_seal_of_a_vault_is_changed(two: Two) -> None:
    token = two.vault.secrets / "vault-seal-token"
    two.second.play(seal_key(two.second, token))
    shutil.copy(two.second.ca, two.hosts[VAULT].root / AUTHORITY.lstrip("/"))
    options = {"address": f"https://{SECOND}:8200", "mount_path": "transit/", "key_name": "vault-seal"}
    seal = {
        "vault_server_seal": "transit",
        "vault_server_seal_options": {**options, "tls_ca_cert": AUTHORITY},
        "vault_server_seal_token_file": str(token),
    }
    two.vault.set_variables("seal", seal)
    two.vault.play("playbooks/seal-migrate.yml")
    assert two.is_open()
    assert two.vault.play("playbooks/servers.yml").changed == 0


def test_after_a_reboot_vault_opens_by_itself(two: Two) -> None:
    two.hosts[VAULT].stop()
    assert not two.is_open()
    two.hosts[VAULT].start()
    wait_until("an open Vault", two.is_open)
    assert two.vault.play("playbooks/servers.yml").changed == 0


def test_after_a_loss_of_power_it_opens_as_soon_as_the_second_is_open(two: Two) -> None:
    for host in two.hosts.values():
        host.kill()
    two.hosts[SECOND].start()  # it is sealed
    two.hosts[VAULT].start()
    assert not two.is_open()
    assert two.second.play("playbooks/servers.yml").changed == 1
    wait_until("an open Vault", two.is_open)
    assert two.vault.play("playbooks/servers.yml").changed == 0
