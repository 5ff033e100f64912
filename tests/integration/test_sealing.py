"""Sealing on a real Vault and a real Kubernetes API: `source .lab/env` first."""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import hvac
import pytest
from kubernetes import client, config
from secretmanager.errors import ConfigError, SealedDataError, VaultError
from secretmanager.kubernetes import KubernetesClient
from secretmanager.vault import VaultClient

from secretmanager.sealed import MANIFEST_KEY, Scope, sealed_values
from secretmanager.sealing import Sealer, Wanted


@dataclass
class Chain:
    """Keys of this test run (K derived, K-plain not), and independent witnesses of both servers."""

    key: str
    admin: hvac.Client
    api: client.CoreV1Api
    token: str = field(repr=False)

    def sealer(self, key: str | None = None, scope: Scope = Scope.STRICT) -> Sealer:
        vault = VaultClient(os.environ["VAULT_ADDR"], ca_cert=os.environ["VAULT_CACERT"], token=self.token)
        kubernetes = KubernetesClient.from_kubeconfig(os.environ["KUBECONFIG"], None)
        return Sealer(vault, kubernetes, key or self.key, scope=scope, digest_key=f"{self.key}-digest")

    def secret(self, name: str) -> dict:
        found = self.api.read_namespaced_secret(name, "default")
        return self.api.api_client.sanitize_for_serialization(found)

    def decrypt(self, ciphertext: str, context: bytes) -> bytes:
        body = {"ciphertext": ciphertext, "context": base64.b64encode(context).decode()}
        answer = self.admin.write_data(f"transit/decrypt/{self.key}", data=body)
        return base64.b64decode(answer["data"]["plaintext"])


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    missing = [
        name
        for name in ("VAULT_ADDR", "VAULT_CACERT", "VAULT_TOKEN_FILE", "KUBECONFIG")
        if name not in os.environ
    ]
    assert not missing, f"source .lab/env: {missing} not set"
    token = Path(os.environ["VAULT_TOKEN_FILE"]).read_text(encoding="ascii").strip()
    admin = hvac.Client(url=os.environ["VAULT_ADDR"], verify=os.environ["VAULT_CACERT"], token=token)
    key = f"seal-{uuid.uuid4().hex[:8]}"
    kinds = {key: {"derived": True}, f"{key}-plain": {}, f"{key}-digest": {"type": "hmac", "key_size": 32}}
    for name, body in kinds.items():
        admin.write_data(f"transit/keys/{name}", data=body)
    yield Chain(key, admin, client.CoreV1Api(config.new_client_from_config(os.environ["KUBECONFIG"])), token)
    for name in kinds:
        admin.write_data(f"transit/keys/{name}/config", data={"deletion_allowed": True})
        admin.delete(f"transit/keys/{name}")


@pytest.fixture
def name(chain: Chain) -> Iterator[str]:
    name = f"seal-{uuid.uuid4().hex[:8]}"
    yield name
    for found in chain.api.list_namespaced_secret("default", field_selector=f"metadata.name={name}").items:
        chain.api.delete_namespaced_secret(found.metadata.name, "default")


def test_a_rerun_writes_nothing_and_an_edit_changes_its_key_alone(chain: Chain, name: str) -> None:
    wanted = Wanted("default", name, {"a": b"1", "b": b"\x00\xff"})
    assert chain.sealer().seal(wanted, check=True).added == ("a", "b")
    assert chain.sealer().seal(wanted).added == ("a", "b")
    before = chain.secret(name)
    assert not chain.sealer().seal(wanted).changed
    assert chain.secret(name) == before
    outcome = chain.sealer().seal(Wanted("default", name, {"a": b"1", "b": b"3"}))
    assert (outcome.added, outcome.updated) == ((), ("b",))
    after = chain.secret(name)
    assert after["data"]["a"] == before["data"]["a"]
    ciphertext = sealed_values(after)["b"].ciphertext
    assert chain.decrypt(ciphertext, f"default/{name}/b".encode()) == b"3"
    with pytest.raises(hvac.exceptions.VaultError, match="authentication failed"):
        chain.decrypt(ciphertext, f"default/{name}/a".encode())


def test_a_scope_that_the_key_does_not_fit_is_an_error(chain: Chain, name: str) -> None:
    wanted = Wanted("default", name, {"a": b"1"})
    with pytest.raises(ConfigError, match="derived"):
        chain.sealer(f"{chain.key}-plain").seal(wanted)
    with pytest.raises(VaultError, match="context"):
        chain.sealer(scope=Scope.CLUSTER_WIDE).seal(wanted)
    assert not chain.api.list_namespaced_secret("default", field_selector=f"metadata.name={name}").items
    assert chain.sealer(f"{chain.key}-plain", Scope.CLUSTER_WIDE).seal(wanted).created


def test_a_foreign_secret_is_taken_over_only_by_force(chain: Chain, name: str) -> None:
    body = {"metadata": {"name": name}, "stringData": {"a": "x", "other": "y"}}
    chain.api.create_namespaced_secret("default", body)
    wanted = Wanted("default", name, {"a": b"1"})
    with pytest.raises(SealedDataError, match="force"):
        chain.sealer().seal(wanted)
    assert chain.sealer().seal(wanted, force=True).updated == ("a",)
    assert base64.b64decode(chain.secret(name)["data"]["other"]) == b"y"


def test_a_thousand_keys_fit_one_secret(chain: Chain, name: str) -> None:
    wanted = Wanted("default", name, {f"key-{n:04}": b"%d" % n for n in range(1000)})
    assert len(chain.sealer().seal(wanted).added) == 1000
    assert not chain.sealer().seal(wanted).changed
    assert set(chain.secret(name)["data"]) == {*wanted.values, MANIFEST_KEY}
