"""A Vault of their own and a namespace of the lab's Kubernetes for the client's tests: `source .lab/env` first."""

from __future__ import annotations

import logging
import os
import re
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from client_servers import PrivateVault, Program, RedisServer, running, sealed
from kubernetes import client, config

from secretmanager import SecretManager
from secretmanager.errors import SecretManagerError
from secretmanager.sealed import Scope
from secretmanager.servers.kubernetes import KubernetesClient

MARK = "PLAIN-"
"""What every plaintext of these tests begins with, so that it is found where it should not be."""

_SECRET = re.compile(rf"{MARK}|hvs\.|hvb\.|eyJhbGciOi|BEGIN [A-Z ]*PRIVATE KEY")


def assert_no_secret(text: str) -> None:
    """Plaintexts, Vault's tokens, JWTs and keys are not in a text."""
    found = _SECRET.search(text)
    assert not found, text[max(0, found.start() - 300) : found.end()]


@dataclass(frozen=True)
class Cluster:
    """The lab's Kubernetes API, a namespace of this test run in it, and an independent client of it."""

    kubeconfig: str
    namespace: str
    api: client.CoreV1Api
    rbac: client.RbacAuthorizationV1Api

    def put(self, name: str, secret: Mapping[str, Any]) -> str:
        """Make or replace a Secret; give its version."""
        try:
            made = self.api.create_namespaced_secret(self.namespace, dict(secret))
        except client.ApiException as error:
            if error.status != 409:
                raise
            made = self.api.replace_namespaced_secret(name, self.namespace, dict(secret))
        return made.metadata.resource_version

    def account(self, name: str, rules: list[dict[str, Any]] | None = None) -> str:
        """Make a service account with rights in its namespace; give its token for the API."""
        self.api.create_namespaced_service_account(self.namespace, {"metadata": {"name": name}})
        if rules:
            self.rbac.create_namespaced_role(self.namespace, {"metadata": {"name": name}, "rules": rules})
            binding = {
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": self.namespace}],
            }
            self.rbac.create_namespaced_role_binding(self.namespace, binding)
        return KubernetesClient.from_kubeconfig(self.kubeconfig).create_token(self.namespace, name, None)

    def kubeconfig_of(self, token: str, folder: Path) -> str:
        """Give a kubeconfig file whose user is a bearer token."""
        configuration = self.api.api_client.configuration
        path = folder / f"kubeconfig-{uuid.uuid4().hex[:8]}"
        cluster = {"server": configuration.host, "certificate-authority": configuration.ssl_ca_cert}
        content = {
            "clusters": [{"name": "it", "cluster": cluster}],
            "users": [{"name": "it", "user": {"token": token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "current-context": "it",
        }
        path.write_text(yaml.safe_dump(content))
        return str(path)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    assert "KUBECONFIG" in os.environ, "KUBECONFIG is not set: source .lab/env, or run `make test`"
    kubeconfig = os.environ["KUBECONFIG"]
    connection = config.new_client_from_config(kubeconfig)
    api = client.CoreV1Api(connection)
    namespace = f"client-{uuid.uuid4().hex[:8]}"
    api.create_namespace({"metadata": {"name": namespace}})
    yield Cluster(kubeconfig, namespace, api, client.RbacAuthorizationV1Api(connection))
    api.delete_namespace(namespace)


@pytest.fixture(scope="session")
def vault(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[PrivateVault]:
    """Roles "reader" and "powerless" of service account "reader", "default" of "default"; keys "plain", "derived"."""
    vault = PrivateVault(tmp_path_factory.mktemp("vault"))
    with running(vault, vault.set_up):
        configure(vault, cluster)
        yield vault


def configure(vault: PrivateVault, cluster: Cluster) -> None:
    vault.write("sys/mounts/transit", type="transit")
    vault.write("transit/keys/plain")
    vault.write("transit/keys/derived", derived=True)
    vault.policy("reader", {f"transit/decrypt/{key}": ["update"] for key in ("plain", "derived", "nosuch")} | SELF)
    vault.policy("powerless", SELF)
    vault.write("sys/auth/kubernetes", type="kubernetes")
    reviewer = KubernetesClient.from_kubeconfig(cluster.kubeconfig).create_token(
        "kube-system", "vault-auth", None, 7200
    )
    configuration = cluster.api.api_client.configuration
    vault.write(
        "auth/kubernetes/config",
        kubernetes_host=configuration.host,
        kubernetes_ca_cert=Path(configuration.ssl_ca_cert).read_text(),
        token_reviewer_jwt=reviewer,
        disable_local_ca_jwt=True,
    )
    cluster.account("reader")
    cluster.account("stranger")
    for role, account, policy in (
        ("reader", "reader", "reader"),
        ("powerless", "reader", "powerless"),
        ("default", "default", "reader"),
    ):
        vault.write(
            f"auth/kubernetes/role/{role}",
            bound_service_account_names=[account],
            bound_service_account_namespaces=[cluster.namespace],
            audience="vault",
            token_policies=[policy],
            token_no_default_policy=True,
            token_ttl=10,
            token_max_ttl=60,
        )


SELF = {"auth/token/renew-self": ["update"], "auth/token/revoke-self": ["update"]}


@pytest.fixture
def options(vault: PrivateVault, cluster: Cluster) -> dict[str, Any]:
    """A configuration that reads."""
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
def manager(options: dict[str, Any]) -> Iterator[Callable[..., SecretManager]]:
    """Makes managers, of that configuration with changes, and closes them."""
    made = []

    def make(**changes: Any) -> SecretManager:
        given = {name: value for name, value in {**options, **changes}.items() if value is not ...}
        made.append(SecretManager(given))
        return made[-1]

    yield make
    for one in made:
        one.close()


Put = Callable[..., str]


@pytest.fixture
def put(vault: PrivateVault, cluster: Cluster) -> Iterator[Put]:
    """Puts a sealed Secret of a new name, or a name's Secret anew; gives the name."""
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
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    with running(server, server.start):
        yield server


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    """Programs to be ended after the test."""
    made: list[Program] = []
    yield made
    for program in made:
        program.end()


@pytest.fixture(autouse=True)
def _no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a test does, at level DEBUG no logger shows a secret."""
    caplog.set_level(logging.DEBUG)
    yield
    for phase in ("setup", "call"):
        for record in caplog.get_records(phase):
            assert_no_secret(f"{record.getMessage()} {record.exc_text or ''}")


@contextmanager
def _refused(kind: type[SecretManagerError], match: str | None = None, **attributes: object) -> Iterator[Any]:
    with pytest.raises(kind, match=match) as caught:
        yield caught
    error = caught.value
    assert type(error) is kind
    assert {name: getattr(error, name) for name in attributes} == attributes
    while error is not None:
        assert_no_secret(f"{error!r} {error} {vars(error)} {''.join(traceback.format_exception_only(error))}")
        assert_no_secret(getattr(error, "doc", ""))  # a JSONDecodeError holds the whole text
        error = error.__cause__ or error.__context__


@pytest.fixture
def refused() -> Callable[..., AbstractContextManager[Any]]:
    """Expects an error of exactly this class, with these attributes, and no secret in it or in what led to it."""
    return _refused
