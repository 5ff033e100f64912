"""A copy of the example inventory for hosts in a sandbox, and Ansible with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kubevault_lab.hosts import machine
from kubevault_lab.hosts.mirror import URL
from kubevault_lab.hosts.sandbox import STATE
from secretmanager.servers.vault import VaultClient

from .ansible import ROOT, Run, ansible_environment, run_playbook

MIRROR = f"{URL}/releases.hashicorp.com"
"""Where the hosts find Vault's release, once `serve_release` was called."""


class Site:
    """An inventory as a user makes it.

    Args:
        folder: a folder for it.
        variables: variables that differ from the example.
        groups: names of the hosts in each group; None for those of the example.

    Attributes:
        folder: as above.
        inventory: the inventory.
        secrets: its folder of what is secret.
        ca: file of Vault's CA.
    """

    def __init__(
        self, folder: Path, variables: Mapping[str, Any], groups: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.folder = folder
        self.inventory = folder / "inventory"
        self.secrets = self.inventory / "secrets"
        self.ca = str(self.inventory / "pki/ca.crt")
        shutil.copytree(ROOT / "inventories/example", self.inventory)
        self.secrets.mkdir(mode=0o700)
        self.set_variables(
            "tests",
            {
                **machine.CONNECTION,
                "vault_server_mirror": MIRROR,
                "vault_server_release_key": str(STATE / "signer/key.asc"),
                "vault_operator_elevate": True,  # there is nobody to ask
                **variables,
            },
        )
        if groups is not None:
            self.set_groups(groups)

    def set_variables(self, name: str, variables: Mapping[str, Any]) -> None:
        """Write variables to a file of the inventory; the last of the files counts, by their names."""
        (self.inventory / f"group_vars/all/{name}.yml").write_text(yaml.safe_dump(dict(variables)))

    def set_groups(self, groups: Mapping[str, Sequence[str]]) -> None:
        """Replace the hosts of some groups."""
        path = self.inventory / "hosts.yml"
        hosts = yaml.safe_load(path.read_text())
        for group, names in groups.items():
            hosts["all"]["children"][group]["hosts"] = dict.fromkeys(names)
        path.write_text(yaml.safe_dump(hosts))

    def play(self, playbook: str | Path, *arguments: str, fails: bool = False) -> Run:
        """Run a playbook with the inventory."""
        return run_playbook(
            playbook, f"--inventory={self.inventory}", *arguments, env=ansible_environment(), fails=fails
        )

    def client(self, *names: str, **options: Any) -> VaultClient:
        """Return a client of the Vault on some hosts, with the operator's token unless there is another."""
        if "token" not in options:
            options["token"] = (self.secrets / "vault-operator-token").read_text().strip()
        return VaultClient([f"https://{name}:8200" for name in names], **{"ca_cert": self.ca, **options})


def serve_release() -> Path:
    """Serve Vault's release to all hosts of the sandbox; return the mirror's folder."""
    folder = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "mirror"
    subprocess.run([sys.executable, "-m", "kubevault_lab.hosts", "mirror", folder], check=True, cwd=ROOT)
    return folder
