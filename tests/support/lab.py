"""A lab, as tests and the Molecule scenario use it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kubevault_lab import environment
from secretmanager.admin.connection import Vault
from secretmanager.admin.elevation import elevated
from secretmanager.admin.initialisation import plain_keys
from secretmanager.servers.kubernetes import KubernetesClient
from secretmanager.servers.vault import VaultClient

from .ansible import BIN, play_in_lab


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
