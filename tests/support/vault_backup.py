"""Snapshots of a cluster of Vault, by the program and the settings of roles/vault-snapshot."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import yaml

from . import snapshot_program
from .ansible import ROOT
from .servers import wait_until
from .vault_nodes import VaultNodes

ROLE = ROOT / "roles/vault-snapshot"


class Backup:
    """What roles/vault-snapshot sets up on each host, without systemd, which loopback has not.

    Args:
        nodes: the nodes.
        name: name of a folder.
        decrypt: program and arguments that decrypt.
        variables: variables of the role.

    Attributes:
        folder: the folder, in which each node has one of its own.
        decrypt: as above.
    """

    def __init__(self, nodes: VaultNodes, name: str, decrypt: list[str], **variables: Any) -> None:
        self.folder = nodes.folder / name
        self.decrypt = decrypt
        self.folder.mkdir()
        host = f"{self.folder}/{{{{ inventory_hostname }}}}"
        files = self._files(
            nodes,
            vault_snapshot_url="{{ vault_server_url }}",
            vault_snapshot_ca_cert=nodes.ca,
            vault_snapshot_token_file=str(nodes.folder / "secrets/snapshot-token"),
            vault_snapshot_dir=host,
            vault_snapshot_config_dir=host,
            vault_snapshot_max_age=60,
            **variables,
        )
        for node, contents in files.items():
            (self.folder / node).mkdir(0o700)
            for file, content in contents.items():
                path = self.folder / node / file
                path.touch(0o600)
                path.write_text(content)

    def _files(self, nodes: VaultNodes, **variables: Any) -> dict[str, dict[str, str]]:
        """Return what the role writes: for each node, the contents of its files by name."""
        contents = {
            "configuration.json": "{{ vault_snapshot_settings | to_json }}",
            "recipients": "{{ vault_snapshot_encryption.recipients }}",
            "ca.crt": "{{ lookup('ansible.builtin.file', vault_snapshot_ca_cert) }}",
            "token": "{{ lookup('ansible.builtin.file', vault_snapshot_token_file) }}",
        }
        # One task, as each costs a process on each node.
        copy = {"content": "{{ contents | to_json }}", "dest": f"{self.folder}/{{{{ inventory_hostname }}}}.json"}
        play = {
            "hosts": "vault",
            "gather_facts": False,
            "vars_files": [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml")],
            "vars": {"contents": contents},
            "tasks": [{"ansible.builtin.copy": {**copy, "mode": "0600"}}],
        }
        playbook = self.folder / "playbook.yml"
        playbook.write_text(yaml.safe_dump([play]))
        nodes.play("--extra-vars", json.dumps(variables), playbook=str(playbook))
        return {name: json.loads((self.folder / f"{name}.json").read_text()) for name in nodes.nodes}

    def run(self, action: str, name: str, **changed: Any) -> subprocess.CompletedProcess[str]:
        """Run the program as on the host of a node, with settings that differ from the role's."""
        wait_until("a new name", self._has_new_name)
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

    def _has_new_name(self) -> bool:
        """Whether a snapshot of now has another name than those that there are, which have the time in seconds."""
        name = time.strftime("vault-%Y%m%dT%H%M%SZ.snap", time.gmtime())
        return name not in (path.stem for path in self.snapshots())

    def snapshots(self) -> list[Path]:
        """Return the snapshots, from the oldest to the newest."""
        return sorted(self.folder.glob("*/vault-*.snap.*"), key=lambda path: path.name)

    def variables(self) -> list[str]:
        """Return arguments of ansible-playbook that name the newest snapshot, and what decrypts it."""
        variables = {"vault_server_snapshot": str(self.snapshots()[-1]), "vault_server_snapshot_decrypt": self.decrypt}
        return ["--extra-vars", json.dumps(variables)]
