"""Who can write a Secret cannot pass off as sealed what was not: an older ciphertext, that of another place or scope.

The attackers here may do all that Kubernetes allows with the Secret, and know all of its earlier states. What else they
can do is given by a token of Vault where there is one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.sealing import Chain, rules

from secretmanager.rotation.planning import Options
from secretmanager.rotation.rewrapper import Report, Rewrapper
from secretmanager.sealed import MANIFEST_KEY, Scope, checksum, manifest_of, values_digest
from secretmanager.sealing.plan import Action, Outcome
from secretmanager.sealing.sealer import Sealer
from secretmanager.sealing.spec import SecretSpec
from secretmanager.sealing.stores import KubernetesStore
from secretmanager.servers.vault import VaultClient

OLD, NEW = {"a": b"old password", "b": b"b"}, {"a": b"new password", "b": b"b"}

State = dict[str, bytes]
"""Data of a Secret; the manifest is JSON."""


class Attacked:
    """A Secret of a key of its own, which somebody changes."""

    def __init__(self, chain: Chain, name: str, *, derived: bool) -> None:
        self.chain, self.name, self.key = chain, name, f"key-{name}"
        chain.vault.new_key(self.key, derived=derived)
        self.sealer = chain.client(chain.token_for(rules("sealer", self.key)))
        self.rotator = chain.client(chain.token_for(rules("rotator", self.key)))

    def spec(self, values: dict[str, bytes], name: str = "", **options: Any) -> SecretSpec:
        return self.chain.wanted(name or self.name, values, transit_key=self.key, **options)

    def seal(self, values: dict[str, bytes], name: str = "", *, check: bool = False, **options: Any) -> Outcome:
        store = KubernetesStore(self.chain.kubernetes())
        (outcome,) = Sealer(self.sealer, store).seal([self.spec(values, name, **options)], check=check)
        return outcome

    def state(self, name: str = "") -> State:
        return self.chain.data(name or self.name)

    def put(self, state: State) -> None:
        """Put a Secret there as it is, with the rights of somebody who may write it."""
        data = {key: base64.b64encode(value).decode() for key, value in state.items()}
        secret = self.chain.secret(self.name)
        secret["metadata"].pop("resourceVersion")
        self.chain.api.replace_namespaced_secret(self.name, self.chain.namespace, {**secret, "data": data})

    def rewrap(self, vault: VaultClient | None = None) -> list[str]:
        report = Report()
        newest = self.chain.vault.root.read_key(self.key)["latest_version"]
        options = Options(self.key)
        namespaces = [self.chain.namespace]
        Rewrapper(vault or self.rotator, self.chain.kubernetes(), options, newest, namespaces).run(report)
        return report.rewrapped

    def rotate(self) -> None:
        self.chain.vault.write(f"transit/keys/{self.key}/rotate")

    def opened(self) -> dict[str, bytes]:
        return self.chain.opened(self.name)


@pytest.fixture(params=[True, False], ids=["derived", "plain"])
def attacked(chain: Chain, name: str, request: pytest.FixtureRequest) -> Attacked:
    return Attacked(chain, name, derived=request.param)


@pytest.fixture
def strict(chain: Chain, name: str) -> Attacked:
    return Attacked(chain, name, derived=True)


def edited(state: State, **fields: Any) -> State:
    """Return a Secret with other fields of its manifest; of fields that are mappings, entries are added."""
    manifest = json.loads(state[MANIFEST_KEY])
    for name, value in fields.items():
        manifest[name] = {**manifest.get(name, {}), **value} if isinstance(value, dict) else value
    return {**state, MANIFEST_KEY: json.dumps({name: v for name, v in manifest.items() if v is not None}).encode()}


def with_value(state: State, ciphertext: bytes, **fields: Any) -> State:
    """Return a Secret with another ciphertext of "a", and a checksum that fits."""
    return edited({**state, "a": ciphertext}, checksums={"a": checksum(ciphertext.decode())}, **fields)


def mended(attacked: Attacked, outcome: Outcome) -> bool:
    """Whether a run said what was wrong, and the next one finds nothing to do."""
    assert (outcome.action, outcome.altered, len(outcome.warnings)) == (Action.UPDATED, ("a",), 1)
    assert attacked.opened() == NEW
    return attacked.seal(NEW).action is Action.UNCHANGED


def test_an_older_ciphertext_with_the_newest_digest(attacked: Attacked) -> None:
    attacked.seal(OLD)
    before = attacked.state()
    attacked.seal(NEW)
    attacked.put(with_value(attacked.state(), before["a"]))
    assert attacked.opened()["a"] == OLD["a"]
    foretold = attacked.seal(NEW, check=True)
    outcome = attacked.seal(NEW)
    assert outcome.facts() == foretold.facts()
    assert mended(attacked, outcome)


def test_an_older_ciphertext_that_passes_as_rewrapped(attacked: Attacked) -> None:
    attacked.seal(OLD)
    before = attacked.state()
    attacked.seal(NEW)
    attacked.rotate()
    first = attacked.state()
    attacked.rewrap()
    now = attacked.state()
    sealed = json.loads(first[MANIFEST_KEY])["checksums"]["a"]
    step = json.loads(now[MANIFEST_KEY])["rewrap_proofs"]["a"]
    forged: list[dict[str, Any]] = [
        {},
        {"sealed_checksums": {"a": sealed}},
        {"sealed_checksums": {"a": sealed}, "rewrap_proofs": {"a": step}},
        {"sealed_checksums": {"a": sealed}, "rewrap_proofs": {"a": "vault:v1:AAAA"}},
        {"sealed_checksums": {"a": checksum(before["a"].decode())}, "rewrap_proofs": {"a": step}},
    ]
    for state in (first, now):
        for fields in forged:
            attacked.put(with_value(state, before["a"], **fields))
            assert mended(attacked, attacked.seal(NEW)), fields


@pytest.mark.parametrize("rewrapped_before", [False, True])
def test_an_honest_rewrap_does_not_prove_what_it_is_given(attacked: Attacked, rewrapped_before: bool) -> None:
    attacked.seal(OLD)
    before = attacked.state()
    attacked.seal(NEW)
    attacked.rotate()
    if rewrapped_before:
        attacked.rewrap()
        attacked.rotate()
    attacked.put(with_value(attacked.state(), before["a"]))
    attacked.rewrap()
    assert attacked.opened()["a"] == OLD["a"]
    assert mended(attacked, attacked.seal(NEW))


def test_rewraps_change_nothing_for_the_sealer(attacked: Attacked) -> None:
    attacked.seal(NEW)
    digest = values_digest(attacked.chain.secret(attacked.name))
    for _ in range(3):
        attacked.rotate()
        attacked.rewrap()
        assert attacked.seal(NEW).action is Action.UNCHANGED
    assert values_digest(attacked.chain.secret(attacked.name)) == digest
    for helper in ("digest", "rewrap"):
        attacked.chain.vault.write(f"transit/keys/{attacked.key}-{helper}/rotate")
    assert attacked.seal(NEW).action is Action.UNCHANGED
    attacked.rotate()
    attacked.rewrap()
    assert attacked.seal(NEW).action is Action.UNCHANGED


def test_a_rewrap_without_the_right_to_prove_it(attacked: Attacked) -> None:
    attacked.seal(NEW)
    attacked.rotate()
    rights = {path: what for path, what in rules("rotator", attacked.key).items() if "/hmac/" not in path}
    assert attacked.rewrap(attacked.chain.client(attacked.chain.token_for(rights)))
    assert attacked.opened() == NEW
    outcome = attacked.seal(NEW)
    assert outcome.altered == ("a", "b")
    assert "or rewrapped it without a proof" in outcome.warnings[0]
    assert attacked.seal(NEW).action is Action.UNCHANGED


@pytest.mark.parametrize("scope", [None, Scope.STRICT])
def test_a_ciphertext_of_another_secret_in_a_wider_scope(strict: Attacked, scope: Scope | None) -> None:
    strict.seal({"a": b"of another"}, f"{strict.name}-2", scope=Scope.NAMESPACE_WIDE)
    foreign = strict.state(f"{strict.name}-2")["a"]
    strict.seal(NEW)
    strict.put(with_value(strict.state(), foreign, scope="namespace-wide"))
    outcome = strict.seal(NEW, scope=scope)
    assert (outcome.scope, outcome.altered) == (Scope.STRICT, ("a",))
    assert outcome.corrected
    assert strict.opened() == NEW
    assert strict.seal(NEW).action is Action.UNCHANGED


@pytest.mark.parametrize("fields", [{"scope": "namespace-wide"}, {"scope": "cluster-wide"}, {"transit_key": "other"}])
def test_a_manifest_that_names_something_else(strict: Attacked, fields: dict[str, str]) -> None:
    strict.seal(NEW)
    before = strict.state()
    strict.put(edited(before, **fields))
    outcome = strict.seal({"a": NEW["a"]})  # "b" is another task's
    assert (outcome.action, outcome.altered, outcome.unproven) == (Action.UPDATED, (), ())
    assert "named another Transit key or scope" in outcome.warnings[0]
    assert strict.state() == before
    assert strict.seal({"a": NEW["a"]}).action is Action.UNCHANGED


def test_what_is_not_given_is_told(attacked: Attacked) -> None:
    attacked.seal(OLD)
    before = attacked.state()
    attacked.seal(NEW)
    attacked.put(with_value(attacked.state(), before["a"]))
    outcome = attacked.seal({"b": NEW["b"]})
    assert (outcome.action, outcome.unproven) == (Action.UNCHANGED, ("a",))
    assert "give the values to seal them again" in outcome.warnings[0]


def test_a_format_without_proofs(attacked: Attacked) -> None:
    """As an older version wrote it, or somebody who wants to be taken for that."""
    attacked.seal(OLD)
    before = attacked.state()
    attacked.seal(NEW)
    sealed = attacked.state()
    older = edited(sealed, format=1, proofs=None)
    attacked.put(with_value(older, before["a"]))
    digest = values_digest(attacked.chain.secret(attacked.name))
    outcome = attacked.seal(NEW)
    assert (outcome.action, outcome.updated, outcome.altered) == (Action.UPDATED, ("a", "b"), ())
    assert attacked.opened() == NEW
    assert json.loads(attacked.state()[MANIFEST_KEY])["format"] == 2
    assert values_digest(attacked.chain.secret(attacked.name)) == digest  # so nothing is restarted
    assert attacked.seal(NEW).action is Action.UNCHANGED


def test_a_rewrap_of_the_older_format(attacked: Attacked) -> None:
    attacked.seal(NEW)
    attacked.put(edited(attacked.state(), format=1, proofs=None))
    attacked.rotate()
    assert attacked.rewrap()
    assert json.loads(attacked.state()[MANIFEST_KEY])["format"] == 1
    assert attacked.opened() == NEW


def test_the_scope_of_the_older_format_is_not_followed(strict: Attacked) -> None:
    strict.seal(NEW, scope=Scope.NAMESPACE_WIDE)
    strict.put(edited(strict.state(), format=1, proofs=None))
    (text,) = strict.seal(NEW, check=True).warnings
    assert "nothing proves its scope namespace-wide, so it is sealed in scope strict; set scope for another" in text
    assert strict.seal(NEW, check=True, scope=Scope.NAMESPACE_WIDE).warnings == []


def test_nobody_but_a_sealer_makes_a_proof(attacked: Attacked) -> None:
    for access in ("reader", "rotator", "retirer"):
        assert f"transit/hmac/{attacked.key}-digest" not in rules(access, attacked.key)
    assert rules("rotator", attacked.key)[f"transit/hmac/{attacked.key}-rewrap"] == ["update"]


def other_text(text: str) -> str:
    return text[:-2] + ("AA" if text[-2:] != "AA" else "BB")


PARTS = ("ciphertext", "digests", "checksums", "proofs", "sealed_checksums", "rewrap_proofs")
SOURCES = ("now", "old", "foreign", "damaged", "none")
MIX = st.fixed_dictionaries(
    {
        **{part: st.sampled_from(SOURCES) for part in PARTS},
        "scope": st.sampled_from(["strict", "namespace-wide", "cluster-wide"]),
        "transit_key": st.sampled_from(["now", "other"]),
        "digest_key": st.sampled_from(["now", "other"]),
        "format": st.sampled_from([1, 2]),
    }
)


@pytest.fixture
def states(strict: Attacked) -> dict[str, State]:
    """What an attacker may have: each state since the first, and that of another Secret, all with each part."""

    def of(name: str, values: dict[str, bytes]) -> State:
        strict.seal(values, name)
        strict.rotate()
        strict.rewrap()
        return strict.state(name)

    old, foreign = of(strict.name, OLD), of(f"{strict.name}-2", {**OLD, "a": b"foreign"})
    return {"old": old, "foreign": foreign, "now": of(strict.name, NEW)}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(mix=MIX)
def test_any_mix_of_parts(strict: Attacked, states: dict[str, State], mix: dict[str, Any]) -> None:
    manifests = {source: json.loads(state[MANIFEST_KEY]) for source, state in states.items()}

    def mixed(part: str, of: Callable[[str], str]) -> str | None:
        source = mix[part]
        return None if source == "none" else other_text(of("now")) if source == "damaged" else of(source)

    state = dict(states["now"])
    manifest = manifests["now"] | {"scope": mix["scope"], "format": mix["format"]}
    for field in ("transit_key", "digest_key"):
        manifest[field] = manifest[field] if mix[field] == "now" else "other"
    ciphertext = mixed("ciphertext", lambda source: states[source]["a"].decode())
    state = {key: value for key, value in state.items() if key != "a"}
    state |= {"a": ciphertext.encode()} if ciphertext else {}
    for part in PARTS[1:]:
        text = mixed(part, lambda source, part=part: manifests[source][part]["a"])
        manifest[part] = {key: value for key, value in manifest[part].items() if key != "a"} | (
            {"a": text} if text else {}
        )
    strict.put({**state, MANIFEST_KEY: json.dumps(manifest).encode()})
    outcome = strict.seal(NEW, force=True)
    assert (outcome.scope, outcome.transit_key) == (Scope.STRICT, strict.key)
    assert strict.opened() == NEW
    sealed = manifest_of(strict.chain.secret(strict.name))
    assert sealed is not None
    assert (sealed.scope, sealed.transit_key, sealed.provable) == (Scope.STRICT, strict.key, {"a", "b"})
    assert strict.seal(NEW).action is Action.UNCHANGED
    if any(mix[part] in ("old", "foreign", "damaged") for part in ("ciphertext", "proofs")) and mix["digests"] == "now":
        assert outcome.changed
