"""A lab, as tests and the Molecule scenario use it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kubevault_lab import environment
from secretmanager.admin.connection import Vault
from secretmanager.admin.elevation import elevated
from secretmanager.admin.initialisation import plain_keys
from secretmanager.login.methods import TOKEN_FILE
from secretmanager.servers.kubernetes import KubernetesClient
from secretmanager.servers.vault import VaultClient

from . import ansible
from .ansible import BIN, play_in_lab

MOUNTED = """
import pathlib, sys
from secretmanager.commands.main import main
from secretmanager.login import methods
methods.TOKEN_FILE = pathlib.Path(sys.argv.pop(1))
main()
"""
"""The command, in place of a pod in which kubelet mounts the file."""


@dataclass(frozen=True)
class Lab:
    """A lab in a folder, which may not be running."""

    folder: Path

    def play(self, playbook: str) -> int:
        """Run one of the playbooks and return how many tasks changed something."""
        return play_in_lab(f"playbooks/{playbook}", self.folder).changed

    @property
    def env(self) -> dict[str, str]:
        """The variables of the lab's file ``env``."""
        return environment.read(self.folder)

    @property
    def ports(self) -> dict[str, int]:
        """The port of each server."""
        ports: dict[str, int] = json.loads((self.folder / "ports.json").read_text())
        return ports

    def pids(self) -> dict[str, int]:
        """Return the process ID of each server."""
        command = [BIN / "supervisorctl", "-c", self.folder / "supervisord.conf", "status"]
        status = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return {name: int(pid) for name, pid in re.findall(r"^(\S+)\s+RUNNING\s+pid (\d+)", status, re.M)}

    def supervisord(self) -> int:
        """Return the process ID of the supervisor."""
        return int((self.folder / "supervisord.pid").read_text())

    def vault(self, **options: object) -> VaultClient:
        """Return a client of Vault, without a token if ``options`` has none."""
        env = self.env
        return VaultClient(env["VAULT_ADDR"], **{"ca_cert": env["VAULT_CACERT"], **options})

    @contextmanager
    def privileged(self) -> Iterator[VaultClient]:
        """A client of Vault with a root token, which is made with the unseal key; one at a time."""
        keys = plain_keys(str(self.folder / "vault/unseal-keys.json"))
        with elevated(lambda token: Vault(self.vault(token=token)), keys) as token:
            yield self.vault(token=token)

    def operator(self) -> KubernetesClient:
        """Return a client of the Kubernetes API with the lab's own kubeconfig."""
        return KubernetesClient.from_kubeconfig(self.env["KUBECONFIG"])

    def jwt(self, namespace: str, service_account: str, audience: str | None = "vault") -> str:
        """Return a token of a service account."""
        return self.operator().create_token(namespace, service_account, audience)

    def workload(self, namespace: str, service_account: str) -> KubernetesClient:
        """Return a client of the Kubernetes API that has a service account's token and nothing else."""
        token = self.jwt(namespace, service_account, None)
        return KubernetesClient.from_kubeconfig(self.env["KUBECONFIG"], token=token)


def run_as_pod(
    lab: Lab, namespace: str, pod: Mapping[str, Any], folder: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run what the only container of a pod runs, with the tokens that the pod would have, and no other credential.

    Args:
        lab: the lab, which has no node.
        namespace: the pod's namespace.
        pod: the pod's spec.
        folder: a folder for the tokens.
        arguments: further arguments of the command.
        variables: variables in place of the pod's, whose address of Vault is for pods.
    """
    (container,) = pod["containers"]
    (token,) = (source for volume in pod["volumes"] for source in volume.get("projected", {}).get("sources", []))
    assert {"name": "vault-token", "mountPath": str(TOKEN_FILE.parent), "readOnly": True} in container["volumeMounts"]
    assert token["serviceAccountToken"]["path"] == TOKEN_FILE.name
    assert container["command"] == ["kubevault"]
    account = pod["serviceAccountName"]
    mounted, kubeconfig = folder / "vault-token", folder / "kubeconfig"
    mounted.write_text(lab.jwt(namespace, account, token["serviceAccountToken"]["audience"]))
    config = yaml.safe_load(Path(lab.env["KUBECONFIG"]).read_text())
    for user in config["users"]:
        user["user"] = {"token": lab.jwt(namespace, account, None)}
    kubeconfig.write_text(yaml.safe_dump(config))
    vault = {name: lab.env[name] for name in ("VAULT_ADDR", "VAULT_CACERT")}
    env = ansible.environment(**{**vault, "K8S_AUTH_KUBECONFIG": str(kubeconfig), **variables})
    command = [sys.executable, "-c", MOUNTED, str(mounted), *container["args"], *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)
