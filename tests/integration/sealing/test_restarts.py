"""Restarts on a real change: Deployments of the lab's Kubernetes, whose controllers make ReplicaSets without a node.

A restart is a new generation of the workload, and of a Deployment one more ReplicaSet.
"""

from __future__ import annotations

import subprocess
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from support.ansible import BIN, play
from support.intermediary import Intermediary
from support.sealing import Chain, environment
from support.servers import Authority, wait_until

from secretmanager.errors import Forbidden, RestartFailed, SecretNotFound
from secretmanager.restarts.finding import find_workloads
from secretmanager.restarts.live import LiveWorkloads
from secretmanager.restarts.workloads import stamps
from secretmanager.rotation.planning import Options
from secretmanager.rotation.rewrapper import Report, Rewrapper
from secretmanager.sealed import SECRETS_ANNOTATION, STAMP_ANNOTATION, values_digest
from secretmanager.sealing.sealer import Sealer
from secretmanager.sealing.spec import SecretSpec, State
from secretmanager.sealing.stores import KubernetesStore
from secretmanager.servers.kubernetes import KubernetesClient

Create = Callable[..., "Living"]


@dataclass(frozen=True)
class Living:
    """A workload in the cluster, as the official client sees it."""

    chain: Chain
    kind: str
    name: str

    @property
    def restart(self) -> str:
        return f"{self.kind}/{self.name}"

    def _call(self, verb: str, *arguments: Any, **options: Any) -> Any:
        api = client.AppsV1Api(self.chain.api.api_client)
        method = {"Deployment": "deployment", "StatefulSet": "stateful_set", "DaemonSet": "daemon_set"}[self.kind]
        return getattr(api, f"{verb}_namespaced_{method}")(*arguments, **options)

    @property
    def found(self) -> dict[str, Any]:
        found: dict[str, Any] = self.chain.api.api_client.sanitize_for_serialization(
            self._call("read", self.name, self.chain.namespace)
        )
        return found

    @property
    def generation(self) -> int:
        return int(self.found["metadata"]["generation"])

    @property
    def stamps(self) -> dict[str, str]:
        return stamps(self.found)

    @property
    def replica_sets(self) -> int:
        api = client.AppsV1Api(self.chain.api.api_client)
        return len(api.list_namespaced_replica_set(self.chain.namespace, label_selector=f"app={self.name}").items)

    @property
    def failed_creations(self) -> list[str]:
        events = self.chain.api.list_namespaced_event(self.chain.namespace, field_selector="reason=FailedCreate").items
        return [event.message for event in events if event.involved_object.name.startswith(self.name)]

    def create(self, spec: Mapping[str, Any], **metadata: Any) -> None:
        labels = {"app": self.name}
        pod = {"containers": [{"name": "app", "image": "registry.example/none"}], **spec.get("pod", {})}
        content = {
            **({"serviceName": self.name} if self.kind == "StatefulSet" else {}),
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
            **{key: value for key, value in spec.items() if key != "pod"},
        }
        body = {"metadata": {"name": self.name, **metadata}, "spec": content}
        self._call("create", self.chain.namespace, body)

    def apply(self, manager: str, annotations: Mapping[str, str]) -> None:
        """Apply it as a GitOps controller does, by server-side apply with force."""
        labels = {"app": self.name}
        template = {
            "metadata": {"labels": labels, "annotations": dict(annotations)},
            "spec": {"containers": [{"name": "app", "image": "registry.example/none"}]},
        }
        body = {
            "apiVersion": "apps/v1",
            "kind": self.kind,
            "metadata": {"name": self.name},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        }
        self._call(
            "patch",
            self.name,
            self.chain.namespace,
            body,
            field_manager=manager,
            force=True,
            _content_type="application/apply-patch+yaml",
        )

    def settle(self) -> None:
        """Wait until the controller has seen the newest template, and made its ReplicaSet."""
        wait_until("the controller", lambda: self.found.get("status", {}).get("observedGeneration") == self.generation)

    def undo(self) -> None:
        """Go back to the older template, by the request of `kubectl rollout undo`."""
        api = client.AppsV1Api(self.chain.api.api_client)
        items = api.list_namespaced_replica_set(self.chain.namespace, label_selector=f"app={self.name}").items
        oldest = min(items, key=lambda item: int(item.metadata.annotations["deployment.kubernetes.io/revision"]))
        template = api.api_client.sanitize_for_serialization(oldest.spec.template)
        del template["metadata"]["labels"]["pod-template-hash"]
        self.patch("kubectl", [{"op": "replace", "path": "/spec/template", "value": template}])

    def patch(self, manager: str, body: dict[str, Any] | list[dict[str, Any]]) -> None:
        kind = "strategic-merge" if isinstance(body, dict) else "json"
        content_type = f"application/{kind}-patch+json"
        self._call("patch", self.name, self.chain.namespace, body, field_manager=manager, _content_type=content_type)

    def pause(self) -> None:
        self.patch("kubectl", {"spec": {"paused": True}})


@pytest.fixture
def create(chain: Chain) -> Create:
    """Creates workloads without replicas, unless their spec says otherwise."""

    def make(kind: str = "Deployment", **options: Any) -> Living:
        living = Living(chain, kind, f"shop-{uuid.uuid4().hex[:8]}")
        spec = options.pop("spec", {})
        living.create({**({} if kind == "DaemonSet" else {"replicas": 0}), **spec}, **options)
        return living

    return make


@pytest.fixture
def shop(create: Create) -> Living:
    return create()


def run(
    chain: Chain,
    *specs: SecretSpec,
    kubernetes: KubernetesClient | None = None,
    check: bool = False,
    waits: bool = False,
    timeout: float = 5,
) -> LiveWorkloads:
    """Seal, and restart what has to be restarted."""
    kubernetes = kubernetes or chain.kubernetes()
    workloads = find_workloads(kubernetes, specs, concurrency=4, check=check, waits=waits)
    assert isinstance(workloads, LiveWorkloads)
    outcomes = Sealer(chain.client(), KubernetesStore(kubernetes)).seal(specs, check=check)
    workloads.stamp(outcomes)
    if waits:
        workloads.wait(timeout)
    return workloads


def restarted(workloads: LiveWorkloads) -> dict[str, tuple[str, ...]]:
    return {restart.workload.name: restart.secrets for restart in workloads.restarted}


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_five_secrets_one_restart_and_none_without_a_change(
    chain: Chain, name: str, create: Create, tmp_path: Path, env: dict[str, str], kind: str
) -> None:
    shop = create(kind)
    names = [f"{name}-{index}" for index in range(5)]

    def task(value: str, **more: Any) -> dict[str, Any]:
        secrets = [{"name": one, "data": {"a": "same" if index < 2 else value}} for index, one in enumerate(names)]
        base = {"namespace": chain.namespace, "transit_key": "derived", "restart": [shop.restart]}
        return {"kubevault_secret": {**base, "secrets": secrets}, "diff": True, **more}

    tasks = [task("one"), task("one"), task("two", check_mode=True), task("two"), task("two")]
    first, again, foreseen, changed, last = play(tasks, tmp_path, env).results
    entry = {"namespace": chain.namespace, "kind": kind, "name": shop.name}
    assert first["restarted"] == [{**entry, "secrets": names}]
    assert (again["changed"], again["restarted"]) == (False, [])
    for result in (foreseen, changed):
        assert result["changed"]
        assert result["restarted"] == [{**entry, "secrets": names[2:]}]
        assert result["diff"][-1]["after_header"] == f"{kind} {chain.namespace}/{shop.name} (restarted)"
    assert (last["changed"], last["restarted"], last["diff"]) == (False, [], [])
    assert shop.generation == 3
    assert shop.stamps == {one: values_digest(chain.secret(one)) for one in names}
    if kind == "Deployment":
        wait_until("the third ReplicaSet", lambda: shop.replica_sets == 3)
    (manager,) = [
        entry["manager"]
        for entry in shop.found["metadata"]["managedFields"]
        if STAMP_ANNOTATION in str(entry.get("fieldsV1"))
    ]
    assert manager == "kubevault"


def test_a_rewrap_restarts_nothing(chain: Chain, name: str, shop: Living) -> None:
    key = f"key-{name}"
    chain.vault.new_key(key, derived=True)
    vault = chain.client(chain.vault.root.token)
    spec = chain.wanted(name, {"a": b"sesame"}, transit_key=key, restart=(shop.restart,))

    def again() -> LiveWorkloads:
        workloads = find_workloads(chain.kubernetes(), [spec])
        assert isinstance(workloads, LiveWorkloads)
        workloads.stamp(Sealer(vault, KubernetesStore(chain.kubernetes())).seal([spec]))
        return workloads

    assert restarted(again()) == {shop.name: (name,)}
    chain.vault.write(f"transit/keys/{key}/rotate")
    report = Report()
    Rewrapper(vault, chain.kubernetes(), Options(key), 2, [chain.namespace]).run(report)
    assert f"{chain.namespace}/{name}" in report.rewrapped
    assert restarted(again()) == {}
    # What is compromised is sealed again with the new version, and the value is still the same.
    chain.vault.write(f"transit/keys/{key}/rotate")
    chain.vault.write(f"transit/keys/{key}/config", min_decryption_version=3)
    before = chain.secret(name)["data"]
    assert restarted(again()) == {}
    assert chain.secret(name)["data"] != before
    assert shop.generation == 2


def test_a_rotated_digest_key_restarts_nothing(chain: Chain, name: str, shop: Living) -> None:
    key = f"key-{name}"
    chain.vault.new_key(key, derived=True)
    token = chain.token_for({f"transit/encrypt/{key}": ["update"], f"transit/hmac/{key}-digest": ["update"]})

    def seal(values: dict[str, bytes]) -> tuple[bool, int]:
        """Seal; return whether the Secret changed, and how often the workload was restarted."""
        spec = chain.wanted(name, values, transit_key=key, restart=(shop.restart,))
        workloads = find_workloads(chain.kubernetes(), [spec])
        assert isinstance(workloads, LiveWorkloads)
        (outcome,) = Sealer(chain.client(token), KubernetesStore(chain.kubernetes())).seal([spec])
        workloads.stamp([outcome])
        return outcome.changed, shop.generation - 1

    assert seal({"a": b"1", "b": b"2"}) == (True, 1)
    chain.vault.write(f"transit/keys/{key}-digest/rotate")
    assert seal({"a": b"1", "b": b"2"}) == (False, 1)
    assert seal({"a": b"1", "b": b"3"}) == (True, 2)  # its digest is of the new version, that of a is not
    assert seal({"a": b"1", "b": b"3"}) == (False, 2)
    chain.vault.write(f"transit/keys/{key}-digest/rotate")
    assert seal({"a": b"1", "b": b"3"}) == (False, 2)
    # A digest of a version that Vault does not use any more says nothing: one restart, and then peace.
    chain.vault.write(f"transit/keys/{key}-digest/config", min_encryption_version=3)
    assert seal({"a": b"1", "b": b"3"}) == (True, 3)
    assert seal({"a": b"1", "b": b"3"}) == (False, 3)


@pytest.fixture
def kubeconfig(chain: Chain, tmp_path: Path) -> Callable[..., str]:
    """Returns the kubeconfig of a user who seals, and has some verbs on a workload."""

    def make(shop: Living | None = None, *verbs: str, server: str | None = None, ca: str | None = None) -> str:
        rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "update"]}]
        if shop:
            resource = f"{shop.kind.lower()}s"
            names = {"resourceNames": [shop.name]} if "list" not in verbs else {}
            rules.append({"apiGroups": ["apps"], "resources": [resource], "verbs": list(verbs), **names})
        token = chain.cluster.account(f"user-{uuid.uuid4().hex[:8]}", rules)
        return chain.cluster.kubeconfig_of(token, tmp_path, server, ca)

    return make


def test_a_run_that_is_killed_before_the_stamp(
    chain: Chain, name: str, shop: Living, tmp_path: Path, env: dict[str, str], kubeconfig: Callable[..., str]
) -> None:
    """It is killed when its patch arrives, which does not reach the API: the Secret is written, and nothing else."""
    authority = Authority(tmp_path)
    between = Intermediary(
        chain.api.api_client.configuration.host, chain.api.api_client.configuration.ssl_ca_cert, authority.issue("it")
    )
    arrived, killed = threading.Event(), threading.Event()

    def hold(path: str) -> bytes | None:
        if "fieldManager" in path and "/deployments/" in path:
            arrived.set()
            killed.wait()
            return b""
        return None

    between.answer = hold
    config = kubeconfig(shop, "get", "patch", server=between.url, ca=str(authority.file))
    (tmp_path / "value").write_text("sesame")
    command = [BIN / "kubevault", "seal", f"{chain.namespace}/{name}", "--transit-key", "derived"]
    command += ["--from-file", f"a={tmp_path / 'value'}", "--restart", shop.restart]
    try:
        process = subprocess.Popen(command, env={**env, "K8S_AUTH_KUBECONFIG": config})
        wait_until("the patch", arrived.is_set)
        process.kill()
        process.wait()
        assert chain.opened(name) == {"a": b"sesame"}
        assert shop.generation == 1
    finally:
        killed.set()
        between.close()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == f"{chain.namespace}/{name}: unchanged (strict)\n"
    assert done.stderr == f"Deployment {chain.namespace}/{shop.name}: restarted for {name}\n"
    assert shop.generation == 2


def test_runs_at_the_same_time_lose_nothing(chain: Chain, name: str, shop: Living) -> None:
    names = [f"{name}-{index}" for index in range(6)]

    def wanted(one: str, value: bytes) -> SecretSpec:
        return chain.wanted(one, {"a": value}, restart=(shop.restart,))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda one: run(chain, wanted(one, b"1")), names))
    assert shop.stamps == {one: values_digest(chain.secret(one)) for one in names}
    assert shop.generation <= 1 + len(names)

    # Two values for one Secret: whichever is left, its stamp is.
    before = shop.generation
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda value: run(chain, wanted(names[0], value)), [b"2", b"3", b"4", b"5"]))
    assert shop.stamps[names[0]] == values_digest(chain.secret(names[0]))
    assert shop.generation <= before + 4
    (value,) = chain.opened(names[0]).values()
    assert restarted(run(chain, wanted(names[0], value), *(wanted(one, b"1") for one in names[1:]))) == {}


def test_two_tasks_with_different_secrets_of_one_workload_do_not_alternate(
    chain: Chain, name: str, shop: Living
) -> None:
    one = chain.wanted(f"{name}-1", {"a": b"1"}, restart=(shop.restart,))
    two = chain.wanted(f"{name}-2", {"a": b"1"}, restart=(shop.restart,))
    assert [bool(run(chain, spec).restarted) for spec in (one, two, one, two, one)] == [True, True, *[False] * 3]


def test_a_deletion_restarts_nothing(chain: Chain, name: str, shop: Living) -> None:
    run(chain, chain.wanted(name, {"a": b"1"}, restart=(shop.restart,)))
    spec = chain.wanted(name, state=State.ABSENT, restart=(shop.restart,))
    assert restarted(run(chain, spec)) == {}
    assert restarted(run(chain, chain.wanted(name, {"a": b"1"}, restart=(shop.restart,)))) == {}
    assert restarted(run(chain, chain.wanted(name, {"a": b"2"}, restart=(shop.restart,)))) == {shop.name: (name,)}


def test_workloads_by_their_annotation(chain: Chain, name: str, create: Create) -> None:
    spec = chain.wanted(name, {"a": b"1"}, restart=("annotated",))
    assert f"has an annotation {SECRETS_ANNOTATION} that names {name}" in run(chain, spec).warnings[0]
    asked = {
        kind: create(kind, annotations={SECRETS_ANNOTATION: f"other, {name}"}) for kind in ("Deployment", "DaemonSet")
    }
    create(annotations={SECRETS_ANNOTATION: f"{name}-other"})
    workloads = run(chain, spec)
    assert restarted(workloads) == {one.name: (name,) for one in asked.values()}
    assert workloads.warnings == []
    assert restarted(run(chain, spec)) == {}


def test_a_user_who_may_get_and_patch_one_workload(
    chain: Chain, name: str, create: Create, kubeconfig: Callable[..., str]
) -> None:
    shop = create()
    other = create()
    sealer = KubernetesClient.from_kubeconfig(kubeconfig(shop, "get", "patch"))
    run(chain, chain.wanted(name, {"a": b"1"}, restart=(shop.restart,)), kubernetes=sealer)
    assert shop.generation == 2
    granted = r"apiGroups \[apps\], resources \[deployments\], resourceNames \[{}\], verbs \[get, patch\]"
    with pytest.raises(Forbidden, match=granted.format(other.name)):
        run(chain, chain.wanted(name, {"a": b"2"}, restart=(other.restart,)), kubernetes=sealer)
    with pytest.raises(RestartFailed, match=r"list on daemonsets\.apps; or name the workloads"):
        run(chain, chain.wanted(name, {"a": b"2"}, restart=("annotated",)), kubernetes=sealer)
    assert chain.opened(name) == {"a": b"1"}  # nothing was written


def test_who_may_not_patch_seals_and_the_next_run_restarts(
    chain: Chain, name: str, shop: Living, kubeconfig: Callable[..., str]
) -> None:
    spec = chain.wanted(name, {"a": b"1"}, restart=(shop.restart,))
    reader = KubernetesClient.from_kubeconfig(kubeconfig(shop, "get"))
    with pytest.raises(RestartFailed, match=r"cannot patch resource .* verbs \[get, patch\]"):
        run(chain, spec, kubernetes=reader)
    assert chain.opened(name) == {"a": b"1"}
    assert restarted(run(chain, spec)) == {shop.name: (name,)}


def test_what_does_not_exist(chain: Chain, name: str, tmp_path: Path, env: dict[str, str]) -> None:
    spec = chain.wanted(name, {"a": b"1"}, restart=("StatefulSet/none",))
    with pytest.raises(SecretNotFound, match=f"StatefulSet {chain.namespace}/none: it does not exist; correct restart"):
        run(chain, spec)
    task = chain.task(name, data={"a": "1"}, restart=["Deployment/none", "DaemonSet/none"])
    foreseen, failed = play(
        [{**task, "check_mode": True}, {**task, "ignore_errors": True}], tmp_path, env, fails=False
    ).results
    assert foreseen["restarted"] == []
    assert sorted(text.split(".")[0] for text in foreseen["warnings"]) == [
        f"Not there yet: DaemonSet {chain.namespace}/none",
        f"Not there yet: Deployment {chain.namespace}/none",
    ]
    assert "Deployment" in failed["msg"]
    assert "DaemonSet" in failed["msg"]
    with pytest.raises(client.ApiException, match="not found"):
        chain.secret(name)  # nothing was written


def test_what_is_not_restarted_at_once(chain: Chain, name: str, create: Create) -> None:
    paused = create(spec={"paused": True})
    manual = create("DaemonSet", spec={"updateStrategy": {"type": "OnDelete"}})
    spec = chain.wanted(name, {"a": b"1"}, restart=(paused.restart, manual.restart))
    with pytest.raises(RestartFailed, match=r"there is no rollout to wait for: it is paused.*OnDelete"):
        run(chain, spec, waits=True)
    workloads = run(chain, spec)
    assert [word for text in workloads.warnings for word in ("paused", "OnDelete") if word in text] == [
        "paused",
        "OnDelete",
    ]
    assert paused.stamps.keys() == manual.stamps.keys() == {name}


MANAGERS = ("argocd-controller", "kustomize-controller", "kubectl-client-side-apply")


@pytest.mark.parametrize("manager", MANAGERS)
def test_gitops_leaves_a_stamp_that_is_not_in_git(chain: Chain, name: str, manager: str) -> None:
    """It corrects what it applied itself. So a live restart is not taken back."""
    shop = Living(chain, "Deployment", f"shop-{uuid.uuid4().hex[:8]}")
    shop.apply(manager, {"note": "1"})
    run(chain, chain.wanted(name, {"a": b"1"}, restart=(shop.restart,)))
    shop.apply(manager, {"note": "1"})
    assert shop.stamps == {name: values_digest(chain.secret(name))}
    assert shop.generation == 2


@pytest.mark.parametrize("manager", MANAGERS)
def test_gitops_that_has_the_stamp_itself(chain: Chain, name: str, manager: str) -> None:
    """The value is sealed all the same, and a stamp that is right already is no error."""
    shop = Living(chain, "Deployment", f"shop-{uuid.uuid4().hex[:8]}")
    shop.apply(manager, {STAMP_ANNOTATION: f"{name}=0"})
    spec = chain.wanted(name, {"a": b"1"}, restart=(shop.restart,))
    with pytest.raises(RestartFailed, match=f"in the manifest that {manager} applies"):
        run(chain, spec)
    assert chain.opened(name) == {"a": b"1"}
    assert shop.stamps == {name: "0"}
    shop.apply(manager, {STAMP_ANNOTATION: f"{name}={values_digest(chain.secret(name))}"})
    assert restarted(run(chain, spec)) == {}


@pytest.mark.parametrize("manager", ["argocd-controller", "helm", "kubectl-client-side-apply"])
def test_a_client_side_apply_that_has_the_stamp_itself(chain: Chain, name: str, create: Create, manager: str) -> None:
    """Kubernetes notes it as an update, and who applies the manifest puts its stamp back all the same."""
    shop = create()
    shop.patch(manager, {"spec": {"template": {"metadata": {"annotations": {STAMP_ANNOTATION: f"{name}=0"}}}}})
    with pytest.raises(RestartFailed, match=f"in the manifest that {manager} applies"):
        run(chain, chain.wanted(name, {"a": b"1"}, restart=(shop.restart,)))
    assert chain.opened(name) == {"a": b"1"}


def test_a_rollout_that_was_undone(chain: Chain, name: str, create: Create) -> None:
    """The older template has the stamp of older values; nobody applies it, so the next run writes its own."""
    shop = create()
    shop.settle()
    for value in (b"1", b"2"):
        run(chain, chain.wanted(name, {"a": value}, restart=(shop.restart,)))
        shop.settle()
    shop.undo()
    assert shop.stamps == {}
    run(chain, chain.wanted(name, {"a": b"3"}, restart=(shop.restart,)))
    shop.settle()
    shop.undo()
    workloads = run(chain, chain.wanted(name, {"a": b"4"}, restart=(shop.restart,)))
    assert chain.opened(name) == {"a": b"4"}
    assert restarted(workloads) == {shop.name: (name,)}
    assert shop.stamps == {name: values_digest(chain.secret(name))}


@pytest.mark.parametrize("manager", ["kubectl-edit", "kubectl-patch", "kubectl-replace", "velero-server"])
def test_a_stamp_that_somebody_wrote(chain: Chain, name: str, create: Create, manager: str) -> None:
    shop = create()
    shop.patch(manager, {"spec": {"template": {"metadata": {"annotations": {STAMP_ANNOTATION: f"{name}=0"}}}}})
    assert restarted(run(chain, chain.wanted(name, {"a": b"1"}, restart=(shop.restart,)))) == {shop.name: (name,)}


def test_waiting(chain: Chain, name: str, create: Create) -> None:
    """Without a node, what has no replicas is done as soon as its controller has seen it."""
    alive = [create(), create("StatefulSet"), create("DaemonSet")]
    spec = chain.wanted(name, {"a": b"1"}, restart=tuple(one.restart for one in alive))
    workloads = run(chain, spec)
    told: list[str] = []
    workloads.wait(60, told.append)
    assert {line.split(":")[0] for line in told if "rollout done" in line} == {
        f"{one.kind} {chain.namespace}/{one.name}" for one in alive
    }


def test_what_a_rollout_waits_for(chain: Chain, name: str, create: Create, tmp_path: Path) -> None:
    waiting = create(spec={"replicas": 2, "strategy": {"type": "Recreate"}})
    refused = create(spec={"replicas": 1, "pod": {"serviceAccountName": "nobody"}})
    also = create("StatefulSet", spec={"replicas": 1, "pod": {"serviceAccountName": "nobody"}})
    spec = chain.wanted(name, {"a": b"1"}, restart=(waiting.restart, refused.restart, also.restart))
    run(chain, spec)
    wait_until(
        "the new pods",
        lambda: {"observedGeneration": 2, "updatedReplicas": 2}.items() <= waiting.found["status"].items(),
    )
    for one in (refused, also):
        wait_until(f"events of {one.restart}", lambda one=one: one.failed_creations)
    wait_until("the condition", lambda: "ReplicaFailure" in str(refused.found["status"]))
    workloads = find_workloads(chain.kubernetes(), [spec], waits=True)
    assert isinstance(workloads, LiveWorkloads)
    with pytest.raises(RestartFailed) as caught:
        workloads.wait(0)
    said = {str(error.place).split("/")[-1]: str(error) for error in caught.value.errors}
    assert "its rollout is not done after 0 s: 2 of 2 pods updated, 0 of 2 available; pod " in said[waiting.name]
    assert said[waiting.name].count(": Pending, and no node has taken it") == 2
    for one in (refused, also):
        assert "FailedCreate: " in said[one.name]
        assert 'serviceaccount "nobody" not found' in said[one.name]
    # The message of who may not list pods says so.
    task = {**chain.task(name, data={"a": "1"}, restart=[waiting.restart], restart_wait=True, restart_timeout=0)}
    rules = [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "update"]},
        {
            "apiGroups": ["apps"],
            "resources": ["deployments"],
            "resourceNames": [waiting.name],
            "verbs": ["get", "patch"],
        },
    ]
    token = chain.cluster.account(f"user-{uuid.uuid4().hex[:8]}", rules)
    (tmp_path / "token").write_text(chain.token)
    env = environment(chain, tmp_path / "token", K8S_AUTH_KUBECONFIG=chain.cluster.kubeconfig_of(token, tmp_path))
    result = play([{**task, "ignore_errors": True}], tmp_path, env).last
    assert "RBAC does not grant to list pods and events" in result["msg"]
    assert (result["changed"], result["restarted"]) == (False, [])
