"""Snapshots of three nodes, and the drill: all are lost, and come back from a snapshot and the unseal keys."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import snapshot_program
from support.ansible import ROOT
from support.gnupg import key_ring
from support.vault_nodes import VaultNodes

from secretmanager.servers.vault import TransitItem

ROLE = ROOT / "roles/vault-snapshot"
VALUES = [b"PLAIN-a", b"PLAIN-b"]


class Backup:
    """What roles/vault-snapshot sets up on each host, without systemd, which loopback has not.

    Args:
        nodes: the nodes.
        name: name of a folder.
        decrypt: program and arguments that decrypt.
        variables: variables of the role.
    """

    def __init__(self, nodes: VaultNodes, name: str, decrypt: list[str], **variables: Any) -> None:
        self.nodes = nodes
        self.folder = nodes.folder / name
        self.decrypt = decrypt
        host = f"{self.folder}/{{{{ inventory_hostname }}}}"
        self._set_up(
            vault_snapshot_url="{{ vault_server_url }}",
            vault_snapshot_ca_cert=nodes.ca,
            vault_snapshot_token_file=str(nodes.folder / "secrets/snapshot-token"),
            vault_snapshot_dir=host,
            vault_snapshot_config_dir=host,
            vault_snapshot_max_age=60,
            **variables,
        )

    def _set_up(self, **variables: Any) -> None:
        """Write what the role writes."""
        contents = {
            "configuration.json": "{{ vault_snapshot_settings | to_json }}",
            "recipients": "{{ vault_snapshot_encryption.recipients }}",
            "ca.crt": "{{ lookup('ansible.builtin.file', vault_snapshot_ca_cert) }}",
            "token": "{{ lookup('ansible.builtin.file', vault_snapshot_token_file) }}",
        }
        folder = {"path": "{{ vault_snapshot_config_dir }}", "state": "directory", "mode": "0700"}
        copies = [
            {"copy": {"content": content, "dest": f"{{{{ vault_snapshot_config_dir }}}}/{name}", "mode": "0600"}}
            for name, content in contents.items()
        ]
        play = {
            "hosts": "vault",
            "gather_facts": False,
            "vars_files": [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml")],
            "tasks": [{"file": folder}, *copies],
        }
        self.folder.mkdir()
        playbook = self.folder / "playbook.yml"
        playbook.write_text(yaml.safe_dump([play]))
        self.nodes.play("--extra-vars", json.dumps(variables), playbook=str(playbook))

    def run(self, action: str, name: str, **changed: Any) -> subprocess.CompletedProcess[str]:
        """Run the program as on the host of a node, with settings that differ from the role's."""
        file = self.folder / name / "configuration.json"
        if changed:
            settings = json.loads(file.read_text())
            file = file.with_name("changed.json")
            file.write_text(json.dumps({**settings, **changed}))
        # GnuPG has a folder without keys, as by the unit.
        env = {**os.environ, "GNUPGHOME": str(self.folder / name)}
        return subprocess.run(
            [snapshot_program.PROGRAM, action, file], env=env, check=False, capture_output=True, text=True
        )

    def snapshots(self) -> list[Path]:
        return sorted(self.folder.glob("*/vault-*.snap.*"), key=lambda path: path.name)

    def variables(self, **more: Any) -> list[str]:
        given = {
            "vault_server_snapshot": str(self.snapshots()[-1]),
            "vault_server_snapshot_decrypt": self.decrypt,
            **more,
        }
        return ["--extra-vars", json.dumps(given)]


@pytest.fixture(scope="module")
def nodes() -> Iterator[VaultNodes]:
    with VaultNodes(
        ["vault-1", "vault-2", "vault-3"],
        vault_server_key_shares=3,
        vault_server_key_threshold=2,
        vault_operator_snapshot_token_file="{{ lab_supervisor_dir }}/secrets/snapshot-token",
    ) as nodes:
        nodes.set_up()
        yield nodes


@pytest.fixture(scope="module")
def backup(nodes: VaultNodes) -> Backup:
    """Snapshots that a key of age decrypts."""
    identity = nodes.folder / "identity"
    made = subprocess.run(["age-keygen", "-o", identity], check=True, capture_output=True, text=True).stderr
    recipients = [made.split("Public key: ")[1].strip()]
    decrypt = ["age", "--decrypt", "--identity", str(identity)]
    return Backup(nodes, "age", decrypt, vault_snapshot_age_recipients=recipients)


@pytest.fixture(scope="module")
def pgp_backup(nodes: VaultNodes) -> Iterator[Backup]:
    """Snapshots that a PGP key decrypts."""
    public = nodes.folder / "backup.asc"
    with key_ring() as ring:
        ring.make_key("backup")
        public.write_bytes(ring.export("backup", "--armor"))
        yield Backup(nodes, "pgp", [*ring.command, "--decrypt"], vault_snapshot_pgp_key_file=str(public))


@pytest.fixture(scope="module")
def ciphertexts(nodes: VaultNodes) -> list[str]:
    """Values that the operator sealed."""
    nodes.new_key("shop")
    return nodes.client().encrypt("shop", [TransitItem(value) for value in VALUES])


def assert_readable(nodes: VaultNodes, ciphertexts: list[str]) -> None:
    """Check that each node decrypts; the operator may not see what."""
    for name in nodes.nodes:
        found = nodes.client(name).rewrap("shop", [TransitItem(text.encode()) for text in ciphertexts])
        assert len(found) == len(VALUES)


def test_the_token_reads_snapshots_and_nothing_else(nodes: VaultNodes) -> None:
    token = (nodes.folder / "secrets/snapshot-token").read_text().strip()
    client = nodes.client(nodes.leader(), token=token)
    about = client.request("GET", "auth/token/lookup-self").json()["data"]
    assert (about["policies"], about["renewable"]) == (["default", "kubevault-snapshot"], True)
    status = {
        (method, path): client.request(method, path, {}).status
        for method, path in [
            ("POST", "sys/storage/raft/snapshot"),
            ("POST", "sys/storage/raft/snapshot-force"),
            ("GET", "sys/storage/raft/configuration"),
            ("POST", "transit/decrypt/shop"),
        ]
    }
    assert set(status.values()) == {403}, status


def test_of_three_hosts_the_leader_takes_one_snapshot(
    nodes: VaultNodes, backup: Backup, ciphertexts: list[str]
) -> None:
    done = {name: backup.run("take", name) for name in nodes.nodes}
    assert {name: run.returncode for name, run in done.items()} == dict.fromkeys(nodes.nodes, 0), done
    (path,) = backup.snapshots()
    assert path.parent.name == nodes.leader()
    content = path.read_bytes()
    assert content.startswith(b"age-encryption.org/v1")
    metrics = (path.parent / "metrics.prom").read_text()
    assert f"\nvault_snapshot_size_bytes {len(content)}\n" in metrics
    assert [backup.run("check", name).returncode for name in nodes.nodes] == [0, 0, 0]


def test_a_pgp_key_decrypts_what_the_role_has_gpg_encrypt(
    nodes: VaultNodes, pgp_backup: Backup, ciphertexts: list[str]
) -> None:
    done = pgp_backup.run("take", nodes.leader())
    assert done.returncode == 0, done
    (path,) = pgp_backup.snapshots()
    assert path.suffix == ".gpg"
    plain = subprocess.run(pgp_backup.decrypt, input=path.read_bytes(), check=True, capture_output=True).stdout
    snapshot_program.load().verify(io.BytesIO(plain))


def test_a_snapshot_is_copied_by_its_path_and_its_name(nodes: VaultNodes, backup: Backup, tmp_path: Path) -> None:
    done = backup.run("take", nodes.leader(), copy=["cp", "{path}", f"{tmp_path}/copy-{{name}}"])
    assert done.returncode == 0, done
    newest = backup.snapshots()[-1]
    (copy,) = tmp_path.iterdir()
    assert copy.name == f"copy-{newest.name}"
    assert copy.read_bytes() == newest.read_bytes()


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (["false", "{path}"], "false: ended with status 1"),
        (["/nonexistent/rclone", "{path}"], "/nonexistent/rclone: No such file or directory"),
    ],
)
def test_a_copy_that_fails_is_an_error_and_no_success(
    nodes: VaultNodes, backup: Backup, command: list[str], problem: str
) -> None:
    leader = nodes.leader()
    metrics = backup.folder / leader / "metrics.prom"
    before = metrics.read_text()
    former = backup.snapshots()[-1]
    time.sleep(1)  # names have the time in seconds
    done = backup.run("take", leader, copy=command)
    newest = backup.snapshots()[-1]
    assert newest != former
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"vault-snapshot: {newest} was taken, but not copied: {problem}\n"
    assert metrics.read_text() == before


def test_the_drill_all_nodes_are_lost_and_every_value_is_read_again(
    nodes: VaultNodes, pgp_backup: Backup, ciphertexts: list[str]
) -> None:
    keys = (nodes.folder / "secrets/keys.json").read_text()
    token = (nodes.folder / "secrets/operator-token").read_text()
    nodes.lose()
    nodes.restore(*pgp_backup.variables())
    assert nodes.changed() == 0
    assert_readable(nodes, ciphertexts)
    assert (nodes.folder / "secrets/keys.json").read_text() == keys
    assert (nodes.folder / "secrets/operator-token").read_text() == token
    assert not list((nodes.folder / "secrets").glob("vault-restore*"))


@pytest.fixture(scope="module")
def other(nodes: VaultNodes, backup: Backup) -> Path:
    """Another Vault on the same hosts, with a privileged token; return where the secrets of the former one are."""
    secrets = nodes.folder / "secrets"
    former = secrets.rename(nodes.folder / "former-secrets")
    secrets.mkdir()
    nodes.lose()
    nodes.play()
    return former


def test_a_snapshot_replaces_a_vault_that_runs_with_other_keys(
    nodes: VaultNodes, backup: Backup, ciphertexts: list[str], other: Path
) -> None:
    secrets = nodes.folder / "secrets"
    for name in ("keys.json", "operator-token"):
        shutil.copy(other / name, secrets)
    nodes.restore(*backup.variables())
    assert nodes.changed() == 0
    assert_readable(nodes, ciphertexts)
    assert not (secrets / "root-token").exists()
