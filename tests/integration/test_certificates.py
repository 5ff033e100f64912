"""roles/certificate-authority and a Vault that runs: new certificates, and another authority, without a restart."""

from __future__ import annotations

import signal
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from support.ansible import ROOT, Ansible
from support.servers import PrivateVault, running, wait_until

from secretmanager.errors import TLSError
from secretmanager.servers.vault import VaultClient


class Site:
    """A Vault whose certificate the role signs.

    Attributes:
        pki: the role's folder.
        vault: the server.
    """

    def __init__(self, folder: Path) -> None:
        self.pki = folder / "pki"
        self.ansible = Ansible(folder)
        self.vault = PrivateVault(folder)

    def run(self, **variables: Any) -> str:
        """Run the role, and have Vault read its certificate as vault-server's handler does; return the output."""
        given = {
            "certificate_authority_dir": str(self.pki),
            "certificate_authority_certificates": [
                {
                    "name": "vault",
                    "common_name": "vault",
                    "subject_alt_name": ["IP:127.0.0.1"],
                    "extended_key_usage": ["serverAuth"],
                }
            ],
            **variables,
        }
        role = str(ROOT / "roles/certificate-authority")
        done = self.ansible.play({"import_role": {"name": role}, "vars": given})
        for name in ("vault.crt", "vault.key"):
            (self.vault.folder / name).write_bytes((self.pki / name).read_bytes())
        process = self.vault.program.process
        if process:
            process.send_signal(signal.SIGHUP)
            expected = x509.load_pem_x509_certificate((self.pki / "vault.crt").read_bytes())
            wait_until("the certificate", lambda: self.served() == expected)
        self.changed = done.changed
        return done.output

    def served(self) -> x509.Certificate:
        """Return the certificate that Vault shows."""
        return x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", self.vault.port)).encode())

    def trusted(self) -> bytes:
        """Return what clients trust now."""
        return (self.pki / "ca.crt").read_bytes()

    def connects(self, authorities: bytes) -> bool:
        """Whether a new client that trusts these authorities reaches Vault."""
        path = self.vault.folder / "client-ca.crt"
        path.write_bytes(authorities)
        try:
            return VaultClient(self.vault.url, ca_cert=str(path), token="").request("GET", "sys/seal-status").ok
        except TLSError:
            return False


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = Site(tmp_path_factory.mktemp("certificates"))
    made.run()
    made.vault.root = VaultClient(made.vault.url, ca_cert=str(made.pki / "ca.crt"), retries=0)
    with running(made.vault, made.vault.set_up):
        yield made


def test_a_certificate_that_ends_is_renewed_while_vault_runs(site: Site) -> None:
    first, key, process = site.served(), (site.pki / "vault.key").read_bytes(), site.vault.program.process
    # It has 365 days.
    output = site.run(certificate_authority_report_within="+366d")
    assert "vault.crt ends at" in output
    assert "ca.crt ends at" not in output
    assert site.changed == 0
    assert "ends at" not in site.run(certificate_authority_renew_before="+366d")
    assert site.served().serial_number != first.serial_number
    assert site.served().public_key() == first.public_key()
    assert (site.pki / "vault.key").read_bytes() == key
    assert site.connects(site.trusted())
    assert site.vault.program.process is process
    assert site.vault.root.request("GET", "sys/seal-status").json()["sealed"] is False


def test_an_authority_is_replaced_and_clients_connect_at_each_step(site: Site) -> None:
    before = [site.trusted()]
    for step in ("introduce", "change", "drop"):
        output = site.run(certificate_authority_step=step, certificate_authority_report_within="+4000d")
        assert "ca.crt ends at" in output, step
        assert site.changed > 0, step
        # Also one that read its authorities before this step.
        assert [site.connects(trusted) for trusted in (before[-1], site.trusted())] == [True, True], step
        assert "ends at" not in site.run(certificate_authority_step=step)
        assert site.changed == 0, step
        before.append(site.trusted())
    assert [trusted.count(b"BEGIN CERTIFICATE") for trusted in before] == [1, 2, 2, 1]
    assert not site.connects(before[0])
    assert [path.name for path in site.pki.glob("ca-*")] == []
