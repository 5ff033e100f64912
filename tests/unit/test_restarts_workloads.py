"""The stamps of workloads, which Secrets they are of, and whether they say that a value changed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretmanager.restarts.workloads import (
    Restart,
    Workload,
    annotated,
    asking,
    hold,
    named,
    outdated,
    owner,
    patch,
    stamp,
    stamps,
)
from secretmanager.sealed import (
    MANIFEST_KEY,
    SECRETS_ANNOTATION,
    STAMP_ANNOTATION,
    Manifest,
    Scope,
    encode,
    values_digest,
    with_ciphertexts,
)
from secretmanager.sealing.spec import SecretSpec, State

NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", fullmatch=True)
ENTRIES = st.dictionaries(NAMES, st.binary(min_size=16, max_size=16).map(bytes.hex))
SHOP = Workload("ns", "Deployment", "shop")


def workload(text: str | None = None, **metadata: Any) -> dict[str, Any]:
    annotations = {"other": "stays"} if text is None else {STAMP_ANNOTATION: text}
    template = {"metadata": {"annotations": annotations}}
    return {"metadata": {"name": "shop", "namespace": "ns", **metadata}, "spec": {"template": template}}


@given(ENTRIES, ENTRIES)
def test_a_run_leaves_the_entries_of_other_secrets_alone(before: dict[str, str], ours: dict[str, str]) -> None:
    found = workload(stamp(workload(), before))
    after = workload(stamp(found, outdated(found, ours)))
    assert stamps(after) == {**before, **ours}
    assert outdated(after, ours) == {}
    assert stamp(after, {}) == stamp(after, ours)


@pytest.mark.parametrize("template", [None, {}, {"metadata": None}, {"metadata": {"annotations": None}}])
def test_a_template_without_a_stamp(template: object) -> None:
    found = {"metadata": {}, "spec": {"template": template} if template is not None else {}}
    assert stamps(found) == {}
    assert outdated(found, {"b": "2", "a": "1"}) == {"a": "1", "b": "2"}


def test_a_stamp_that_somebody_else_wrote_is_replaced() -> None:
    assert stamps(workload("nonsense")) == {}
    assert stamp(workload("nonsense"), {"a": "1"}) == "a=1"


def test_the_patch_has_the_stamp_alone() -> None:
    assert patch("a=1") == {"spec": {"template": {"metadata": {"annotations": {STAMP_ANNOTATION: "a=1"}}}}}


def secret(digests: dict[str, str], **more: str) -> dict[str, Any]:
    manifest = Manifest("key", Scope.STRICT, "key-digest", digests)
    data = {**dict.fromkeys(digests, encode(b"vault:v1:QUJD")), **more, MANIFEST_KEY: encode(manifest.dump())}
    return {"metadata": {"namespace": "ns", "name": "it"}, "data": data}


def test_the_digest_of_a_secret_is_that_of_its_values() -> None:
    digest = values_digest(secret({"a": "1", "b": "2"}))
    assert digest == values_digest(secret({"b": "2", "a": "1"}, plain="eA=="))
    assert digest == values_digest(with_ciphertexts(secret({"a": "1", "b": "2"}), {"a": "vault:v2:REVG"}))
    others = [{"a": "1"}, {"a": "1", "b": "3"}, {"a": "1", "c": "2"}, {"a": "2", "b": "1"}, {}]
    assert len({digest, *(values_digest(secret(other)) for other in others)}) == 6
    gone = secret({"a": "1", "b": "2"})
    del gone["data"]["b"]
    assert values_digest(gone) == values_digest(secret({"a": "1"}))
    assert values_digest(None) is None
    assert values_digest({"metadata": {}, "data": {"a": "eA=="}}) is None


def test_which_secrets_restart_what() -> None:
    def spec(name: str, *restart: str, namespace: str = "ns", **options: Any) -> SecretSpec:
        return SecretSpec(namespace, name, restart=restart, **options)

    specs = [
        spec("a", "Deployment/shop", "StatefulSet/db"),
        spec("b", "Deployment/shop", "annotated"),
        spec("c", "Deployment/shop", namespace="other"),
        spec("d", "Deployment/shop", "annotated", state=State.ABSENT),
        spec("e"),
    ]
    assert named(specs) == {
        SHOP: {"a", "b"},
        Workload("ns", "StatefulSet", "db"): {"a"},
        Workload("other", "Deployment", "shop"): {"c"},
    }
    assert asking(specs) == {"ns": {"b"}}
    assert annotated(workload(annotations={SECRETS_ANNOTATION: " a,b ,,c"})) == {"a", "b", "c"}
    assert annotated(workload()) == set()


def applied_by(manager: str, name: str = STAMP_ANNOTATION) -> dict[str, Any]:
    fields = {"f:spec": {"f:template": {"f:metadata": {"f:annotations": {f"f:{name}": {}}}}}}
    return {"manager": manager, "operation": "Apply", "fieldsV1": fields}


def test_who_owns_a_stamp() -> None:
    for manager in ("argocd-controller", "kustomize-controller", "kubectl-client-side-apply"):
        assert owner(workload(managedFields=[applied_by("kubevault"), applied_by(manager)])) == manager
    assert owner(workload(managedFields=[applied_by("argocd-controller", "other"), {"manager": "x"}])) is None
    assert owner(workload(managedFields=[applied_by("kubevault")])) is None
    assert owner(workload()) is None


def test_what_holds_a_restart() -> None:
    assert "paused" in str(hold({"spec": {"paused": True}}))
    assert "OnDelete" in str(hold({"spec": {"updateStrategy": {"type": "OnDelete"}}}))
    assert hold({"spec": {"updateStrategy": {"type": "RollingUpdate"}}}) is None


def test_what_is_reported_names_secrets_and_no_hash() -> None:
    restart = Restart(SHOP, ("a", "b"))
    assert str(restart) == "Deployment ns/shop: restarted for a, b"
    assert restart.facts() == {"namespace": "ns", "kind": "Deployment", "name": "shop", "secrets": ["a", "b"]}
    assert restart.diff()["after"] == {STAMP_ANNOTATION: {"a": "another value", "b": "another value"}}
