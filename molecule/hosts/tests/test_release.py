"""How a release gets onto a host: from a mirror, verified, whole or not at all.

The program in it is a stand-in, a shell script, since what matters here is the way; the scenario installs Vault itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.ansible import Run
from testinfra.host import Host

from kubevault_lab.hosts.mirror import URL, Mirror
from kubevault_lab.hosts.sandbox import STATE
from kubevault_lab.projects import Release

pytestmark = pytest.mark.skipif(
    "KUBEVAULT_HOSTS_SANDBOX" not in os.environ, reason="hosts of a user reach no mirror here"
)

VERSION = "9.9.9"
HASHICORP = "https://releases.hashicorp.com"
OPENBAO = "https://github.com/openbao/openbao/releases/download"
CHECKSUMS = f"{HASHICORP}/vault/{VERSION}/vault_{VERSION}_SHA256SUMS"
VAULT = Release(f"{HASHICORP}/vault/{VERSION}/vault_{VERSION}_linux_amd64.zip", CHECKSUMS, "vault", f"{CHECKSUMS}.sig")


@pytest.fixture
def host(first: Host) -> Host:
    return first


@pytest.fixture
def mirror() -> Mirror:
    """The mirror of the scenario."""
    return Mirror(Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "mirror", STATE / "signer")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_text("#!/bin/sh\necho it runs\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def install(configure: Callable[..., Run], host: Host) -> Iterator[Callable[..., Run]]:
    def install(version: str = VERSION, *, fails: bool = False, **variables: object) -> Run:
        return configure("install", fails=fails, vault_server_version=version, **variables)

    yield install
    host.check_output("rm -rf /opt/vault/[92].*")


def installed(host: Host) -> list[str]:
    """Return what is under /opt/vault of the versions of these tests."""
    return host.check_output("find /opt/vault -path '/opt/vault/[92].*' -type f -o -name '*.partial'").split()


def test_a_release_is_installed_once(mirror: Mirror, program: Path, install: Callable[..., Run], host: Host) -> None:
    mirror.publish(VAULT, program)
    assert install().changed > 0
    assert host.check_output(f"/opt/vault/{VERSION}/vault") == "it runs"
    assert installed(host) == [f"/opt/vault/{VERSION}/vault"]
    assert install().changed == 0


def test_a_signature_of_another_key_is_refused(
    mirror: Mirror, program: Path, install: Callable[..., Run], host: Host
) -> None:
    mirror.publish(VAULT, program)
    stranger = Mirror(mirror.folder, STATE / "stranger")
    stranger.create_key()
    stranger.sign(VAULT)
    output = install(fails=True).output
    assert f"{URL}/releases.hashicorp.com/vault/{VERSION}/vault_{VERSION}_SHA256SUMS is not signed by" in output
    assert "No public key" in output
    assert installed(host) == []


def test_checksums_that_were_changed_after_they_were_signed_are_refused(
    mirror: Mirror, program: Path, install: Callable[..., Run], host: Host
) -> None:
    mirror.publish(VAULT, program)
    checksums = mirror.path(VAULT.checksums_url)
    checksums.write_text("0" * 64 + checksums.read_text()[64:])
    assert "BAD signature" in install(fails=True).output
    assert installed(host) == []


def test_an_archive_with_another_checksum_is_refused(
    mirror: Mirror, program: Path, install: Callable[..., Run], host: Host
) -> None:
    mirror.publish(VAULT, program)
    with mirror.path(VAULT.url).open("ab") as archive:
        archive.write(b"more")
    output = install(fails=True).output
    assert "did not match" in output
    assert installed(host) == []


def test_a_mirror_without_https_needs_a_signature(install: Callable[..., Run], host: Host) -> None:
    output = install(fails=True, vault_server_verify_signature=False).output
    assert f"vault_server_mirror: found {URL}/releases.hashicorp.com; without https" in " ".join(output.split())
    assert installed(host) == []


@pytest.mark.parametrize(
    ("version", "archive", "checksums"),
    [
        ("2.5.5", "bao_2.5.5_Linux_x86_64.tar.gz", "checksums-linux.txt"),
        ("2.6.2", "openbao_2.6.2_linux_amd64.tar.gz", "checksums.txt"),
    ],
)
def test_openbao_is_installed_from_its_own_layout(
    version: str, archive: str, checksums: str, mirror: Mirror, program: Path, install: Callable[..., Run], host: Host
) -> None:
    base = f"{OPENBAO}/v{version}"
    mirror.publish(Release(f"{base}/{archive}", f"{base}/{checksums}", "bao", f"{base}/{checksums}.gpgsig"), program)
    install(version, vault_server_product="openbao", vault_server_mirror=f"{URL}/{OPENBAO.removeprefix('https://')}")
    assert host.check_output(f"/opt/vault/{version}/bao") == "it runs"
