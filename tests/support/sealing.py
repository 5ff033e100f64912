"""Shared by the tests of sealing: both servers, and the policy of a sealer."""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client

from secretmanager.admin.definitions import POLICY_PATHS
from secretmanager.sealed import sealed_values
from secretmanager.sealing.plan import Outcome
from secretmanager.sealing.sealer import Sealer
from secretmanager.sealing.spec import SecretSpec
from secretmanager.sealing.stores import KubernetesStore
from secretmanager.servers.kubernetes import KubernetesClient
from secretmanager.servers.vault import TransitItem, VaultClient
from support import ansible
from support.cluster import Cluster
from support.servers import PrivateVault


def rules(access: str, *keys: str) -> dict[str, list[str]]:
    """Return what a policy of keys allows, such as that of a "sealer", as the roles write it."""
    return {
        f"transit/{path.format(key=key, digest_key=f'{key}-digest', rewrap_key=f'{key}-rewrap')}": [capability]
        for key in keys
        for path, capability in POLICY_PATHS[access].items()
    }


SEALER = rules("sealer", "derived", "plain", "other")
"""The whole policy of a sealer with these keys."""


@dataclass(frozen=True)
class Chain:
    """Both servers, a sealer's token, and clients that check its work: Vault's root, the official Kubernetes client."""

    vault: PrivateVault
    cluster: Cluster
    token: str

    @property
    def kubeconfig(self) -> str:
        return self.cluster.kubeconfig

    @property
    def namespace(self) -> str:
        return self.cluster.namespace

    @property
    def api(self) -> client.CoreV1Api:
        return self.cluster.api

    def client(self, token: str | None = None) -> VaultClient:
        return VaultClient(self.vault.url, ca_cert=self.vault.ca, token=token or self.token)

    def kubernetes(self) -> KubernetesClient:
        return self.cluster.kubernetes()

    def seal(self, *wanted: SecretSpec, check: bool = False) -> list[Outcome]:
        return Sealer(self.client(), KubernetesStore(self.kubernetes())).seal(wanted, check=check)

    def wanted(self, name: str, values: dict[str, bytes] | None = None, **options: Any) -> SecretSpec:
        return SecretSpec(self.namespace, name, values or {}, **{"transit_key": "derived", **options})

    def task(self, name: str, **options: Any) -> dict[str, Any]:
        """Return a task that seals."""
        base = {"name": name, "namespace": self.namespace, "transit_key": "derived"}
        return {"kubevault_secret": {**base, **options}}

    def secret(self, name: str) -> dict[str, Any]:
        found = self.api.read_namespaced_secret(name, self.namespace)
        return self.api.api_client.sanitize_for_serialization(found)

    def data(self, name: str) -> dict[str, bytes]:
        return {key: base64.b64decode(text) for key, text in self.secret(name)["data"].items()}

    def opened(self, name: str) -> dict[str, bytes]:
        """Return the decrypted values of a Secret."""
        found: dict[str, bytes] = {}
        for key, value in sealed_values(self.secret(name)).items():
            context = f"{self.namespace}/{name}/{key}".encode() if value.scope == "strict" else None
            item = TransitItem(value.ciphertext.encode(), context)
            (found[key],) = self.vault.root.decrypt(value.transit_key or "plain", [item])
        return found

    def put(self, name: str, values: dict[str, bytes], **fields: Any) -> None:
        """Create a Secret that is not sealed."""
        data = {key: base64.b64encode(value).decode() for key, value in values.items()}
        self.api.create_namespaced_secret(self.namespace, {"metadata": {"name": name}, "data": data, **fields})

    def token_for(self, policy: dict[str, list[str]], **options: Any) -> str:
        """Return a token with a new policy."""
        name = f"policy-{uuid.uuid4().hex[:8]}"
        self.vault.policy(name, policy)
        answer = self.vault.write("auth/token/create", policies=[name], no_default_policy=True, **options)
        return answer["auth"]["client_token"]


def environment(chain: Chain, token_file: Path, **more: str) -> dict[str, str]:
    """Return the environment in which modules and the command use these servers."""
    return ansible.environment(
        **{
            "VAULT_ADDR": chain.vault.url,
            "VAULT_CACERT": chain.vault.ca,
            "VAULT_TOKEN_FILE": str(token_file),
            "K8S_AUTH_KUBECONFIG": chain.kubeconfig,
            "ANSIBLE_HOME": str(token_file.parent / "ansible"),
            **more,
        }
    )
