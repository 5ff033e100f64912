"""The lab's servers: they run, they listen on loopback only, and no secret is readable by others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.lab import Lab
from support.search import files_with
from testinfra.host import Host

SERVERS = ["etcd", "kube-apiserver", "kube-controller-manager", "vault"]


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_runs(host: Host, lab: Lab, name: str) -> None:
    service = host.supervisor(
        name,
        supervisorctl_path=str(Path(sys.executable).with_name("supervisorctl")),
        supervisorctl_conf=str(lab.folder / "supervisord.conf"),
    )
    assert service.is_running


def test_servers_listen_on_loopback_alone(host: Host, lab: Lab) -> None:
    listening = host.socket.get_listening_sockets()
    for port in lab.ports.values():
        addresses = [socket for socket in listening if socket.endswith(f":{port}")]
        assert addresses == [f"tcp://127.0.0.1:{port}"]


def test_what_holds_a_secret_is_private(host: Host, lab: Lab) -> None:
    assert host.file(str(lab.folder)).mode == 0o700
    secret = [
        "env",
        "vault/operator-token",
        "vault/unseal-keys.json",
        "pki/ca.key",
        "pki/vault.key",
        "pki/admin.key",
        "kubernetes/service-account.key",
        "kubernetes/admin.conf",
    ]
    assert {name: oct(host.file(str(lab.folder / name)).mode) for name in secret} == dict.fromkeys(secret, "0o600")


def test_the_root_token_is_gone(host: Host, lab: Lab) -> None:
    assert not host.file(str(lab.folder / "vault/root-token")).exists


def test_env_and_arguments_hold_no_secret(host: Host, lab: Lab) -> None:
    token = (lab.folder / "vault/operator-token").read_text().strip()
    assert token not in (lab.folder / "env").read_text()
    assert token not in host.check_output("ps -eo args")


def test_no_plaintext_lies_in_the_lab(lab: Lab) -> None:
    """Neither in etcd's or Vault's data, nor in a log."""
    assert any("etcd" in str(path) for path in files_with(b"vault:v", lab.folder)), "the search finds no ciphertext"
    for plaintext in (b"follow-the-white-rabbit", b"correct-horse"):
        assert list(files_with(plaintext, lab.folder)) == []
