"""Sealed manifests as GitOps applies them, by server-side apply with a field manager of its own, and webhooks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from support.ansible import BIN, play
from support.modules import run_modules
from support.sealing import Chain, environment
from support.servers import wait_until

from secretmanager.sealing.manifestfile import ManifestFile
from secretmanager.sealing.sealer import Sealer
from secretmanager.sealing.spec import BANK_VAULTS_SKIP

MANAGERS = ("kubectl", "argocd-controller", "kustomize-controller")
"""Field managers of kubectl, Argo CD and Flux."""


@pytest.fixture
def manifest(chain: Chain, name: str, tmp_path: Path) -> Path:
    """A sealed manifest of two values."""
    path = tmp_path / "manifest.yml"
    Sealer(chain.client(), ManifestFile(path)).seal([chain.wanted(name, {"a": b"sesame", "b": b"another"})])
    return path


@pytest.fixture
def env(chain: Chain, tmp_path: Path) -> dict[str, str]:
    token_file = tmp_path / "token"
    token_file.write_text(chain.token)
    return environment(chain, token_file)


def applied(chain: Chain, manifest: Path, manager: str, *, force: bool = False) -> str:
    """Apply a manifest as ``kubectl apply --server-side`` does, by the same request; return the resourceVersion."""
    (secret,) = yaml.safe_load_all(manifest.read_text())
    made = chain.api.patch_namespaced_secret(
        secret["metadata"]["name"],
        secret["metadata"]["namespace"],
        secret,
        field_manager=manager,
        force=force,
        _content_type="application/apply-patch+yaml",
    )
    return made.metadata.resource_version


@pytest.mark.parametrize("manager", MANAGERS)
def test_a_sealed_manifest_applied_twice_changes_nothing(chain: Chain, name: str, manifest: Path, manager: str) -> None:
    first = applied(chain, manifest, manager)
    assert applied(chain, manifest, manager) == first
    assert chain.opened(name) == {"a": b"sesame", "b": b"another"}
    # Nor does a live run with the same values.
    (outcome,) = chain.seal(chain.wanted(name, {"a": b"sesame", "b": b"another"}))
    assert not outcome.changed
    assert chain.secret(name)["metadata"]["resourceVersion"] == first


def test_a_value_that_changed_in_git_is_applied(chain: Chain, name: str, manifest: Path) -> None:
    applied(chain, manifest, "kustomize-controller")
    Sealer(chain.client(), ManifestFile(manifest)).seal([chain.wanted(name, {"a": b"new"})])
    applied(chain, manifest, "kustomize-controller")
    assert chain.opened(name) == {"a": b"new", "b": b"another"}


def test_git_takes_back_what_a_live_run_changed(chain: Chain, name: str, manifest: Path) -> None:
    """As docs/argocd.md and docs/flux.md say: both apply with force, so Git wins; kubectl reports a conflict."""
    applied(chain, manifest, "kustomize-controller")
    chain.seal(chain.wanted(name, {"a": b"live"}))
    with pytest.raises(client.ApiException, match='conflict with \\\\"kubevault\\\\"'):
        applied(chain, manifest, "kustomize-controller")
    applied(chain, manifest, "kustomize-controller", force=True)
    assert chain.opened(name) == {"a": b"sesame", "b": b"another"}


def test_an_exported_secret_that_is_sealed_in_its_file(chain: Chain, name: str, tmp_path: Path) -> None:
    """``kubectl get -o yaml`` writes fields that the API sets: an old resourceVersion in a manifest is a conflict."""
    chain.put(name, {"a": b"sesame"}, immutable=False)
    path = tmp_path / "exported.yml"
    path.write_text(yaml.safe_dump(chain.secret(name)))
    assert "resourceVersion" in path.read_text()
    Sealer(chain.client(), ManifestFile(path)).seal([chain.wanted(name, adopt=True)])
    assert sorted(yaml.safe_load(path.read_text())["metadata"]) == ["labels", "name", "namespace"]
    first = applied(chain, path, "kubectl", force=True)
    assert applied(chain, path, "kubectl") == first
    assert chain.opened(name) == {"a": b"sesame"}


@pytest.mark.parametrize("options", [{"apply": True}, {"server_side_apply": {"field_manager": "x"}, "apply": True}])
def test_kubernetes_core_applies_it_twice(
    chain: Chain, manifest: Path, tmp_path: Path, env: dict[str, str], options: dict[str, Any], name: str
) -> None:
    task = {"kubernetes.core.k8s": {"src": str(manifest), **options}}
    sealing = {"name": name, "namespace": chain.namespace, "transit_key": "derived", "data": {"a": "sesame"}}
    done = play([task, task, {"kubevault_secret": sealing}, task], tmp_path, env)
    assert [result["changed"] for result in done.results] == [True, False, False, False]


@pytest.fixture
def guarded(chain: Chain, name: str) -> Iterator[None]:
    """A policy of the real API server that refuses the Secret unless bank-vaults' webhooks would leave it alone.

    The webhooks themselves cannot run here: they need a cluster that runs pods. Each reads one of the annotations.
    """
    admission = client.AdmissionregistrationV1Api(chain.api.api_client)
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"]}
    conditions = [f"object.metadata.?annotations[?'{key}'].orValue('') == 'skip'" for key in BANK_VAULTS_SKIP]
    spec = {
        "matchConstraints": {"resourceRules": [{**rule, "resourceNames": []}]},
        "matchConditions": [{"name": "ours", "expression": f"object.metadata.name.startsWith('{name}')"}],
        "validations": [{"expression": " && ".join(conditions), "message": "bank-vaults would take it"}],
    }
    policy = f"skip-{name}"
    admission.create_validating_admission_policy({"metadata": {"name": policy}, "spec": spec})
    binding = {"policyName": policy, "validationActions": ["Deny"]}
    admission.create_validating_admission_policy_binding({"metadata": {"name": policy}, "spec": binding})
    try:
        wait_until("the policy", lambda: taken(chain, name))
        yield
    finally:
        admission.delete_validating_admission_policy_binding(policy)
        admission.delete_validating_admission_policy(policy)


def taken(chain: Chain, name: str) -> bool:
    try:
        chain.api.create_namespaced_secret(chain.namespace, {"metadata": {"name": name}}, dry_run="All")
    except client.ApiException as error:
        return "bank-vaults would take it" in str(error.body)
    return False


@pytest.mark.usefixtures("guarded")
def test_secrets_are_born_with_bank_vaults_skip_annotation(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str]
) -> None:
    base = {"namespace": chain.namespace, "transit_key": "derived"}
    one = {"kubevault_secret": {**base, "name": name, "data": {"a": "1"}}}
    skipped = {"kubevault_secret": {**one["kubevault_secret"], "bank_vaults_skip": True}}
    entries = [{"name": f"{name}-2", "data": {"a": "2"}, "annotations": {"example.org/a": "b"}}]
    several = {"kubevault_secret": {**base, "secrets": entries, "bank_vaults_skip": True}}
    (taken_by_them,) = run_modules([one], tmp_path, env, fails=True)
    assert "bank-vaults would take it" in taken_by_them["msg"]
    results = run_modules([skipped, skipped, several, several], tmp_path, env)
    assert [result["changed"] for result in results] == [True, False, True, False]
    assert chain.secret(f"{name}-2")["metadata"]["annotations"] == {**BANK_VAULTS_SKIP, "example.org/a": "b"}
    # By the command, and in a manifest too.
    spot = [f"{chain.namespace}/{name}-3", "--transit-key", "derived", "--from-file", "a=-", "--bank-vaults-skip"]
    target = ["--manifest", tmp_path / "m.yml", "--apply", "--output", "json"]
    told = subprocess.run([BIN / "kubevault", "seal", *spot, *target], env=env, input=b"3", capture_output=True)
    assert json.loads(told.stdout)[0]["action"] == "created", told.stderr
    assert yaml.safe_load((tmp_path / "m.yml").read_text())["metadata"]["annotations"] == BANK_VAULTS_SKIP
