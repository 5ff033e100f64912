"""A Vault of its own and a namespace of the lab's Kubernetes for the tests of sealing: `source .lab/env` first."""

from __future__ import annotations

import base64
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from client_servers import PrivateVault, running
from kubernetes import client, config

from secretmanager.sealed import MANIFEST_KEY, sealed_values
from secretmanager.sealing.plan import Outcome
from secretmanager.sealing.sealer import Sealer
from secretmanager.sealing.spec import SecretSpec
from secretmanager.sealing.stores import KubernetesStore
from secretmanager.servers.kubernetes import KubernetesClient
from secretmanager.servers.vault import TransitItem, VaultClient

SEALER = {
    f"transit/{path}": ["update"]
    for key in ("derived", "plain", "other")
    for path in (f"encrypt/{key}", f"hmac/{key}-digest")
}
"""All that a sealer may do with these keys."""


@dataclass(frozen=True)
class Chain:
    """Both servers, and witnesses that are not the sealer: Vault's root and the whole Kubernetes client."""

    vault: PrivateVault
    kubeconfig: str
    namespace: str
    api: client.CoreV1Api
    token: str

    def client(self, token: str | None = None) -> VaultClient:
        return VaultClient(self.vault.url, ca_cert=self.vault.ca, token=token or self.token)

    def kubernetes(self) -> KubernetesClient:
        return KubernetesClient.from_kubeconfig(self.kubeconfig)

    def seal(self, *wanted: SecretSpec, check: bool = False) -> list[Outcome]:
        return Sealer(self.client(), KubernetesStore(self.kubernetes())).seal(wanted, check=check)

    def wanted(self, name: str, values: dict[str, bytes] | None = None, **options: Any) -> SecretSpec:
        return SecretSpec(self.namespace, name, values or {}, **{"transit_key": "derived", **options})

    def secret(self, name: str) -> dict[str, Any]:
        found = self.api.read_namespaced_secret(name, self.namespace)
        return self.api.api_client.sanitize_for_serialization(found)

    def data(self, name: str) -> dict[str, bytes]:
        return {key: base64.b64decode(text) for key, text in self.secret(name)["data"].items()}

    def opened(self, name: str) -> dict[str, bytes]:
        """Decrypt what is sealed in a Secret."""
        found: dict[str, bytes] = {}
        for key, value in sealed_values(self.secret(name)).items():
            context = f"{self.namespace}/{name}/{key}".encode() if value.scope == "strict" else None
            item = TransitItem(value.ciphertext.encode(), context)
            (found[key],) = self.vault.root.decrypt(value.transit_key or "plain", [item])
        return found

    def put(self, name: str, values: dict[str, bytes], **fields: Any) -> None:
        """Make a Secret that nobody sealed."""
        data = {key: base64.b64encode(value).decode() for key, value in values.items()}
        self.api.create_namespaced_secret(self.namespace, {"metadata": {"name": name}, "data": data, **fields})

    def token_for(self, policy: dict[str, list[str]], **options: Any) -> str:
        """Give a token of a policy of its own."""
        name = f"policy-{uuid.uuid4().hex[:8]}"
        self.vault.policy(name, policy)
        answer = self.vault.write("auth/token/create", policies=[name], no_default_policy=True, **options)
        return answer["auth"]["client_token"]

    def kubeconfig_for(self, folder: Any, verbs: Sequence[str]) -> str:
        """Give a kubeconfig file of a user who may do this with the namespace's Secrets."""
        name = f"user-{uuid.uuid4().hex[:8]}"
        connection = self.api.api_client
        rbac = client.RbacAuthorizationV1Api(connection)
        self.api.create_namespaced_service_account(self.namespace, {"metadata": {"name": name}})
        rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": list(verbs)}
        rbac.create_namespaced_role(self.namespace, {"metadata": {"name": name}, "rules": [rule]})
        subject = {"kind": "ServiceAccount", "name": name, "namespace": self.namespace}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        binding = {"metadata": {"name": name}, "roleRef": role, "subjects": [subject]}
        rbac.create_namespaced_role_binding(self.namespace, binding)
        token = self.kubernetes().create_token(self.namespace, name, None)
        cluster = {
            "server": connection.configuration.host,
            "certificate-authority": connection.configuration.ssl_ca_cert,
        }
        content = {
            "current-context": "it",
            "clusters": [{"name": "it", "cluster": cluster}],
            "users": [{"name": "it", "user": {"token": token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }
        path = folder / f"{name}.conf"
        path.write_text(json.dumps(content))
        return str(path)


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Keys "derived", "plain", "other" (derived) and their digests' keys; a token that may seal with them."""
    assert "KUBECONFIG" in os.environ, "KUBECONFIG is not set: source .lab/env, or run `make test`"
    kubeconfig = os.environ["KUBECONFIG"]
    api = client.CoreV1Api(config.new_client_from_config(kubeconfig))
    namespace = f"sealing-{uuid.uuid4().hex[:8]}"
    vault = PrivateVault(tmp_path_factory.mktemp("vault"))
    with running(vault, vault.set_up):
        vault.write("sys/mounts/transit", type="transit")
        for key, derived in (("derived", True), ("plain", False), ("other", True)):
            vault.write(f"transit/keys/{key}", derived=derived)
            vault.write(f"transit/keys/{key}-digest", type="hmac", key_size=32)
        made = Chain(vault, kubeconfig, namespace, api, "")
        made = Chain(vault, kubeconfig, namespace, api, made.token_for(SEALER))
        api.create_namespace({"metadata": {"name": namespace}})
        yield made
        api.delete_namespace(namespace)


@pytest.fixture
def name() -> str:
    return f"secret-{uuid.uuid4().hex[:8]}"


__all__ = ["MANIFEST_KEY", "Chain"]
