"""Versions of a Transit key that do not decrypt any more: what they sealed is sealed anew, and it is told."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.sealing import Chain, rules

from secretmanager.errors import DecryptionFailed, TransitKeyNotFound
from secretmanager.sealed import MANIFEST_KEY, key_version, manifest_of, oldest_version, sealed_values, with_ciphertexts
from secretmanager.sealing.inspection import KeyState, KeyStates
from secretmanager.sealing.manifestfile import ManifestFile
from secretmanager.sealing.plan import Action, Outcome
from secretmanager.sealing.sealer import Sealer, seal_into
from secretmanager.sealing.spec import SecretSpec
from secretmanager.sealing.stores import KubernetesStore
from secretmanager.servers.vault import TransitItem


class Key:
    """A Transit key of its own, and a sealer who may use no other."""

    def __init__(self, chain: Chain, **parameters: Any) -> None:
        self.chain = chain
        self.name = f"key-{uuid.uuid4().hex[:8]}"
        self.parameters = parameters
        chain.vault.new_key(self.name, **parameters)
        self.vault = chain.client(chain.token_for(rules("sealer", self.name)))

    def rotate(self, **configuration: int) -> None:
        self.chain.vault.write(f"transit/keys/{self.name}/rotate")
        if configuration:
            self.configure(**configuration)

    def configure(self, **configuration: int) -> None:
        self.chain.vault.write(f"transit/keys/{self.name}/config", **configuration)

    def delete(self) -> None:
        self.configure(deletion_allowed=True)
        self.chain.vault.root.request("DELETE", f"transit/keys/{self.name}")

    def make_again(self) -> None:
        self.delete()
        self.chain.vault.write(f"transit/keys/{self.name}", **self.parameters)

    def wanted(self, name: str, values: dict[str, bytes], **options: Any) -> SecretSpec:
        return self.chain.wanted(name, values, transit_key=self.name, **options)

    def seal(self, *wanted: SecretSpec, check: bool = False) -> list[Outcome]:
        return Sealer(self.vault, KubernetesStore(self.chain.kubernetes())).seal(wanted, check=check)


def versions(chain: Chain, name: str) -> dict[str, int]:
    return {key: value.version for key, value in sealed_values(chain.secret(name)).items()}


KINDS: dict[str, dict[str, Any]] = {
    "derived": {"derived": True},
    "plain": {},
    "convergent": {"derived": True, "convergent_encryption": True},
    "rsa": {"type": "rsa-2048"},
}


@pytest.fixture(params=KINDS)
def key(chain: Chain, request: pytest.FixtureRequest) -> Key:
    return Key(chain, **KINDS[request.param])


def test_what_no_longer_decrypts_is_sealed_anew(chain: Chain, name: str, key: Key) -> None:
    wanted = key.wanted(name, {"a": b"1", "b": b"2"})
    key.seal(wanted)
    key.rotate()
    (rerun,) = key.seal(wanted)
    assert rerun.action is Action.UNCHANGED  # older versions are no reason to seal anew
    key.seal(key.wanted(name, {"b": b"3"}))
    key.configure(min_decryption_version=2)
    with pytest.raises(DecryptionFailed, match="too old"):
        chain.opened(name)
    wanted = key.wanted(name, {"a": b"1", "b": b"3"})
    for check in (True, False):
        (anew,) = key.seal(wanted, check=check)
        assert (anew.action, anew.updated) == (Action.UPDATED, ("a",))
    assert (chain.opened(name), versions(chain, name)) == ({"a": b"1", "b": b"3"}, {"a": 2, "b": 2})
    (rerun,) = key.seal(wanted)
    assert rerun.action is Action.UNCHANGED


def test_values_that_are_not_given_stay(chain: Chain, name: str, key: Key) -> None:
    key.seal(key.wanted(name, {"a": b"1", "b": b"2"}))
    key.rotate(min_decryption_version=2)
    (anew,) = key.seal(key.wanted(name, {"a": b"1"}))
    assert anew.updated == ("a",)
    assert versions(chain, name) == {"a": 2, "b": 1}


@pytest.mark.parametrize("configuration", [{"min_encryption_version": 2}, {"min_decryption_version": 2}])
def test_trimmed_versions_and_those_that_must_not_encrypt(
    chain: Chain, name: str, key: Key, configuration: dict[str, int]
) -> None:
    wanted = key.wanted(name, {"a": b"1"}, force=True)
    key.seal(wanted)
    key.rotate(**configuration)
    if "min_decryption_version" in configuration:
        key.configure(min_encryption_version=2)
        chain.vault.write(f"transit/keys/{key.name}/trim", min_available_version=2)
    assert [key.seal(wanted)[0].action for _ in "12"] == [Action.UPDATED, Action.UNCHANGED]
    assert versions(chain, name) == {"a": 2}


def test_a_version_that_was_lost(chain: Chain, name: str, key: Key) -> None:
    """As after Vault was restored from a backup of before the rotation."""
    wanted = key.wanted(name, {"a": b"1"})
    key.seal(wanted)
    key.rotate()
    key.seal(key.wanted(name, {"a": b"2"}))
    key.make_again()
    (anew,) = key.seal(key.wanted(name, {"a": b"2"}))
    assert anew.updated == ("a",)
    assert chain.opened(name) == {"a": b"2"}


def test_a_version_that_was_retired_too_early_comes_back(chain: Chain, name: str, key: Key) -> None:
    """As docs/rotation.md says."""
    wanted = key.wanted(name, {"a": b"1"})
    key.seal(wanted)
    key.rotate(min_decryption_version=2)
    key.configure(min_decryption_version=1)
    assert chain.opened(name) == {"a": b"1"}
    assert key.seal(wanted)[0].action is Action.UNCHANGED


def test_a_key_that_was_made_again_under_its_name(chain: Chain, name: str, key: Key) -> None:
    """The version has the same number. As docs/rotation.md says, the manifest goes, and force seals all anew."""
    wanted = key.wanted(name, {"a": b"1"}, force=True)
    key.seal(wanted)
    key.make_again()
    assert key.seal(wanted)[0].action is Action.UNCHANGED
    remove = [{"op": "remove", "path": f"/data/{MANIFEST_KEY}"}]
    chain.api.patch_namespaced_secret(name, chain.namespace, remove)
    assert key.seal(wanted)[0].updated == ("a",)
    assert chain.opened(name) == {"a": b"1"}


def test_ages_and_versions_of_each_kind_of_key(chain: Chain, key: Key) -> None:
    key.rotate()
    key.rotate(min_decryption_version=2)
    state = KeyStates(chain.vault.root)(key.name)
    assert state
    assert (state.newest, state.oldest, state.created.keys()) == (3, 2, {2, 3})
    assert all(0 <= time.time() - made < 600 for made in state.created.values())
    assert [state.unreadable(version) for version in (1, 2, 3, 4)] == [True, False, False, True]
    assert KeyStates(key.vault)(key.name) == KeyState(3)  # a sealer learns no more


def test_a_file_and_kubernetes_get_the_same_anew(chain: Chain, name: str, key: Key, tmp_path: Path) -> None:
    file, store = ManifestFile(tmp_path / "sealed.yml"), KubernetesStore(chain.kubernetes())
    wanted = [key.wanted(name, {"a": b"1"})]

    def sealed() -> tuple[Sequence[Outcome], bool]:
        return seal_into(key.vault, wanted, file=file, kubernetes=store)

    sealed()
    key.rotate(min_decryption_version=2)
    (outcome,), file_changed = sealed()
    assert (outcome.action, file_changed) == (Action.UPDATED, True)
    assert yaml.safe_load(file.path.read_text())["data"] == chain.secret(name)["data"]
    assert chain.opened(name) == {"a": b"1"}


def test_a_key_that_is_gone(chain: Chain, name: str) -> None:
    key = Key(chain, derived=True)
    wanted = key.wanted(name, {"a": b"1"})
    key.seal(wanted)
    key.delete()
    key.vault = chain.vault.root
    with pytest.raises(TransitKeyNotFound):
        key.seal(wanted)
    (checked,) = key.seal(wanted, check=True)  # something may create it before the run
    assert checked.action is Action.UNCHANGED


def test_the_manifest_keeps_who_sealed_a_value_first(chain: Chain, name: str, key: Key) -> None:
    """A rewrap, or sealing the same anew, does not make a value safe from whoever knows the older version."""

    def oldest() -> dict[str, int | None]:
        secret = chain.secret(name)
        manifest = manifest_of(secret)
        assert manifest
        return {data_key: oldest_version(manifest, data_key, secret["data"][data_key]) for data_key in manifest.digests}

    key.seal(key.wanted(name, {"a": b"1", "b": b"2"}))
    key.rotate()
    secret = chain.secret(name)
    context = f"{chain.namespace}/{name}/a".encode() if sealed_values(secret)["a"].scope == "strict" else None
    (text,) = chain.vault.root.rewrap(key.name, [TransitItem(chain.data(name)["a"], context)])
    assert key_version(text) == 2
    chain.api.replace_namespaced_secret(name, chain.namespace, with_ciphertexts(secret, {"a": text}))
    assert oldest() == {"a": 1, "b": 1}
    assert chain.opened(name) == {"a": b"1", "b": b"2"}
    key.rotate(min_decryption_version=3)
    key.seal(key.wanted(name, {"a": b"1", "b": b"2"}))
    assert (versions(chain, name), oldest()) == ({"a": 3, "b": 3}, {"a": 1, "b": 1})
    key.seal(key.wanted(name, {"a": b"changed", "b": b"2"}))
    assert oldest() == {"a": 3, "b": 1}
