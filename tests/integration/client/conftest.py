"""A Vault server and a namespace of the lab's Kubernetes for the client's tests: `source .lab/env` first."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.client import (
    RIGHTS,
    SELF,
    TOKEN_LIFE,
    VALUES,
    MakeAppRole,
    Manager,
    Put,
    Read,
    Refused,
    assert_no_secret,
    configure,
)
from support.client import refused as expect_refusal
from support.cluster import Cluster, own_namespace
from support.google_stand_in import ACCOUNT, GoogleStandIn
from support.intermediary import Intermediary
from support.servers import Authority, PrivateVault, RedisServer, running, sealed

from secretmanager import SecretManager
from secretmanager.sealed import Scope
from secretmanager.sealing.sealer import Sealer
from secretmanager.sealing.spec import SecretSpec
from secretmanager.sealing.stores import KubernetesStore


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with own_namespace("client") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def vault(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[PrivateVault]:
    """Roles "reader" and "powerless" of service account "reader", "default" of "default"; keys "plain", "derived"."""
    vault = PrivateVault(tmp_path_factory.mktemp("vault"))
    with running(vault, vault.set_up):
        configure(vault, cluster)
        yield vault


@pytest.fixture
def options(vault: PrivateVault, cluster: Cluster) -> dict[str, Any]:
    """A configuration with which reading works."""
    return {
        "SOURCE": "KUBEVAULT",
        "kube_config": cluster.kubeconfig,
        "service_account": "reader",
        "namespace": cluster.namespace,
        "vault_url": vault.url,
        "role": "reader",
        "ca_cert": vault.ca,
        "timeout": 20,
    }


@pytest.fixture
def manager(options: dict[str, Any]) -> Iterator[Manager]:
    """Creates managers with that configuration and changes; closes them after the test."""
    made = []

    def make(**changes: Any) -> SecretManager:
        given = {name: value for name, value in {**options, **changes}.items() if value is not ...}
        made.append(SecretManager(given))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def put(vault: PrivateVault, cluster: Cluster) -> Iterator[Put]:
    """Stores a sealed Secret under a new name, or replaces the one of a name; returns the name."""
    names = set()

    def seal(
        values: Mapping[str, str], *, key: str = "plain", scope: Scope | None = None, name: str | None = None
    ) -> str:
        name = name or f"secret-{uuid.uuid4().hex[:8]}"
        names.add(name)
        cluster.put(name, sealed(vault, (cluster.namespace, name), key, values, scope))
        return name

    yield seal
    for name in names:
        cluster.api.delete_collection_namespaced_secret(cluster.namespace, field_selector=f"metadata.name={name}")


@pytest.fixture
def seal(vault: PrivateVault, cluster: Cluster) -> Iterator[Put]:
    """Seals values as `kubevault seal` does, under a new name or the one of a name; returns the name."""
    names = set()
    for key in ("plain", "derived"):
        vault.write(f"transit/keys/{key}-digest", type="hmac", key_size=32)

    def write(values: Mapping[str, str], *, key: str = "derived", name: str | None = None) -> str:
        name = name or f"secret-{uuid.uuid4().hex[:8]}"
        names.add(name)
        plaintexts = {data_key: text.encode() for data_key, text in values.items()}
        spec = SecretSpec(cluster.namespace, name, plaintexts, transit_key=key, allow_empty=True)
        Sealer(vault.root, KubernetesStore(cluster.kubernetes())).seal([spec])
        return name

    yield write
    for name in names:
        cluster.api.delete_collection_namespaced_secret(cluster.namespace, field_selector=f"metadata.name={name}")


@pytest.fixture
def read(put: Put, cluster: Cluster) -> Read:
    """Reads a new sealed Secret with `VALUES`."""
    name = put(VALUES)
    return lambda manager: manager.read_secrets(name, cluster.namespace, transit_key="plain")


@pytest.fixture
def approle(vault: PrivateVault) -> MakeAppRole:
    """Creates an AppRole; returns its role ID and a secret ID, or a response-wrapping token for one."""
    if not vault.root.request("GET", "sys/auth/approle/tune").ok:
        vault.write("sys/auth/approle", type="approle")

    def make(name: str, *, wrapped: bool = False, **changes: Any) -> tuple[str, str]:
        vault.write(f"auth/approle/role/{name}", **{"token_policies": ["reader"], "token_ttl": TOKEN_LIFE, **changes})
        role_id = vault.root.request("GET", f"auth/approle/role/{name}/role-id").json()["data"]["role_id"]
        if changes.get("bind_secret_id") is False:
            return role_id, ""
        if wrapped:
            return role_id, vault.wrapped(f"auth/approle/role/{name}/secret-id")
        return role_id, vault.write(f"auth/approle/role/{name}/secret-id")["data"]["secret_id"]

    return make


@pytest.fixture(scope="module")
def google() -> Iterator[GoogleStandIn]:
    """A stand-in for Google."""
    google = GoogleStandIn()
    yield google
    google.close()


@pytest.fixture(scope="module")
def google_vault(google: GoogleStandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateVault]:
    """A Vault server whose gcp auth method uses the stand-in; roles "reader", "other" and "machine"."""
    folder = tmp_path_factory.mktemp("google-vault")
    own = google.key_file(folder / "vault.json.key")
    vault = PrivateVault(folder, {"GOOGLE_APPLICATION_CREDENTIALS": str(own)})
    with running(vault, vault.set_up):
        vault.write("sys/mounts/transit", type="transit")
        vault.write("transit/keys/plain")
        vault.policy("reader", {"transit/decrypt/plain": ["update"], "transit/keys/plain": ["read"], **SELF})
        vault.write("sys/auth/gcp", type="gcp")
        vault.write("auth/gcp/config", custom_endpoint={"api": google.url, "iam": google.url})
        bound = {"type": "iam", "token_policies": ["reader"], "token_ttl": TOKEN_LIFE}
        vault.write("auth/gcp/role/reader", bound_service_accounts=[ACCOUNT], **bound)
        vault.write("auth/gcp/role/other", bound_service_accounts=["other@project.iam.gserviceaccount.com"], **bound)
        # Tokens of the metadata server expire after an hour.
        vault.write("auth/gcp/role/machine", bound_service_accounts=[ACCOUNT], max_jwt_exp="60m", **bound)
        yield vault


@pytest.fixture
def before_vault(vault: PrivateVault, tmp_path: Path) -> Iterator[Intermediary]:
    authority = Authority(tmp_path, "front-of-vault")
    intermediary = Intermediary(vault.url, vault.ca, authority.issue("load-balancer"))
    yield intermediary
    intermediary.close()


@pytest.fixture
def through_vault(before_vault: Intermediary, tmp_path: Path) -> dict[str, Any]:
    """Options of a manager that reaches Vault through the intermediary."""
    return {
        "vault_url": before_vault.url,
        "ca_cert": str(tmp_path / "front-of-vault.crt"),
        "election_timeout": 0,
        "retries": 1,
    }


@pytest.fixture
def before_kubernetes(cluster: Cluster, tmp_path: Path) -> Iterator[Intermediary]:
    configuration = cluster.api.api_client.configuration
    authority = Authority(tmp_path, "front-of-kubernetes")
    intermediary = Intermediary(configuration.host, configuration.ssl_ca_cert, authority.issue("ingress"))
    yield intermediary
    intermediary.close()


@pytest.fixture
def through_kubernetes(before_kubernetes: Intermediary, cluster: Cluster, tmp_path: Path) -> dict[str, Any]:
    """Options of a manager that reaches Kubernetes through the intermediary."""
    return {
        "kube_config": cluster.kubeconfig_of(
            cluster.account(f"user-{uuid.uuid4().hex[:8]}", RIGHTS),
            tmp_path,
            before_kubernetes.url,
            str(tmp_path / "front-of-kubernetes.crt"),
        ),
        "election_timeout": 0,
        "retries": 1,
    }


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    with running(server, server.start):
        yield server


@pytest.fixture(autouse=True)
def _no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check after each test that no logger showed a secret at level DEBUG."""
    caplog.set_level(logging.DEBUG)
    yield
    for phase in ("setup", "call"):
        for record in caplog.get_records(phase):
            assert_no_secret(f"{record.getMessage()} {record.exc_text or ''}")


@pytest.fixture
def refused() -> Refused:
    """Expects an error; see `support.client.refused`."""
    return expect_refusal
