"""A Vault that the origin's playbooks set up is taken over, and the published client goes on beside this one.

It is installed by pip, from the index or the files that pip is configured for. The inventory's entries are those of the
page, with the namespace of this run and with a key of its own: what rewraps all that is sealed with a key of the lab's
looks into all namespaces.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import play_in_lab
from support.client import Manager, Put, Refused
from support.cluster import Cluster
from support.docs import Place
from support.published import PublishedClient, install
from support.servers import PrivateVault, running

from secretmanager.admin.definitions import role_resources
from secretmanager.errors import Forbidden
from secretmanager.sealed import Scope, sealed_values
from secretmanager.sealing.sealer import Sealer
from secretmanager.sealing.spec import SecretSpec
from secretmanager.sealing.stores import KubernetesStore

PAGE = Place("docs/secretmanager.md", "Both clients for a while", "yaml")

KEY = "origin-key"

ORIGIN = f"""
path "auth/kubernetes/login" {{ capabilities = ["create", "read"] }}
path "transit/encrypt/{KEY}" {{ capabilities = ["update"] }}
path "transit/decrypt/{KEY}" {{ capabilities = ["update"] }}
path "transit/keys/{KEY}" {{ capabilities = ["read"] }}
path "transit/keys/{KEY}/rotate" {{ capabilities = ["update"] }}
"""
"""What the origin's policy allows."""

REVIEWER = "vault-auth"

SECRET = {"read_type": "SECRET", "read_key": "secrets.json", "transit_key": KEY}
NAME = "matrix-secrets"
VALUES = {"password": "PLAIN-1"}

Workloads = Sequence[dict[str, Any]]
Trust = Callable[..., None]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> PublishedClient:
    return install(tmp_path_factory.mktemp("published"))


@contextmanager
def reviewer(cluster: Cluster) -> Iterator[str]:
    """Make the service account with which the origin's Vault asks Kubernetes; yield its token."""
    name = f"{cluster.namespace}:auth-delegator"
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
        "subjects": [{"kind": "ServiceAccount", "name": REVIEWER, "namespace": cluster.namespace}],
    }
    cluster.rbac.create_cluster_role_binding(binding)
    try:
        cluster.account(REVIEWER)
        yield cluster.kubernetes().create_token(cluster.namespace, REVIEWER, None, 7200)
    finally:
        cluster.rbac.delete_cluster_role_binding(name)


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[PrivateVault]:
    """A Vault as the origin's playbooks set it up, with its role "demo" and another one of the same service account."""
    vault = PrivateVault(tmp_path_factory.mktemp("origin"))
    with running(vault, vault.set_up), reviewer(cluster) as token:
        vault.write("sys/auth/kubernetes", type="kubernetes")
        vault.write("sys/mounts/transit", type="transit")
        vault.write("sys/policies/acl/my-app-policy", policy=ORIGIN)
        vault.write(f"transit/keys/{KEY}")
        configuration = cluster.api.api_client.configuration
        vault.write(
            "auth/kubernetes/config",
            kubernetes_host=configuration.host,
            kubernetes_ca_cert=Path(configuration.ssl_ca_cert).read_text(),
            token_reviewer_jwt=token,
        )
        for role in ("demo", "other"):
            vault.write(
                f"auth/kubernetes/role/{role}",
                bound_service_account_names="default",
                bound_service_account_namespaces=cluster.namespace,
                policies="my-app-policy",
                ttl="10s",
            )
        yield vault


@pytest.fixture
def workloads(cluster: Cluster) -> Workloads:
    """The inventory's entries: the older client's, and that of this one."""
    found: list[dict[str, Any]] = yaml.safe_load(PAGE.find().text)["kubevault_workloads"]
    return [{**each, "namespace": cluster.namespace, "reads": [KEY]} for each in found]


@pytest.fixture
def trust(vault: PrivateVault, tmp_path: Path) -> Trust:
    """Runs trust.yml, and further playbooks, with workloads, as for a Vault that exists already."""
    root_token = tmp_path / "root-token"
    inventory = {
        "kubevault_vault_url": vault.url,
        "kubevault_vault_ca_cert": vault.ca,
        "kubevault_vault_token_file": str(tmp_path / "operator-token"),
        "kubevault_vault_root_token_file": str(root_token),
        "kubevault_transit_keys": [{"name": KEY}],
    }

    def run(workloads: Workloads, *playbooks: str) -> None:
        # The run revokes it at its end.
        root_token.write_text(vault.write("auth/token/create", policies=["root"])["auth"]["client_token"])
        root_token.chmod(0o600)
        variables = json.dumps({**inventory, "kubevault_workloads": workloads})
        play_in_lab("playbooks/trust.yml", Path(os.environ["KUBEVAULT_LAB"]), *playbooks, "-e", variables)

    return run


def config(vault: PrivateVault, cluster: Cluster, role: str, kube_config: str | None = None) -> dict[str, Any]:
    """Return the published client's configuration."""
    return {
        "kube_config": kube_config or cluster.kubeconfig,
        "service_account": "default",
        "namespace": cluster.namespace,
        "vault_url": vault.url,
        "ca_cert": vault.ca,
        "role": role,
    }


def test_a_role_of_this_client_refuses_the_published_one(
    published: PublishedClient, vault: PrivateVault, cluster: Cluster, workloads: Workloads
) -> None:
    """Which is why both need one."""
    (resource,) = role_resources([{**workloads[1], "role": "alone"}])
    vault.write(resource["path"], **resource["data"])
    answer = published.read(config(vault, cluster, "alone"), {})
    assert answer.status == "no log-in"
    assert "invalid audience (aud) claim" in answer.log


def test_both_read_the_same_secret_until_the_older_role_is_taken_out(
    published: PublishedClient,
    vault: PrivateVault,
    cluster: Cluster,
    put: Put,
    manager: Manager,
    refused: Refused,
    workloads: Workloads,
    trust: Trust,
    tmp_path: Path,
) -> None:
    api = cluster.kubernetes()
    place = {"namespace": cluster.namespace, "secret_name": NAME, **SECRET}
    older, ours = workloads
    assert [older["role"], older["secrets"], ours["secrets"]] == ["demo", [NAME], [NAME]]

    def theirs(role: str = older["role"], kube_config: str | None = None) -> Any:
        return published.read(config(vault, cluster, role, kube_config), place).data

    def origin_s() -> list[Any]:
        """Return what of the origin the inventory does not name."""
        paths = ("auth/kubernetes/role/other", "sys/policies/acl/my-app-policy")
        return [vault.root.request("GET", path).json()["data"] for path in paths]

    before = origin_s()
    put({"secrets.json": json.dumps(VALUES)}, key=KEY, name=NAME)
    assert theirs() == VALUES

    trust(workloads, "playbooks/verify.yml")
    # Vault has another one now.
    cluster.api.delete_namespaced_service_account(REVIEWER, cluster.namespace)
    # With the rights in Kubernetes that the entries give, and no others.
    account = cluster.kubeconfig_of(api.create_token(cluster.namespace, "default", None), tmp_path)
    # As kubelet mounts it into a pod.
    token = tmp_path / "vault-token"
    token.write_text(api.create_token(cluster.namespace, "default", "vault"))
    own = {"service_account": "default", "role": ours["role"], "kube_config": account}
    this = manager(**own, token_file=str(token))
    assert theirs(kube_config=account) == this.read_secrets(**place) == VALUES
    role = vault.root.request("GET", f"auth/kubernetes/role/{older['role']}").json()["data"]
    assert f"kubevault-reader-{KEY}" in role["token_policies"]
    assert "my-app-policy" not in [*role["token_policies"], *role.get("policies", [])]

    values = {"password": "PLAIN-2"}
    plaintexts = {"secrets.json": json.dumps(values).encode()}
    spec = SecretSpec(cluster.namespace, NAME, plaintexts, transit_key=KEY, force=True)
    Sealer(vault.root, KubernetesStore(api)).seal([spec])
    assert sealed_values(api.get_secret(cluster.namespace, NAME))["secrets.json"].scope is Scope.CLUSTER_WIDE
    assert theirs(kube_config=account) == this.read_secrets(**place) == values

    trust([ours])
    answer = published.read(config(vault, cluster, older["role"]), place)
    assert answer.status == "no log-in"
    assert 'invalid role name "demo"' in answer.log
    token.write_text(api.create_token(cluster.namespace, "default", "vault"))
    assert manager(**own, token_file=str(token)).read_secrets(**place) == values
    # What the older entry alone asked for.
    with refused(Forbidden, "serviceaccounts/token"):
        manager(**own).read_secrets(**place)
    assert origin_s() == before
    assert theirs("other") == values
