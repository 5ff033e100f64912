"""What rotators and retirers may do, and everything else that they may not, on real servers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.change import Change
from support.lab import Lab
from support.servers import PrivateVault

from secretmanager.admin.definitions import POLICY_PATHS, lease_name, policy_name, policy_resources
from secretmanager.errors import Forbidden, PermissionDenied
from secretmanager.rotation.lease import held
from secretmanager.servers.kubernetes import KubernetesClient
from secretmanager.servers.vault import TransitItem

# What a token may ask of Vault about the key "k", and what else somebody might try.
READ, ROTATE = "GET keys/k", "POST keys/k/rotate"
REWRAP, ENCRYPT, DECRYPT = "POST rewrap/k", "POST encrypt/k", "POST decrypt/k"
CONFIGURE, TRIM, DIGEST = "POST keys/k/config", "POST keys/k/trim", "POST hmac/k-digest"
ALLOWED = {
    "reader": {DECRYPT},
    "sealer": {ENCRYPT, DIGEST},
    "rotator": {READ, ROTATE, REWRAP},
    "retirer": {READ, CONFIGURE, TRIM, REWRAP},
}
NOBODY = ["GET export/encryption-key/k", "GET backup/k", "DELETE keys/k", "POST keys/new", "POST datakey/plaintext/k"]
OF_OTHERS = [
    "GET keys/o",
    "POST keys/o/rotate",
    "POST rewrap/o",
    "POST decrypt/o",
    "POST keys/o/config",
    "GET keys/k-digest",
]
BODIES: dict[str, dict[str, Any]] = {
    CONFIGURE: {"min_decryption_version": 1, "min_encryption_version": 1},
    TRIM: {"min_available_version": 1},
}


@pytest.fixture(scope="module")
def tokens(vault: PrivateVault) -> dict[str, str]:
    """A token of each policy of the key "k"; there is another key "o" too."""
    vault.write("sys/mounts/transit", type="transit")
    for key in ("k", "k-digest", "o"):
        vault.write(f"transit/keys/{key}")
    for resource in policy_resources(["k"]):
        vault.write(resource["path"], **resource["data"])
    return {
        access: vault.write("auth/token/create", policies=[policy_name(access, "k")], no_default_policy=True)["auth"][
            "client_token"
        ]
        for access in POLICY_PATHS
    }


def status(vault: PrivateVault, token: str, request: str, body: dict[str, Any] | None = None) -> int:
    method, path = request.split()
    given = body or BODIES.get(request, {}) if method == "POST" else None
    return vault.root.request(method, f"transit/{path}", given, token=token).status


@pytest.mark.parametrize("access", ALLOWED)
def test_vault_grants_what_a_policy_is_for_and_no_more(
    vault: PrivateVault, tokens: dict[str, str], access: str
) -> None:
    everything = {*NOBODY, *OF_OTHERS}.union(*ALLOWED.values())
    refused = {request for request in everything if status(vault, tokens[access], request) == 403}
    assert everything - refused == ALLOWED[access]


@pytest.mark.parametrize(
    "parameters",
    [
        {"deletion_allowed": True},
        {"exportable": True},
        {"allow_plaintext_backup": True},
        {"auto_rotate_period": "1h"},
        {"min_decryption_version": 1, "deletion_allowed": True},
    ],
)
def test_a_retirer_sets_nothing_else_of_a_key(
    vault: PrivateVault, tokens: dict[str, str], parameters: dict[str, Any]
) -> None:
    assert status(vault, tokens["retirer"], CONFIGURE, parameters) == 403
    assert vault.root.request("POST", "transit/keys/o/config", parameters).ok, "root may"


@pytest.mark.parametrize("role", ["rotator", "retirer"])
def test_the_lab_s_workloads_log_in_and_cannot_decrypt(lab: Lab, role: str) -> None:
    vault = lab.vault()
    vault.token = vault.login_kubernetes(role, lab.jwt("kubevault", role)).client_token
    assert vault.read_key("aes256-key")["latest_version"]
    item = TransitItem(b"vault:v1:AAAA")
    operations: list[Callable[..., Any]] = [
        vault.decrypt,
        vault.encrypt,
    ]
    for operation in operations:
        with pytest.raises(PermissionDenied, match=f"transit/{operation.__name__}/aes256-key"):
            operation("aes256-key", [item])


def refusals(lab: Lab, kubernetes: KubernetesClient, namespace: str) -> set[str]:
    """Return which of the verbs on Secrets of a namespace Kubernetes refuses; nothing is written."""
    administrator = lab.operator()
    secret = next(iter(administrator.list_secrets(namespace)))
    name = secret["metadata"]["name"]
    new = {"metadata": {"name": "new"}}
    attempts: dict[str, Callable[[], Any]] = {
        "get": lambda: kubernetes.get_secret(namespace, name),
        "list": lambda: list(kubernetes.list_secrets(namespace)),
        "update": lambda: kubernetes.update_secret(namespace, secret, dry_run=True),
        "create": lambda: kubernetes.create_secret(namespace, new, dry_run=True),
        "delete": lambda: kubernetes.delete_secret(namespace, secret, dry_run=True),
        "watch": lambda: kubernetes.watch("secrets", namespace, name, seconds=1).close(),
        "list everywhere": lambda: list(kubernetes.list_secrets()),
        "another's token": lambda: kubernetes.create_token(namespace, "default", "vault"),
        "another's lease": lambda: kubernetes.get_lease(namespace, lease_name("aes256-key")),
    }
    found = set()
    for verb, attempt in attempts.items():
        try:
            attempt()
        except Forbidden:
            found.add(verb)
    return found


NEVER = {"create", "delete", "watch", "another's token", "another's lease"}


def test_kubernetes_grants_a_rotator_its_namespaces(lab: Lab) -> None:
    rotator = lab.workload("kubevault", "rotator")
    for namespace in ("default", "payments"):
        assert refusals(lab, rotator, namespace) == {*NEVER, "list everywhere"}
    with pytest.raises(Forbidden, match="kube-system"):
        list(rotator.list_secrets("kube-system"))


def test_kubernetes_grants_a_retirer_to_look_and_not_to_write(lab: Lab) -> None:
    for namespace in ("default", "payments"):
        assert refusals(lab, lab.workload("kubevault", "retirer"), namespace) == {*NEVER, "get", "update"}


@pytest.mark.parametrize("account", ["rotator", "retirer"])
def test_both_hold_the_leases_of_their_keys_alone(lab: Lab, account: str) -> None:
    kubernetes = lab.workload("kubevault", account)
    with held(kubernetes, "kubevault", lease_name("aes256-key")) as lease:
        lease.check()
    with pytest.raises(Forbidden, match="other-key"), held(kubernetes, "kubevault", lease_name("other-key")):
        pytest.fail("no right")


def test_a_rotator_of_all_namespaces_and_in_shards(lab: Lab, change: Change) -> None:
    rotator = lab.workload(change.rotation, change.rotation)
    assert refusals(lab, rotator, "default") == NEVER
    with held(rotator, change.rotation, lease_name("aes256-key", (1, 2))) as lease:
        lease.check()
    with pytest.raises(Forbidden), held(rotator, change.rotation, lease_name("aes256-key", (2, 3))):
        pytest.fail("no right")
