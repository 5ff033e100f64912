"""Secrets and namespaces that are being deleted, and who refuses with status 403: Kubernetes' words, and what to do."""

from __future__ import annotations

import json
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from support.ansible import BIN
from support.modules import run_modules
from support.sealing import Chain, environment
from support.servers import wait_until

from secretmanager.errors import ConfigError, Forbidden, KubernetesError
from secretmanager.sealing.plan import Action
from secretmanager.sealing.recreation import copy_name
from secretmanager.sealing.sealer import Sealer
from secretmanager.sealing.spec import SecretSpec, State
from secretmanager.sealing.stores import KubernetesStore
from secretmanager.servers.kubernetes import KubernetesClient

FINALIZER = "example.org/backup"


def release(chain: Chain, name: str) -> None:
    """Take the finalizer away, as its controller does when it is done."""
    with suppress(client.ApiException):
        chain.api.patch_namespaced_secret(name, chain.namespace, {"metadata": {"finalizers": None}})


@pytest.fixture
def held(chain: Chain, name: str) -> Iterator[str]:
    """A sealed Secret with a finalizer."""
    chain.seal(chain.wanted(name, {"a": b"sesame"}))
    chain.api.patch_namespaced_secret(name, chain.namespace, {"metadata": {"finalizers": [FINALIZER]}})
    yield name
    release(chain, name)


@pytest.fixture
def ending(chain: Chain, held: str) -> str:
    """A sealed Secret that is being deleted."""
    chain.api.delete_namespaced_secret(held, chain.namespace)
    return held


def absent(chain: Chain, name: str) -> SecretSpec:
    return SecretSpec(chain.namespace, name, state=State.ABSENT)


@pytest.mark.parametrize("value", [b"sesame", b"another"])
@pytest.mark.parametrize("check", [True, False])
def test_nothing_is_sealed_into_a_secret_that_is_being_deleted(
    chain: Chain, ending: str, value: bytes, check: bool
) -> None:
    before = chain.secret(ending)
    with pytest.raises(
        ConfigError, match=r"is being deleted since 2.* finalizers that keep it: example.org/backup"
    ) as e:
        chain.seal(chain.wanted(ending, {"a": value}), check=check)
    assert "set recreate to wait" in str(e.value)
    assert chain.secret(ending) == before


def test_absent_says_that_a_secret_with_finalizers_still_exists(chain: Chain, held: str) -> None:
    (foretold,) = chain.seal(absent(chain, held), check=True)
    (first,) = chain.seal(absent(chain, held))
    (second,) = chain.seal(absent(chain, held))
    assert foretold == first
    assert (first.action, first.changed, first.finalizers) == (Action.DELETING, True, (FINALIZER,))
    assert (second.action, second.changed, second.finalizers) == (Action.UNCHANGED, False, (FINALIZER,))
    assert second.warnings == [
        f"{chain.namespace}/{held}: is being deleted, and exists until its finalizers are done: {FINALIZER}"
    ]
    release(chain, held)
    (third,) = chain.seal(absent(chain, held))
    assert (third.action, third.warnings) == (Action.UNCHANGED, [])


@pytest.mark.parametrize("deleted_before", [True, False])
def test_recreate_waits_until_the_old_secret_is_gone(chain: Chain, held: str, deleted_before: bool) -> None:
    before = chain.secret(held)["metadata"]["uid"]
    chain.api.patch_namespaced_secret(held, chain.namespace, {"immutable": True})
    if deleted_before:
        chain.api.delete_namespaced_secret(held, chain.namespace)
    kubernetes = chain.kubernetes()
    delete = kubernetes.delete_secret

    def deleted(*args: Any, **options: Any) -> None:
        delete(*args, **options)
        # Kubernetes itself is real; what is played is the controller that owns the finalizer.
        threading.Timer(0.3, release, (chain, held)).start()

    kubernetes.delete_secret = deleted  # type: ignore[method-assign]
    sealer = Sealer(chain.client(), KubernetesStore(kubernetes))
    (outcome,) = sealer.seal([chain.wanted(held, {"a": b"new"}, recreate=True)])
    assert outcome.action is Action.RECREATED
    assert chain.secret(held)["metadata"]["uid"] != before
    assert chain.opened(held) == {"a": b"new"}


class Killed(Exception):
    """In place of the end of the process."""


@pytest.mark.parametrize("request_before", ["delete_secret", "create_secret"])
@pytest.mark.parametrize("several", [1, 12], ids=["one", "found-by-list"])
def test_what_was_broken_off_while_it_was_recreated_is_whole_again(
    chain: Chain, name: str, request_before: str, several: int
) -> None:
    """The process ends after the deletion: what the next run is not given is there all the same."""
    spec = chain.wanted(name, {"a": b"1", "b": b"2"}, immutable=True, labels={"app": "shop"}, type="example.org/kind")
    others = [chain.wanted(f"{name}-{number}", {"a": b"1"}) for number in range(several - 1)]
    chain.seal(spec, *others)
    plain = f"{name}-plain"
    chain.put(plain, {"a": b"1", "b": b"2"}, immutable=True)
    changes = [
        chain.wanted(name, {"a": b"new"}, recreate=True),
        chain.wanted(plain, adopt=True, recreate=True),
    ]
    for change in changes:
        kubernetes = chain.kubernetes()
        done, request = [], getattr(kubernetes, request_before)

        def killed(*args: Any, done: list[str] = done, request: Any = request, **options: Any) -> Any:
            if not options.get("dry_run"):
                done.append(args[1]["metadata"]["name"])
                if done[-1].startswith("secret-") and len(done) == (1 if request_before == "delete_secret" else 2):
                    if request_before == "delete_secret":
                        request(*args, **options)
                    raise Killed
            return request(*args, **options)

        setattr(kubernetes, request_before, killed)
        with pytest.raises(Killed):
            Sealer(chain.client(), KubernetesStore(kubernetes)).seal([change])
    with pytest.raises(client.ApiException, match="not found"):
        chain.secret(name)
    foretold = chain.seal(*changes, *others, check=True)
    outcomes = chain.seal(*changes, *others)
    assert [outcome.action for outcome in outcomes[:2]] == [Action.RECREATED] * 2
    assert [outcome.facts() for outcome in foretold] == [outcome.facts() for outcome in outcomes]
    assert chain.opened(name) == {"a": b"new", "b": b"2"}
    assert chain.opened(plain) == {"a": b"1", "b": b"2"}
    secret = chain.secret(name)
    assert (secret["immutable"], secret["type"]) == (True, "example.org/kind")
    assert secret["metadata"]["labels"]["app"] == "shop"
    names = {item.metadata.name for item in chain.api.list_namespaced_secret(chain.namespace).items}
    assert not {each for each in names if each.startswith("kubevault-copy-")}
    assert [outcome.action for outcome in chain.seal(*changes)] == [Action.UNCHANGED] * 2


def test_recreate_gives_up_after_the_timeout(chain: Chain, ending: str) -> None:
    store = KubernetesStore(chain.kubernetes(), timeout=0.2)
    with pytest.raises(KubernetesError, match=f"{FINALIZER}; it is still there after 0.2 s; run again") as caught:
        Sealer(chain.client(), store).seal([chain.wanted(ending, {"a": b"new"}, recreate=True)])
    assert caught.value.place == f"{chain.namespace}/{ending}"
    assert "deletionTimestamp" in chain.secret(ending)["metadata"]
    assert chain.data(copy_name(ending))["a"].startswith(b"vault:v")
    chain.api.delete_namespaced_secret(copy_name(ending), chain.namespace)  # a later run would make the Secret of it


def test_the_module_and_the_command_warn(chain: Chain, held: str, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(chain.token)
    env = environment(chain, token_file)
    options = {"name": held, "namespace": chain.namespace, "state": "absent"}
    results = run_modules([{"kubevault_secret": options}] * 2, tmp_path, env)
    assert [result["changed"] for result in results] == [True, False]
    assert [result["secret"]["action"] for result in results] == ["deleting", "unchanged"]
    for result in results:
        assert FINALIZER in result["warnings"][0]
    command = [BIN / "kubevault", "seal", f"{chain.namespace}/{held}", "--state", "absent", "--output", "json"]
    told = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert json.loads(told.stdout)[0]["finalizers"] == [FINALIZER]
    assert f"exists until its finalizers are done: {FINALIZER}" in told.stderr


@pytest.fixture
def namespace(chain: Chain) -> Iterator[str]:
    """A namespace of its own, with a right of the sealer to read and write Secrets in it."""
    name = f"sealing-{uuid.uuid4().hex[:8]}"
    chain.api.create_namespace({"metadata": {"name": name}})
    yield name
    with suppress(client.ApiException):
        chain.api.delete_namespace(name)


def refusal(chain: Chain, namespace: str, kubernetes: KubernetesClient | None = None) -> Forbidden:
    """Seal into a namespace; return the error."""
    sealer = Sealer(chain.client(), KubernetesStore(kubernetes or chain.kubernetes()))
    with pytest.raises(Forbidden) as caught:
        sealer.seal([SecretSpec(namespace, "new", {"a": b"sesame"}, "derived")])
    return caught.value


def test_a_namespace_that_is_being_deleted(chain: Chain, namespace: str) -> None:
    held = {"metadata": {"name": "held", "finalizers": [FINALIZER]}}
    chain.api.create_namespaced_secret(namespace, held)
    chain.api.delete_namespace(namespace)
    try:
        wait_until("what holds it", lambda: FINALIZER in str(chain.api.read_namespace(namespace).status.conditions))
        error = refusal(chain, namespace)
    finally:
        chain.api.patch_namespaced_secret("held", namespace, {"metadata": {"finalizers": None}})
    assert f"unable to create new content in namespace {namespace} because it is being terminated" in error.message
    assert "finalizers: kubernetes; " in error.message
    assert f"{FINALIZER} in 1 resource instances" in error.message
    assert error.remedy == "wait until the namespace is gone, and create it again"


def test_a_namespace_that_is_being_deleted_and_may_not_be_read(chain: Chain, tmp_path: Path) -> None:
    """Of the namespace, the sealer's rights are only on Secrets: the message is the server's alone."""
    name = f"sealing-{uuid.uuid4().hex[:8]}"
    chain.api.create_namespace({"metadata": {"name": name, "finalizers": [FINALIZER]}})
    try:
        role = {
            "metadata": {"name": "sealer"},
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]}],
        }
        chain.cluster.rbac.create_cluster_role({**role, "metadata": {"name": name}})
        subject = {"kind": "ServiceAccount", "name": name, "namespace": chain.namespace}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        binding = {"metadata": {"name": name}, "subjects": [subject], "roleRef": reference}
        chain.cluster.rbac.create_cluster_role_binding(binding)
        token = chain.cluster.account(name)
        chain.cluster.await_rights(name, {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]})
        chain.api.delete_namespace(name)
        error = refusal(chain, name, KubernetesClient.from_kubeconfig(chain.cluster.kubeconfig_of(token, tmp_path)))
    finally:
        chain.api.patch_namespace(name, {"metadata": {"finalizers": None}})
        chain.cluster.rbac.delete_cluster_role_binding(name)
        chain.cluster.rbac.delete_cluster_role(name)
    assert error.message.endswith("because it is being terminated")
    assert "RBAC" not in str(error)


def test_a_quota_is_not_rbac(chain: Chain, namespace: str) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"secrets": "0"}}}
    chain.api.create_namespaced_resource_quota(namespace, quota)
    wait_until("the quota", lambda: chain.api.read_namespaced_resource_quota("none", namespace).status.used is not None)
    error = refusal(chain, namespace)
    assert "exceeded quota: none, requested: secrets=1, used: secrets=0, limited: secrets=0" in error.message
    assert error.remedy == "raise the namespace's quota, or delete what is not needed"


def test_an_admission_policy_is_not_rbac(chain: Chain, namespace: str) -> None:
    admission = client.AdmissionregistrationV1Api(chain.api.api_client)
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"]}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    policy = {
        "matchConstraints": {"resourceRules": [rule], "namespaceSelector": selector},
        "validations": [{"expression": "false", "message": "no Secrets here: you cannot", "reason": "Forbidden"}],
    }
    admission.create_validating_admission_policy({"metadata": {"name": namespace}, "spec": policy})
    binding = {"policyName": namespace, "validationActions": ["Deny"]}
    admission.create_validating_admission_policy_binding({"metadata": {"name": namespace}, "spec": binding})
    try:
        wait_until("the policy", lambda: refuses(chain, namespace))
        error = refusal(chain, namespace)
    finally:
        admission.delete_validating_admission_policy_binding(namespace)
        admission.delete_validating_admission_policy(namespace)
    assert "denied request: no Secrets here: you cannot" in error.message
    assert error.remedy == "an admission control of the cluster refused it: change the request, or the control"


def refuses(chain: Chain, namespace: str) -> bool:
    try:
        chain.api.create_namespaced_secret(namespace, {"metadata": {"generateName": "x-"}}, dry_run="All")
    except client.ApiException:
        return True
    return False
