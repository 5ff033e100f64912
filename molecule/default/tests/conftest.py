"""The lab that Molecule made, as its tests see it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from kubevault_lab import environment
from secretmanager.servers.kubeconfig import find_access
from secretmanager.servers.kubernetes import KubernetesClient
from secretmanager.servers.vault import VaultClient


@dataclass(frozen=True)
class Lab:
    """The lab's folder and what its file ``env`` says."""

    folder: Path
    env: dict[str, str]

    @property
    def ports(self) -> dict[str, int]:
        return json.loads((self.folder / "ports.json").read_text())

    def vault(self, **options: object) -> VaultClient:
        return VaultClient(self.env["VAULT_ADDR"], **{"ca_cert": self.env["VAULT_CACERT"], **options})

    def operator(self) -> KubernetesClient:
        return KubernetesClient.from_kubeconfig(self.env["KUBECONFIG"])

    def jwt(self, namespace: str, service_account: str, audience: str | None = "vault") -> str:
        return self.operator().create_token(namespace, service_account, audience)

    def workload(self, namespace: str, service_account: str) -> KubernetesClient:
        """Return a client of the Kubernetes API that has a service account's token and nothing else."""
        token = self.jwt(namespace, service_account, None)
        return KubernetesClient(find_access(self.env["KUBECONFIG"], token=token))


@pytest.fixture(scope="session")
def lab() -> Lab:
    folder = Path(os.environ["KUBEVAULT_LAB"])
    return Lab(folder, environment.read(folder))
