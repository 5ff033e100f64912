"""Sealing on a real Vault and a real Kubernetes API: what ends up in a Secret, and what does not."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.cluster import own_namespace
from support.sealing import Chain
from support.servers import wait_until

from secretmanager.errors import (
    ConfigError,
    DecryptionFailed,
    Forbidden,
    KubernetesError,
    SealedDataError,
    SealingFailed,
)
from secretmanager.rotation.proving import Rewrapped, prove
from secretmanager.sealed import MANIFEST_KEY, SEALED_LABEL, Place, Scope, manifest_of, sealed_values, with_ciphertexts
from secretmanager.sealing.exposure import APPLIED_ANNOTATION
from secretmanager.sealing.inspection import KeyStates, inspect
from secretmanager.sealing.manifestfile import ManifestFile
from secretmanager.sealing.plan import Action
from secretmanager.sealing.sealer import seal_into
from secretmanager.sealing.spec import Behavior, State
from secretmanager.sealing.stores import KubernetesStore
from secretmanager.servers.vault import TransitItem


def test_a_rerun_writes_nothing_and_an_edit_changes_its_key_alone(chain: Chain, name: str) -> None:
    wanted = chain.wanted(name, {"a": b"1", "b": b"\x00\xff"})
    (first,) = chain.seal(wanted)
    assert (first.action, first.added, first.scope) == (Action.CREATED, ("a", "b"), Scope.STRICT)
    before = chain.secret(name)
    (rerun,) = chain.seal(wanted)
    assert rerun.action is Action.UNCHANGED
    assert chain.secret(name) == before
    (edit,) = chain.seal(chain.wanted(name, {"a": b"1", "b": b"3"}))
    assert (edit.added, edit.updated, edit.removed) == ((), ("b",), ())
    after = chain.secret(name)
    assert after["data"]["a"] == before["data"]["a"]
    assert chain.opened(name) == {"a": b"1", "b": b"3"}


def test_kubernetes_holds_ciphertext_alone(chain: Chain, name: str) -> None:
    chain.seal(chain.wanted(name, {"a": b"open sesame"}))
    secret = chain.secret(name)
    assert chain.data(name)["a"].startswith(b"vault:v1:")
    assert "open sesame" not in str(secret)
    assert base64.b64encode(b"open sesame").decode() not in str(secret)
    assert secret["metadata"]["labels"] == {SEALED_LABEL: "true"}
    assert secret["metadata"]["managedFields"][0]["manager"] == "kubevault"


def test_a_ciphertext_that_was_copied_elsewhere_does_not_decrypt(chain: Chain, name: str) -> None:
    chain.seal(chain.wanted(name, {"a": b"1"}))
    ciphertext = chain.data(name)["a"]
    for context in (f"{chain.namespace}/{name}/b", f"{chain.namespace}/other/a", f"elsewhere/{name}/a"):
        with pytest.raises(DecryptionFailed, match="sealed for another place"):
            chain.vault.root.decrypt("derived", [TransitItem(ciphertext, context.encode())])


def test_the_scope_follows_the_key_unless_it_is_given(chain: Chain, name: str) -> None:
    (bound,) = chain.seal(chain.wanted(f"{name}-bound", {"a": b"1"}))
    (plain,) = chain.seal(chain.wanted(f"{name}-plain", {"a": b"1"}, transit_key="plain"))
    (wide,) = chain.seal(chain.wanted(f"{name}-wide", {"a": b"1"}, scope=Scope.NAMESPACE_WIDE))
    assert [bound.scope, plain.scope, wide.scope] == [Scope.STRICT, Scope.CLUSTER_WIDE, Scope.NAMESPACE_WIDE]
    item = TransitItem(chain.data(f"{name}-wide")["a"], chain.namespace.encode())
    assert chain.vault.root.decrypt("derived", [item]) == [b"1"]
    (rerun,) = chain.seal(chain.wanted(f"{name}-wide", {"a": b"1"}))
    assert (rerun.action, rerun.scope) == (Action.UNCHANGED, Scope.NAMESPACE_WIDE)


@pytest.mark.parametrize(
    ("key", "scope", "message"),
    [
        ("plain", Scope.STRICT, "scope strict needs a derived Transit key, and plain is not"),
        ("plain", Scope.NAMESPACE_WIDE, "scope namespace-wide needs a derived Transit key"),
        ("derived", Scope.CLUSTER_WIDE, "Transit key derived is derived"),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_a_scope_that_the_key_does_not_fit_is_an_error(
    chain: Chain, name: str, key: str, scope: Scope, message: str, check: bool
) -> None:
    with pytest.raises(ConfigError, match=message):
        chain.seal(chain.wanted(name, {"a": b"1"}, transit_key=key, scope=scope), check=check)
    assert not chain.api.list_namespaced_secret(chain.namespace, field_selector=f"metadata.name={name}").items


def test_a_strict_secret_is_never_let_loose_unasked(chain: Chain, name: str) -> None:
    chain.seal(chain.wanted(name, {"a": b"1"}))
    before = chain.secret(name)
    with pytest.raises(ConfigError, match="sealed in scope strict, and Transit key plain is not derived"):
        chain.seal(chain.wanted(name, {"a": b"1"}, transit_key="plain"))
    assert chain.secret(name) == before
    asked = chain.wanted(name, {"a": b"1"}, transit_key="plain", scope=Scope.CLUSTER_WIDE)
    assert chain.seal(asked)[0].updated == ("a",)
    assert chain.opened(name) == {"a": b"1"}


def test_another_key_seals_all_or_nothing(chain: Chain, name: str) -> None:
    chain.seal(chain.wanted(name, {"a": b"1", "b": b"2"}))
    with pytest.raises(SealedDataError, match=r"data keys b are sealed with Transit key derived.*give their values"):
        chain.seal(chain.wanted(name, {"a": b"1"}, transit_key="other"))
    assert chain.seal(chain.wanted(name, {"a": b"1", "b": b"2"}, transit_key="other"))[0].updated == ("a", "b")
    manifest = manifest_of(chain.secret(name))
    assert manifest
    assert (manifest.transit_key, manifest.digest_key) == ("other", "other-digest")
    assert chain.opened(name) == {"a": b"1", "b": b"2"}


def test_keys_merge_or_are_replaced_and_those_of_others_stay(chain: Chain, name: str) -> None:
    chain.seal(chain.wanted(name, {"a": b"1", "b": b"2"}))
    patch = {"data": {"foreign": base64.b64encode(b"theirs").decode()}}
    chain.api.patch_namespaced_secret(name, chain.namespace, patch)
    assert chain.seal(chain.wanted(name, {"c": b"3"}))[0].added == ("c",)
    assert chain.opened(name) == {"a": b"1", "b": b"2", "c": b"3"}
    (replaced,) = chain.seal(chain.wanted(name, {"c": b"3"}, behavior=Behavior.REPLACE))
    assert (replaced.removed, replaced.updated) == (("a", "b"), ())
    assert set(chain.data(name)) == {"c", "foreign", MANIFEST_KEY}
    assert set(manifest_of(chain.secret(name)).digests) == {"c"}
    (gone,) = chain.seal(chain.wanted(name, absent_keys=frozenset({"foreign", "never-there"})))
    assert gone.removed == ("foreign",)
    assert set(chain.data(name)) == {"c", MANIFEST_KEY}
    assert chain.seal(chain.wanted(name, absent_keys=frozenset({"foreign"})))[0].action is Action.UNCHANGED


def test_a_secret_of_others_is_taken_over_by_force_alone(chain: Chain, name: str) -> None:
    chain.put(name, {"a": b"x", "other": b"y"})
    before = chain.secret(name)
    wanted = chain.wanted(name, {"a": b"1"})
    for check in (True, False):
        with pytest.raises(SealedDataError, match="the Secret was not sealed here; set force to take over, or adopt"):
            chain.seal(wanted, check=check)
    assert chain.secret(name) == before
    assert chain.seal(chain.wanted(name, {"a": b"1"}, force=True))[0].updated == ("a",)
    assert chain.data(name)["other"] == b"y"
    with pytest.raises(SealedDataError, match="data keys other were not sealed here; set force"):
        chain.seal(chain.wanted(name, {"other": b"2"}))
    assert chain.seal(wanted)[0].action is Action.UNCHANGED


def test_adopting_seals_in_place_what_it_finds(chain: Chain, name: str) -> None:
    (older,) = chain.vault.root.encrypt("plain", [TransitItem(b"old")])
    values = {"a": b"hunter2", "b": b"\xff\x00", "older": older.encode()}
    chain.put(name, values)
    applied = {APPLIED_ANNOTATION: '{"data":{"a":"aHVudGVyMg=="}}', "kept": "yes"}
    chain.api.patch_namespaced_secret(name, chain.namespace, {"metadata": {"annotations": applied}})
    (adopted,) = chain.seal(chain.wanted(name, adopt=True))
    assert (adopted.action, adopted.adopted, adopted.updated) == (Action.UPDATED, ("a", "b"), ("a", "b"))
    secret = chain.secret(name)
    assert chain.data(name)["older"] == older.encode()
    assert secret["metadata"]["annotations"] == {"kept": "yes"}
    assert "aHVudGVyMg==" not in str(secret)
    assert chain.opened(name) == {"a": b"hunter2", "b": b"\xff\x00", "older": b"old"}
    assert chain.seal(chain.wanted(name, adopt=True))[0].action is Action.UNCHANGED
    chain.api.patch_namespaced_secret(name, chain.namespace, {"stringData": {"late": "plain"}})
    assert chain.seal(chain.wanted(name, {"a": b"new"}, adopt=True))[0].adopted == ("late",)
    assert chain.opened(name) == {"a": b"new", "b": b"\xff\x00", "late": b"plain", "older": b"old"}


def test_plaintext_over_a_sealed_value_is_told_and_adopted(chain: Chain, name: str) -> None:
    """As `kubectl patch` or `apply` leave it: the manifest still says that the data keys are sealed."""
    chain.seal(chain.wanted(name, {"a": b"1", "b": b"2", "c": b"3"}))
    patch = {"stringData": {"a": "hunter2", "b": "2", "c": ""}}
    chain.api.patch_namespaced_secret(name, chain.namespace, patch)
    (other,) = chain.seal(chain.wanted(name, {"c": b"3"}))
    assert (other.updated, other.plain, other.facts()["plain"]) == (("c",), ("a", "b"), ["a", "b"])
    assert other.warnings == [
        f"{chain.namespace}/{name}: somebody wrote plaintext over the sealed data keys a, b; set adopt to seal it"
    ]
    foretold, adopted, again = (
        chain.seal(chain.wanted(name, adopt=True), check=check)[0] for check in (True, False, False)
    )
    assert foretold.adopted == adopted.adopted == ("a", "b")
    assert (again.action, again.plain) == (Action.UNCHANGED, ())
    assert chain.opened(name) == {"a": b"hunter2", "b": b"2", "c": b"3"}
    assert set(sealed_values(chain.secret(name))) == {"a", "b", "c"}


def test_what_could_not_be_created_again_is_not_deleted(chain: Chain, name: str) -> None:
    chain.seal(chain.wanted(name, {"a": b"1"}, immutable=True))
    before = chain.secret(name)
    invalid = chain.wanted(name, {"a": b"1"}, type="kubernetes.io/tls", recreate=True)
    with own_namespace("quota") as cluster:
        crowded = replace(chain, cluster=cluster)
        for each in (name, f"{name}-other"):
            crowded.seal(crowded.wanted(each, {"a": b"1"}, immutable=True))
        cluster.api.create_namespaced_resource_quota(
            cluster.namespace, {"metadata": {"name": "secrets"}, "spec": {"hard": {"count/secrets": "1"}}}
        )
        wait_until(
            "the count", lambda: cluster.api.read_namespaced_resource_quota("secrets", cluster.namespace).status.used
        )
        crowded_before = crowded.secret(name)
        for check in (True, False):
            with pytest.raises(KubernetesError, match=r"data\[tls.crt\]: Required value"):
                chain.seal(invalid, check=check)
            with pytest.raises(Forbidden, match=r"exceeded quota: secrets, .* used: count/secrets=2, limited: .*=1"):
                crowded.seal(crowded.wanted(name, {"a": b"2"}, immutable=True, recreate=True), check=check)
        assert crowded.secret(name) == crowded_before
    assert chain.secret(name) == before


READ_BY_OTHERS_ALONE = {
    "kubernetes.io/dockerconfigjson": {".dockerconfigjson": b'{"auths": {}}'},
    "kubernetes.io/dockercfg": {".dockercfg": b"{}"},
    "bootstrap.kubernetes.io/token": {"token-id": b"abcdef", "token-secret": b"0123456789abcdef"},
    "helm.sh/release.v1": {"release": b"H4sI"},
}


@pytest.mark.parametrize("secret_type", READ_BY_OTHERS_ALONE)
def test_what_kubernetes_or_helm_alone_reads_is_not_sealed(chain: Chain, name: str, secret_type: str) -> None:
    values = READ_BY_OTHERS_ALONE[secret_type]
    chain.put(name, values, type=secret_type)
    before = chain.secret(name)
    for wanted in (chain.wanted(name, adopt=True), chain.wanted(name, values, force=True)):
        with pytest.raises(SealedDataError, match=f"type {secret_type} is read by .* it cannot be sealed"):
            chain.seal(wanted)
    assert chain.secret(name) == before
    with pytest.raises(ConfigError, match="it cannot be sealed"):
        chain.wanted(f"{name}-new", values, type=secret_type)
    chain.seal(chain.wanted(name, transit_key=None, state=State.ABSENT, force=True))


def test_who_gets_ciphertext_is_told(chain: Chain, name: str) -> None:
    """A program may read a Secret of such a type by itself; an Ingress that names it breaks."""
    chain.put(name, {"tls.crt": b"a certificate", "tls.key": b"a key"}, type="kubernetes.io/tls")
    (beside,) = chain.seal(chain.wanted(name, {"password": b"1"}, force=True))
    assert beside.warnings == []
    (adopted,) = chain.seal(chain.wanted(name, adopt=True))
    (again,) = chain.seal(chain.wanted(name, adopt=True))
    assert adopted.adopted == ("tls.crt", "tls.key")
    assert again.action is Action.UNCHANGED
    for outcome in (adopted, again):
        (warning,) = outcome.warnings
        assert f"{name}: type kubernetes.io/tls is also read by each Ingress" in warning
    (basic,) = chain.seal(chain.wanted(f"{name}-basic", {"password": b"1"}, type="kubernetes.io/basic-auth"))
    assert "Tekton and Flux" in basic.warnings[0]


def test_adopting_what_holds_nothing_plain_is_done_once(chain: Chain, name: str) -> None:
    (older,) = chain.vault.root.encrypt("plain", [TransitItem(b"old")])
    chain.put(name, {"older": older.encode()})
    assert chain.seal(chain.wanted(name, adopt=True))[0].action is Action.UPDATED
    assert chain.seal(chain.wanted(name, adopt=True))[0].action is Action.UNCHANGED
    with pytest.raises(SealedDataError, match="no such Secret to adopt"):
        chain.seal(chain.wanted(f"{name}-missing", adopt=True))


def test_deleting_spares_what_was_not_sealed_here(chain: Chain, name: str) -> None:
    gone = chain.wanted(name, transit_key=None, state=State.ABSENT)
    assert chain.seal(gone)[0].action is Action.UNCHANGED
    chain.put(name, {"a": b"x"})
    with pytest.raises(SealedDataError, match="the Secret was not sealed here; set force to delete"):
        chain.seal(gone)
    chain.seal(chain.wanted(name, {"b": b"1"}, force=True))
    with pytest.raises(SealedDataError, match="data keys a were not sealed here; set force to delete"):
        chain.seal(gone)
    chain.seal(chain.wanted(name, absent_keys=frozenset("a")))
    assert chain.seal(gone, check=True)[0].action is Action.DELETED
    assert chain.data(name)
    (deleted,) = chain.seal(gone)
    assert (deleted.action, deleted.removed) == (Action.DELETED, ("b",))
    assert not chain.api.list_namespaced_secret(chain.namespace, field_selector=f"metadata.name={name}").items


def test_a_damaged_secret_is_noticed_and_put_right(chain: Chain, name: str) -> None:
    wanted = chain.wanted(name, {"a": b"1", "b": b"2"})
    chain.seal(wanted)
    good = chain.data(name)["a"].decode()
    for damaged in (good[:-5] + ("A" if good[-5] != "A" else "B") + good[-4:], "rubbish", good[:-4]):
        patch = {"data": {"a": base64.b64encode(damaged.encode()).decode()}}
        chain.api.patch_namespaced_secret(name, chain.namespace, patch)
        assert chain.seal(wanted)[0].updated == ("a",)
        assert chain.opened(name) == {"a": b"1", "b": b"2"}
    chain.api.patch_namespaced_secret(name, chain.namespace, {"data": {"a": None}})
    assert chain.seal(wanted)[0].added == ("a",)
    chain.api.patch_namespaced_secret(name, chain.namespace, {"stringData": {MANIFEST_KEY: "{"}})
    with pytest.raises(SealedDataError, match=r"manifest.*damaged.*force"):
        chain.seal(wanted)
    assert chain.seal(chain.wanted(name, {"a": b"1", "b": b"2"}, force=True))[0].updated == ("a", "b")
    assert chain.opened(name) == {"a": b"1", "b": b"2"}


def test_a_rewrapped_ciphertext_is_the_same_value(chain: Chain, name: str) -> None:
    wanted = chain.wanted(name, {"a": b"1"}, transit_key="plain")
    chain.seal(wanted)
    chain.vault.write("transit/keys/plain/rotate")
    secret = chain.kubernetes().get_secret(chain.namespace, name)
    (rewrapped,) = chain.vault.root.rewrap("plain", [TransitItem(sealed_values(secret)["a"].ciphertext.encode())])
    made = Rewrapped(secret, with_ciphertexts(secret, {"a": rewrapped}), ["a"])
    chain.kubernetes().update_secret(chain.namespace, *prove(chain.vault.root, "plain", [made]))
    assert chain.data(name)["a"] == rewrapped.encode()
    assert rewrapped.startswith("vault:v2:")
    assert chain.seal(wanted)[0].action is Action.UNCHANGED


def test_labels_annotations_type_and_immutable(chain: Chain, name: str) -> None:
    options = {"labels": {"app": "x"}, "annotations": {"example.org/a": "1"}, "type": "example.org/kind"}
    (made,) = chain.seal(chain.wanted(name, {"a": b"1"}, **options))
    assert made.metadata == ("labels", "annotations", "type")
    secret = chain.secret(name)
    assert secret["metadata"]["labels"] == {"app": "x", SEALED_LABEL: "true"}
    assert (secret["metadata"]["annotations"], secret["type"]) == ({"example.org/a": "1"}, "example.org/kind")
    assert chain.seal(chain.wanted(name, {"a": b"1"}, **options))[0].action is Action.UNCHANGED
    chain.api.patch_namespaced_secret(name, chain.namespace, {"metadata": {"labels": {"theirs": "y"}}})
    (relabelled,) = chain.seal(chain.wanted(name, {"a": b"1"}, labels={"app": "z"}, immutable=True))
    assert (relabelled.updated, relabelled.metadata) == ((), ("labels", "immutable"))
    assert chain.secret(name)["metadata"]["labels"] == {"app": "z", "theirs": "y", SEALED_LABEL: "true"}
    assert chain.seal(chain.wanted(name, {"a": b"1"}))[0].action is Action.UNCHANGED


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": {"a": b"2"}}, "the Secret is immutable; set recreate"),
        ({"values": {"a": b"1"}, "type": "example.org/kind"}, "its type is Opaque, and a type cannot change"),
        ({"values": {"a": b"1"}, "immutable": False}, "the Secret is immutable"),
    ],
)
def test_what_kubernetes_does_not_change_is_made_anew_where_asked(
    chain: Chain, name: str, options: dict, message: str
) -> None:
    chain.seal(chain.wanted(name, {"a": b"1", "b": b"2"}, immutable=True, annotations={"kept": "yes"}))
    before = chain.secret(name)
    with pytest.raises(ConfigError, match=message):
        chain.seal(chain.wanted(name, **options))
    assert chain.secret(name) == before
    assert chain.seal(chain.wanted(name, **options, recreate=True), check=True)[0].action is Action.RECREATED
    assert chain.secret(name) == before
    assert chain.seal(chain.wanted(name, **options, recreate=True))[0].action is Action.RECREATED
    after = chain.secret(name)
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["metadata"]["annotations"] == {"kept": "yes"}
    assert chain.opened(name) == {"a": b"1", "b": b"2"} | options["values"]


def test_a_thousand_keys_fit_one_secret(chain: Chain, name: str) -> None:
    values = {f"key-{n:04}": b"%d" % n for n in range(1000)}
    assert len(chain.seal(chain.wanted(name, values))[0].added) == 1000
    assert chain.seal(chain.wanted(name, values))[0].action is Action.UNCHANGED
    values["key-0500"] = b"edited"
    assert chain.seal(chain.wanted(name, values))[0].updated == ("key-0500",)
    assert chain.opened(name) == values


def test_the_size_that_kubernetes_allows_is_used_to_the_end(chain: Chain, name: str) -> None:
    largest = 785_900  # sealed, within some hundred bytes of 1 MiB with the manifest
    chain.seal(chain.wanted(name, {"big": b"x" * largest}))
    assert chain.opened(name) == {"big": b"x" * largest}
    with pytest.raises(ConfigError, match=r"more than the 1048576 that Kubernetes allows; the largest data key is big"):
        chain.wanted(name, {"big": b"x" * 790_000, "small": b"x"})
    with pytest.raises(ConfigError, match=r"more than the 1048576 that Kubernetes allows; the largest data key is big"):
        chain.seal(chain.wanted(name, {"more": b"x" * 1000}))


def test_check_mode_says_what_a_run_does(chain: Chain, name: str) -> None:
    chain.seal(chain.wanted(name, {"a": b"1", "b": b"2"}))
    before = chain.secret(name)
    wanted = chain.wanted(name, {"a": b"2", "c": b"3"}, behavior=Behavior.REPLACE, labels={"x": "y"})
    checked = chain.seal(wanted, check=True)
    assert chain.secret(name) == before
    assert chain.seal(wanted) == checked
    assert (checked[0].added, checked[0].updated, checked[0].removed) == (("c",), ("a",), ("b",))


def test_one_bad_secret_of_several_stops_all(chain: Chain, name: str) -> None:
    chain.put(f"{name}-1", {"a": b"x"})
    chain.put(f"{name}-2", {"a": b"x"})
    with pytest.raises(SealingFailed) as caught:
        chain.seal(*(chain.wanted(f"{name}-{n}", {"a": b"1"}) for n in range(4)))
    assert [error.place for error in caught.value.errors] == [f"{chain.namespace}/{name}-{n}" for n in (1, 2)]
    made = [secret.metadata.name for secret in chain.api.list_namespaced_secret(chain.namespace).items]
    assert f"{name}-0" not in made


def test_a_manifest_file_and_kubernetes_agree_on_the_scope(chain: Chain, name: str, tmp_path: Path) -> None:
    chain.seal(chain.wanted(name, {"a": b"1"}, scope=Scope.NAMESPACE_WIDE))
    file, store = ManifestFile(tmp_path / "file.yml"), KubernetesStore(chain.kubernetes())
    wanted = [chain.wanted(name, {"a": b"2"})]
    with pytest.raises(
        ConfigError, match=r"the manifest file has it in scope strict, Kubernetes in scope namespace-wide"
    ):
        seal_into(chain.client(), wanted, file=file, kubernetes=store)
    assert chain.data(name)["a"].startswith(b"vault:v1:")
    wanted = [chain.wanted(name, {"a": b"2"}, scope=Scope.NAMESPACE_WIDE)]
    outcomes, file_changed = seal_into(chain.client(), wanted, file=file, kubernetes=store)
    assert (outcomes[0].updated, file_changed) == (("a",), True)
    place = Place(chain.namespace, name, "a")
    assert file.sealed_values()[place].ciphertext.encode() == chain.data(name)["a"]


def test_plaintext_in_annotations_goes_with_each_run(chain: Chain, name: str) -> None:
    """As `kubectl apply` of an older plaintext manifest leaves it; other annotations stay."""
    wanted = chain.wanted(name, {"a": b"follow-the-white-rabbit"}, annotations={"kept": "yes"})
    chain.seal(wanted)
    sealed = chain.secret(name)["data"]
    plain = base64.b64encode(b"follow-the-white-rabbit").decode()
    applied = json.dumps({"apiVersion": "v1", "kind": "Secret", "data": {"a": plain}})
    mine = {APPLIED_ANNOTATION: applied, "example.org/backup": f"a={plain}", "example.org/note": "of another"}
    chain.api.patch_namespaced_secret(name, chain.namespace, {"metadata": {"annotations": mine}})
    (info,) = inspect([chain.secret(name)], KeyStates(None))
    assert info.exposing_annotations == (APPLIED_ANNOTATION,)
    (checked,) = chain.seal(wanted, check=True)
    (done,) = chain.seal(wanted)
    assert checked == done
    assert (done.action, done.metadata, done.updated) == (Action.UPDATED, ("annotations",), ())
    assert chain.secret(name)["metadata"]["annotations"] == {"kept": "yes", "example.org/note": "of another"}
    assert chain.secret(name)["data"] == sealed
    (info,) = inspect([chain.secret(name)], KeyStates(None))
    assert not info.exposing_annotations
    assert chain.seal(wanted)[0].action is Action.UNCHANGED


def test_a_ciphertext_that_kubectl_applied_stays_in_its_annotation(chain: Chain, name: str) -> None:
    wanted = chain.wanted(name, {"a": b"follow-the-white-rabbit"})
    chain.seal(wanted)
    applied = json.dumps({"apiVersion": "v1", "kind": "Secret", "data": chain.secret(name)["data"]})
    annotations = {"metadata": {"annotations": {APPLIED_ANNOTATION: applied}}}
    chain.api.patch_namespaced_secret(name, chain.namespace, annotations)
    assert chain.seal(wanted)[0].action is Action.UNCHANGED
