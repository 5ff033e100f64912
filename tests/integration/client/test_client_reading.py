"""Reading sealed Secrets, and the error for each Secret that cannot be used."""

from __future__ import annotations

import base64
from contextlib import nullcontext
from typing import Any

import pytest
from support.client import Manager, Put, Refused
from support.cluster import Cluster
from support.servers import PrivateVault

from secretmanager import Request
from secretmanager.errors import (
    ConfigError,
    DecryptionFailed,
    Forbidden,
    KubernetesUnavailable,
    ManagerClosed,
    PermissionDenied,
    SealedDataError,
    SecretFormatError,
    SecretKeyNotFound,
    SecretNotFound,
    TransitKeyNotFound,
    WrongTransitKey,
)
from secretmanager.sealed import MANIFEST_KEY, Scope


@pytest.mark.parametrize(
    ("key", "scope"),
    [
        ("plain", None),
        ("plain", Scope.CLUSTER_WIDE),
        ("derived", Scope.STRICT),
        ("derived", Scope.NAMESPACE_WIDE),
    ],
)
def test_a_sealed_json_object_is_a_dict(
    manager: Manager, put: Put, cluster: Cluster, key: str, scope: Scope | None
) -> None:
    name = put({"secrets.json": '{"password": "PLAIN-1", "n": 5}'}, key=key, scope=scope)
    secrets = manager().read_secrets(name, cluster.namespace, "SECRET", "secrets.json", key)
    assert secrets == {"password": "PLAIN-1", "n": 5}


def test_without_a_key_all_texts_are_read(manager: Manager, put: Put, cluster: Cluster) -> None:
    name = put({"a": "PLAIN-a", "b": "PLAIN-ü"}, key="derived", scope=Scope.STRICT)
    assert manager().read_secrets(name, cluster.namespace) == {"a": "PLAIN-a", "b": "PLAIN-ü"}


def test_a_warm_read_sends_two_requests(manager: Manager, put: Put, cluster: Cluster, vault: PrivateVault) -> None:
    name = put({"a": "PLAIN-a"})
    one = manager()
    one.read_secrets(name, cluster.namespace, transit_key="plain")
    paths = ("auth/kubernetes/login", "auth/token/lookup-self", "transit/decrypt/plain")
    before = [vault.requests(path) for path in paths]
    one.read_secrets(name, cluster.namespace, transit_key="plain")
    assert [vault.requests(path) - count for path, count in zip(paths, before, strict=True)] == [0, 0, 1]


def test_many_are_read_in_one_batch(manager: Manager, put: Put, cluster: Cluster, vault: PrivateVault) -> None:
    names = [put({"a": f'{{"v": "PLAIN-{n}"}}', "b": f"PLAIN-b{n}"}) for n in range(5)]
    wanted: list[Any] = [Request(name, cluster.namespace, "SECRET", "a", "plain") for name in names]
    wanted.append({"secret_name": names[0], "namespace": cluster.namespace, "transit_key": "plain"})
    before = vault.requests("transit/decrypt/plain")
    found = manager().read_many(wanted)
    assert found[:5] == [{"v": f"PLAIN-{n}"} for n in range(5)]
    assert found[5] == {"a": '{"v": "PLAIN-0"}', "b": "PLAIN-b0"}
    assert vault.requests("transit/decrypt/plain") == before + 1


def test_many_of_several_keys_take_a_batch_each(
    manager: Manager, put: Put, cluster: Cluster, vault: PrivateVault
) -> None:
    names = [put({"a": "PLAIN-1"}, scope=Scope.CLUSTER_WIDE), put({"a": "PLAIN-2"}, key="derived", scope=Scope.STRICT)]
    found = manager().read_many({"secret_name": name, "namespace": cluster.namespace} for name in names)
    assert found == [{"a": "PLAIN-1"}, {"a": "PLAIN-2"}]


def test_read_many_names_what_is_wrong(manager: Manager, refused: Refused) -> None:
    with refused(ConfigError, "secret: unknown; allowed are secret_name, namespace"):
        manager().read_many([{"secret": "x", "namespace": "y"}])
    with refused(ConfigError, "namespace: is missing"):
        manager().read_many([{"secret_name": "x"}])
    with refused(ConfigError, "read_type: found 'POD'; allowed are SECRET, CONFIG_MAP"):
        manager().read_secrets("x", "y", "POD")


def test_the_parts_of_reading_are_there_as_before(manager: Manager, put: Put, cluster: Cluster) -> None:
    name = put({"a": '{"v": "PLAIN-1"}'})
    one = manager()
    ciphertext = one.read_k8s_secret(name, cluster.namespace, "SECRET", "a")
    assert ciphertext.startswith("vault:v1:")
    text = one.decrypt_data_with_vault("plain", ciphertext)
    assert one.load_json_secrets(text) == {"v": "PLAIN-1"}
    assert one.get_k8s_service_account_token("reader", cluster.namespace).count(".") == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("PLAIN-text", "it is not JSON: Expecting value in line 1"),
        ('["PLAIN-text"]', "it is JSON, but holds a list"),
        ('{"a": "PLAIN-text}', "it is not JSON: Unterminated string"),
    ],
)
def test_bad_json(manager: Manager, put: Put, cluster: Cluster, refused: Refused, text: str, problem: str) -> None:
    name = put({"secrets.json": text})
    with refused(SecretFormatError, problem, place=f"{cluster.namespace}/{name}[secrets.json]"):
        manager().read_secrets(name, cluster.namespace, "SECRET", "secrets.json", "plain")


def test_a_missing_data_key_is_told_with_those_there_are(
    manager: Manager, put: Put, cluster: Cluster, refused: Refused
) -> None:
    name = put({"a": "PLAIN-a", "b": "PLAIN-b"}, scope=Scope.CLUSTER_WIDE)
    with refused(SecretKeyNotFound, "it has a, b$", place=f"{cluster.namespace}/{name}[c]"):
        manager().read_secrets(name, cluster.namespace, "SECRET", "c")


def test_a_missing_secret(manager: Manager, cluster: Cluster, refused: Refused) -> None:
    with refused(SecretNotFound, "check name and namespace", place=f"{cluster.namespace}/nosuch", status=404):
        manager().read_secrets("nosuch", cluster.namespace, "SECRET", "a", "plain")


def test_a_value_that_is_not_sealed(manager: Manager, cluster: Cluster, put: Put, refused: Refused) -> None:
    name = put({})
    cluster.put(name, {"metadata": {"name": name}, "stringData": {"a": "PLAIN-open"}})
    with refused(SealedDataError, "not sealed", place=f"{cluster.namespace}/{name}[a]"):
        manager().read_secrets(name, cluster.namespace, "SECRET", "a", "plain")


def test_a_damaged_manifest(manager: Manager, cluster: Cluster, put: Put, refused: Refused) -> None:
    name = put({"a": "PLAIN-a"}, scope=Scope.CLUSTER_WIDE)
    body = {"data": {MANIFEST_KEY: base64.b64encode(b"{").decode()}}
    cluster.api.patch_namespaced_secret(name, cluster.namespace, body)
    with refused(SealedDataError, "manifest .* is damaged", place=f"{cluster.namespace}/{name}"):
        manager().read_secrets(name, cluster.namespace, "SECRET", "a", "plain")


def test_a_transit_key_that_nothing_tells(manager: Manager, cluster: Cluster, put: Put, refused: Refused) -> None:
    with refused(SealedDataError, "name transit_key"):
        manager().read_secrets(put({"a": "PLAIN-a"}), cluster.namespace, "SECRET", "a")


def test_another_transit_key_than_the_manifest_names(
    manager: Manager, cluster: Cluster, put: Put, refused: Refused
) -> None:
    name = put({"a": "PLAIN-a"}, key="derived", scope=Scope.STRICT)
    with refused(WrongTransitKey, "ask for derived", asked="plain", found="derived"):
        manager().read_secrets(name, cluster.namespace, "SECRET", "a", "plain")


@pytest.mark.parametrize(
    ("sealed", "asked", "said"),
    [
        ({"key": "derived", "scope": Scope.STRICT}, "strict", None),
        (
            {"key": "derived", "scope": Scope.NAMESPACE_WIDE},
            "strict",
            "namespace-wide; asked for is scope strict",
        ),
        ({"key": "plain"}, "cluster-wide", "sealed without a manifest; asked for is scope cluster-wide"),
    ],
)
def test_a_scope_that_is_asked_for(
    manager: Manager,
    cluster: Cluster,
    put: Put,
    refused: Refused,
    sealed: dict[str, Any],
    asked: str,
    said: str | None,
) -> None:
    name, one = put({"a": "PLAIN-a"}, **sealed), manager(cache_plaintext_ttl=60)
    assert one.read_secrets(name, cluster.namespace, transit_key=sealed["key"]) == {"a": "PLAIN-a"}
    for _ in range(2):  # nor is it taken from the cache
        with refused(SealedDataError, said) if said else nullcontext():
            assert one.read_secrets(name, cluster.namespace, transit_key=sealed["key"], scope=asked) == {"a": "PLAIN-a"}
    with refused(ConfigError, "scope: found 'wide'; allowed are strict, namespace-wide, cluster-wide, or None"):
        one.read_secrets(name, cluster.namespace, scope="wide")


def test_another_transit_key_of_an_older_secret(
    manager: Manager, cluster: Cluster, put: Put, refused: Refused, vault: PrivateVault
) -> None:
    vault.write("transit/keys/other")
    name = put({"a": "PLAIN-a"}, key="other")
    with refused(DecryptionFailed, reason="does not fit", place=f"{cluster.namespace}/{name}[a]"):
        manager().read_secrets(name, cluster.namespace, "SECRET", "a", "plain")


def test_a_transit_key_that_is_not_there(manager: Manager, cluster: Cluster, put: Put, refused: Refused) -> None:
    with refused(TransitKeyNotFound, "check its name", place="transit/decrypt/nosuch"):
        manager().read_secrets(put({"a": "PLAIN-a"}), cluster.namespace, "SECRET", "a", "nosuch")


@pytest.mark.parametrize("manifest", [True, False])
def test_a_ciphertext_from_elsewhere(
    manager: Manager, cluster: Cluster, put: Put, refused: Refused, manifest: bool
) -> None:
    source = put({"a": "PLAIN-a"}, key="derived", scope=Scope.STRICT)
    target = put({"a": "PLAIN-other"}, key="derived", scope=Scope.STRICT)
    stolen = cluster.api.read_namespaced_secret(source, cluster.namespace).data["a"]
    data = {"a": stolen} if manifest else {"a": stolen, MANIFEST_KEY: None}
    cluster.api.patch_namespaced_secret(target, cluster.namespace, {"data": data})
    with refused(DecryptionFailed, reason="does not fit", place=f"{cluster.namespace}/{target}[a]"):
        manager().read_secrets(target, cluster.namespace, "SECRET", "a", "derived")


def test_a_version_that_the_key_does_not_allow_any_more(
    manager: Manager, cluster: Cluster, put: Put, refused: Refused, vault: PrivateVault
) -> None:
    vault.write("transit/keys/rotated")
    name = put({"a": "PLAIN-a"}, key="rotated")
    vault.write("transit/keys/rotated/rotate")
    vault.write("transit/keys/rotated/config", min_decryption_version=2)
    with refused(DecryptionFailed, reason="version", place=f"{cluster.namespace}/{name}[a]"):
        manager().read_secrets(name, cluster.namespace, "SECRET", "a", "rotated")


def test_a_denied_decryption(
    manager: Manager, cluster: Cluster, put: Put, refused: Refused, vault: PrivateVault
) -> None:
    before = vault.requests("transit/decrypt/plain")
    with refused(PermissionDenied, path="transit/decrypt/plain", capability="update", status=403):
        manager(role="powerless").read_secrets(put({"a": "PLAIN-a"}), cluster.namespace, "SECRET", "a", "plain")
    assert vault.requests("transit/decrypt/plain") == before + 1


def test_rbac_without_get(
    manager: Manager, cluster: Cluster, put: Put, refused: Refused, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kubeconfig = cluster.kubeconfig_of(cluster.account("nobody"), tmp_path_factory.mktemp("nobody"))
    with refused(Forbidden, "cannot get resource", reason="Forbidden"):
        manager(kube_config=kubeconfig).read_secrets(put({"a": "PLAIN-a"}), cluster.namespace, "SECRET", "a", "plain")
    with refused(Forbidden, "cannot create resource .serviceaccounts/token", reason="Forbidden"):
        manager(kube_config=kubeconfig).get_k8s_service_account_token()
    with refused(Forbidden, "does not know the caller", reason="Unauthorized"):
        manager(kube_config=cluster.kubeconfig_of("x", tmp_path_factory.mktemp("x"))).get_k8s_service_account_token()


def test_a_workload_needs_no_more_than_its_own_secret(
    manager: Manager, cluster: Cluster, put: Put, tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = put({"a": "PLAIN-a"}, key="derived", scope=Scope.STRICT)
    token = cluster.account(
        "workload",
        [
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [name], "verbs": ["get"]},
            {
                "apiGroups": [""],
                "resources": ["serviceaccounts/token"],
                "resourceNames": ["reader"],
                "verbs": ["create"],
            },
        ],
    )
    kubeconfig = cluster.kubeconfig_of(token, tmp_path_factory.mktemp("workload"))
    assert manager(kube_config=kubeconfig).read_secrets(name, cluster.namespace) == {"a": "PLAIN-a"}


def test_no_kubernetes_api(
    manager: Manager, cluster: Cluster, refused: Refused, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("dead") / "kubeconfig"
    path.write_text(
        "current-context: it\nclusters: [{name: it, cluster: {server: 'https://127.0.0.1:1'}}]\n"
        "users: [{name: it, user: {token: 'x'}}]\ncontexts: [{name: it, context: {cluster: it, user: it}}]\n"
    )
    with refused(KubernetesUnavailable, "Connection refused", place="https://127.0.0.1:1"):
        manager(kube_config=str(path), retries=1).read_secrets("x", cluster.namespace, "SECRET", "a", "plain")


def test_a_closed_manager_says_so(manager: Manager, refused: Refused) -> None:
    one = manager()
    one.close()
    one.close()
    with refused(ManagerClosed):
        one.read_secrets("x", "y", "SECRET", "a", "plain")
