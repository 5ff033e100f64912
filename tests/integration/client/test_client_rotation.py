"""Rotating keys and rewrapping Secrets as a service does it, with a role that decrypts nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.client import SELF, Manager, Put, Refused
from support.cluster import Cluster
from support.sealing import rules
from support.servers import PrivateVault

from secretmanager import AsyncSecretManager
from secretmanager.errors import ConfigError, ConflictError, DecryptionFailed, PermissionDenied, SealedDataError
from secretmanager.rotation import single
from secretmanager.sealed import manifest_of, oldest_version


@pytest.fixture(autouse=True)
def _rotator(vault: PrivateVault, cluster: Cluster) -> None:
    """A role that may rotate and rewrap, and nothing else."""
    vault.policy("rotator", {**rules("rotator", "plain", "derived"), **SELF})
    vault.write(
        "auth/kubernetes/role/rotator",
        bound_service_account_names=["reader"],
        bound_service_account_namespaces=[cluster.namespace],
        audience="vault",
        token_policies=["rotator"],
        token_no_default_policy=True,
    )


@pytest.mark.parametrize("key", ["plain", "derived"])
def test_a_rewrap_keeps_the_values(manager: Manager, seal: Put, cluster: Cluster, refused: Refused, key: str) -> None:
    name, rotator = seal({"a": "PLAIN-1", "b": "PLAIN-2"}, key=key), manager(role="rotator")
    assert rotator.rewrap(name, cluster.namespace) == {}
    version = rotator.rotate_vault_key(key)
    assert rotator.rewrap(name, cluster.namespace) == {"a": version, "b": version}
    secret = cluster.kubernetes().get_secret(cluster.namespace, name)
    manifest = manifest_of(secret)
    assert manifest
    assert oldest_version(manifest, "a", secret["data"]["a"]) == version - 1
    assert rotator.rewrap(name, cluster.namespace) == {}
    assert cluster.kubernetes().get_secret(cluster.namespace, name) == secret
    assert manager().read_secrets(name, cluster.namespace) == {"a": "PLAIN-1", "b": "PLAIN-2"}
    with refused(PermissionDenied):
        rotator.read_secrets(name, cluster.namespace)
    with refused(PermissionDenied):
        manager().rewrap(name, cluster.namespace)
    with refused(PermissionDenied):
        manager().rotate_vault_key(key)


def test_what_others_write_meanwhile_is_not_lost(
    manager: Manager, seal: Put, cluster: Cluster, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, rotator = seal({"a": "PLAIN-1", "b": "PLAIN-2"}), manager(role="rotator")
    version = rotator.rotate_vault_key("derived")
    replace, values = single.replace, iter(["PLAIN-3", *map(str, range(single.ATTEMPTS))])

    def outrun(*given: Any) -> None:
        if (value := next(values, None)) is not None:
            seal({"b": value}, name=name)
        replace(*given)

    monkeypatch.setattr(single, "replace", outrun)
    with refused(ConflictError):
        rotator.rewrap(name, cluster.namespace)
    assert rotator.rewrap(name, cluster.namespace) in ({"a": version}, {})
    values = iter(["PLAIN-4"])
    version = rotator.rotate_vault_key("derived")
    assert rotator.rewrap(name, cluster.namespace) == {"a": version}  # the other writer sealed b with the newest
    assert manager().read_secrets(name, cluster.namespace) == {"a": "PLAIN-1", "b": "PLAIN-4"}


def test_what_an_older_tool_sealed(manager: Manager, put: Put, cluster: Cluster, refused: Refused) -> None:
    name, rotator = put({"a": "PLAIN-1"}), manager(role="rotator")
    version = rotator.rotate_vault_key("plain")
    with refused(SealedDataError, "no manifest names"):
        rotator.rewrap(name, cluster.namespace)
    assert rotator.rewrap(name, cluster.namespace, "plain") == {"a": version}
    with refused(DecryptionFailed):
        rotator.rewrap(name, cluster.namespace, "derived")
    assert manager().read_secrets(name, cluster.namespace, transit_key="plain") == {"a": "PLAIN-1"}


def test_what_is_not_rewrapped(manager: Manager, seal: Put, cluster: Cluster, refused: Refused) -> None:
    name, rotator = seal({"a": "PLAIN-1"}), manager(role="rotator")
    version = rotator.rotate_vault_key("derived")
    labels = {"metadata": {"labels": {"argocd.argoproj.io/instance": "x"}}}
    cluster.api.patch_namespaced_secret(name, cluster.namespace, labels)
    with refused(ConfigError, "Argo CD or Flux owns it"):
        rotator.rewrap(name, cluster.namespace)
    assert rotator.rewrap(name, cluster.namespace, gitops=True) == {"a": version}
    cluster.api.patch_namespaced_secret(name, cluster.namespace, {"stringData": {"a": "vault:v1:QUJD"}})
    with refused(SealedDataError, "damaged"):
        rotator.rewrap(name, cluster.namespace)
    immutable = seal({"a": "PLAIN-1"})
    cluster.api.patch_namespaced_secret(immutable, cluster.namespace, {"immutable": True})
    version = rotator.rotate_vault_key("derived")
    with refused(ConfigError, "it is immutable"):
        rotator.rewrap(immutable, cluster.namespace)
    assert rotator.rewrap(immutable, cluster.namespace, recreate=True) == {"a": version}
    assert manager().read_secrets(immutable, cluster.namespace) == {"a": "PLAIN-1"}


def test_asyncio(options: dict[str, Any], seal: Put, cluster: Cluster) -> None:
    async def run() -> None:
        async with AsyncSecretManager({**options, "role": "rotator"}) as rotator:
            version = await rotator.rotate_vault_key("derived")
            assert await rotator.rewrap(name, cluster.namespace) == {"a": version}

    name = seal({"a": "PLAIN-1"})
    asyncio.run(run())
