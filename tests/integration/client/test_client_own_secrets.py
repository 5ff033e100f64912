"""A workload whose policy allows the contexts of its own Secrets alone (``own_secrets_only``)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from support.client import Manager, Put, Refused
from support.cluster import Cluster
from support.servers import PrivateVault

from secretmanager.admin.definitions import policy_resources, role_resources
from secretmanager.errors import DecryptionFailed, PermissionDenied
from secretmanager.sealed import Scope, sealed_values

OWN = ("own", "own-1", "own-22", "a")
"""Names of its Secrets: of three lengths, since base64 is of three bytes at a time."""


@pytest.fixture(autouse=True)
def role(vault: PrivateVault, cluster: Cluster) -> Iterator[str]:
    """The role and its policies, as the roles of Ansible write them."""
    workload = {
        "role": "own",
        "service_account": "reader",
        "namespace": cluster.namespace,
        "reads": ["derived"],
        "secrets": list(OWN),
        "own_secrets_only": True,
    }
    for resource in [
        *policy_resources([], workloads=[workload], derived_keys=["derived"]),
        *role_resources([workload]),
    ]:
        vault.write(resource["path"], **resource["data"])
    return "own"


def seal(put: Put, name: str, scope: Scope = Scope.STRICT) -> str:
    return put({"a": "PLAIN-a", "Some_other.key-1": "PLAIN-b"}, key="derived", scope=scope, name=name)


@pytest.mark.parametrize("name", OWN)
def test_it_reads_its_own(manager: Manager, put: Put, cluster: Cluster, role: str, name: str) -> None:
    one = manager(role=role)
    seal(put, name)
    values = {"a": "PLAIN-a", "Some_other.key-1": "PLAIN-b"}
    assert one.read_secrets(name, cluster.namespace) == values
    assert one.read_many([{"secret_name": name, "namespace": cluster.namespace}] * 2) == [values] * 2


@pytest.mark.parametrize("name", ["own-2", "ow", "own-11", "own-222", "b", "aa"])
def test_it_decrypts_nothing_else(
    manager: Manager, put: Put, cluster: Cluster, vault: PrivateVault, refused: Refused, role: str, name: str
) -> None:
    """Although its service account may get all Secrets of the namespace here."""
    seal(put, name)
    with refused(PermissionDenied, path="transit/decrypt/derived"):
        manager(role=role).read_secrets(name, cluster.namespace)


def test_what_its_token_may(manager: Manager, put: Put, cluster: Cluster, vault: PrivateVault, role: str) -> None:
    one = manager(role=role)
    one.connect_to_vault(k8s_token=one.get_k8s_service_account_token())
    token = one._connected()[1].token()
    value = sealed_values(cluster.kubernetes().get_secret(cluster.namespace, seal(put, "own")))["a"]
    context = base64.b64encode(f"{cluster.namespace}/own/a".encode()).decode()
    whole = {"ciphertext": value.ciphertext, "context": context}

    def status(key: str = "derived", **body: Any) -> int:
        return vault.root.request("POST", f"transit/decrypt/{key}", body, token=token).status

    assert status(**whole) == 200
    other = base64.b64encode(f"{cluster.namespace}/other/a".encode()).decode()
    for body in (
        {"ciphertext": value.ciphertext},
        {"batch_input": [whole]},
        {"batch_input": [{**whole, "context": other}], **whole},
        {**whole, "context": other},
        {**whole, "Context": other},
        {**whole, "context": [context, other]},
        {**whole, "context": "\n" + other},
        {**whole, "context": context[:-4] + "\n" + other},
        {**whole, "context": ""},
    ):
        assert status(**body) in (400, 403), body


def test_a_value_that_does_not_open(manager: Manager, put: Put, cluster: Cluster, refused: Refused, role: str) -> None:
    """What Vault says of one value is told as of a batch."""
    own, other = (cluster.kubernetes().get_secret(cluster.namespace, seal(put, name)) for name in ("own", "own-1"))
    own["data"]["a"] = other["data"]["a"]
    own["metadata"].pop("resourceVersion")
    cluster.put("own", own)
    with refused(DecryptionFailed, place=f"{cluster.namespace}/own[a]"):
        manager(role=role).read_secrets("own", cluster.namespace)
