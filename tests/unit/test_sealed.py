"""The format of a sealed Secret."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from secretmanager.errors import SealedDataError
from secretmanager.sealed import (
    MANIFEST_KEY,
    MOST_BYTES,
    Manifest,
    Place,
    Scope,
    SealedSecret,
    checksum,
    encode,
    encoded_version,
    key_version,
    manifest_of,
    oldest_version,
    sealed_values,
    with_ciphertexts,
)

PARTS = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", fullmatch=True)
PLACES = st.builds(Place, PARTS, PARTS, st.from_regex(r"[-._a-zA-Z0-9]{1,20}", fullmatch=True))
TEXTS = st.text(st.characters(max_codepoint=127, exclude_characters="\0"), max_size=20)
DIGESTS = st.dictionaries(PARTS, TEXTS)


@given(PLACES, PLACES, st.binary(max_size=40), st.binary(max_size=40))
def test_no_two_places_or_values_share_an_hmac_input(a: Place, b: Place, one: bytes, two: bytes) -> None:
    assume((a, one) != (b, two))
    assert a.hmac_input(one) != b.hmac_input(two)


@given(PLACES, PLACES)
def test_the_context_is_the_place(a: Place, b: Place) -> None:
    assert (a.context(Scope.STRICT) == b.context(Scope.STRICT)) == (a == b)
    wide = a.context(Scope.NAMESPACE_WIDE), b.context(Scope.NAMESPACE_WIDE)
    assert (wide[0] == wide[1]) == (a.namespace == b.namespace)
    assert a.context(Scope.STRICT) not in wide
    assert a.context(Scope.CLUSTER_WIDE) is None


@given(PARTS, st.sampled_from(Scope), PARTS, *[DIGESTS] * 4)
def test_a_manifest_comes_back_as_it_was(
    key: str,
    scope: Scope,
    digest_key: str,
    digests: dict[str, str],
    proofs: dict[str, str],
    sealed: dict[str, str],
    rewraps: dict[str, str],
) -> None:
    def made(order: Callable[[dict[str, str]], dict[str, str]]) -> Manifest:
        checksums = {name: checksum(text) for name, text in digests.items()}
        parts = map(order, (digests, checksums, proofs, sealed, rewraps))
        names = ("digests", "checksums", "proofs", "sealed_checksums", "rewrap_proofs")
        return Manifest(key, scope, digest_key, **dict(zip(names, parts, strict=True)))

    manifest = made(dict)
    assert Manifest.load(manifest.dump(), "ns/name") == manifest
    assert made(lambda texts: dict(reversed(texts.items()))).dump() == manifest.dump()
    assert json.loads(manifest.dump())["format"] == (2 if proofs else 1)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"format":2}',
        b'{"format":1,"digests":{"k":1}}',
        b'{"format":1,"digests":[]}',
        *(
            b'{"format":1,"digests":{},"transit_key":"k","scope":"strict","digest_key":"d","oldest_versions":%b}'
            % oldest
            for oldest in (b"[]", b'{"k":"1"}', b'{"k":true}', b'{"k":1.5}')
        ),
    ],
)
def test_a_damaged_manifest_is_an_error(text: bytes) -> None:
    with pytest.raises(SealedDataError, match="manifest"):
        Manifest.load(text, "ns/name")


SOUND = {"format": 1, "transit_key": "k", "scope": "strict", "digest_key": "d", "digests": {"a": "vault:v1:x"}}


@pytest.mark.parametrize(
    "facts",
    [
        {"transit_key": "../x"},
        {"transit_key": "k" * 256},
        {"digest_key": "d e"},
        {"digests": {"\x1b[2J": "vault:v1:x"}},
        {"digests": {"a" * 254: "vault:v1:x"}},
        {"digests": {"a": "\ud800"}},
        {"proofs": {"a": "x\0y"}},
        {"proofs": []},
        {"sealed_checksums": {"../a": "x"}},
        {"rewrap_proofs": {"a": 1}},
        {"checksums": {"../a": "x"}},
        {"oldest_versions": {"a b": 1}},
        {"oldest_versions": {"a": 0}},
        {"oldest_versions": {"a": 10**9}},
        {"place": "name"},
        {"place": "Name/space"},
        {"place": "a/b/c"},
        {"place": "a/\x1b[2J"},
        {"format": "1"},
        {"format": "\x1b[2J" * 1000},
        {"format": -(10**4000)},
        {"more": "x" * MOST_BYTES},
    ],
    ids=lambda facts: str(facts)[:40],
)
def test_names_and_sizes_in_a_manifest_are_checked(facts: dict[str, Any]) -> None:
    Manifest.load(json.dumps(SOUND).encode(), "ns/name")
    with pytest.raises(SealedDataError) as caught:
        Manifest.load(json.dumps({**SOUND, **facts}).encode(), "ns/name")
    assert str(caught.value).startswith("ns/name: the manifest in data key '.kubevault' is damaged")


@pytest.mark.parametrize(
    ("encoded", "version"), [("", None), ("dmF1bHQ6dj", None), ("dmF1bHQ6djE6", 1), ("dmF1bHQ6\ndjE6QUJD", 1)]
)
def test_the_beginning_of_a_ciphertext_has_its_version(encoded: str, version: int | None) -> None:
    assert encoded_version(encoded) == version
    assert sealed_values({"metadata": {"namespace": "ns", "name": "n"}, "data": {"a": encoded}}) == {}


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("vault:v1:QUJD", 1),
        ("vault:v12:QUI=", 12),
        ("vault:v2:QQ==", 2),
        ("vault:v1:QUJDQQ==", 1),
        ("vault:v1:QUJDQR==", None),
        ("vault:v1:QUJ=", None),
        ("vault:v1:QUJDQ", None),
        ("vault:v0:QUJD", None),
        ("vault:v1:", None),
        ("plain", None),
    ],
)
def test_the_key_version_is_in_the_ciphertext(text: str, version: int | None) -> None:
    assert key_version(text) == version


def test_an_older_tools_secret_needs_no_manifest() -> None:
    data = {"secrets.json": b"vault:v3:QUJD", "password": b"hunter2", "blob": b"\xff\x00"}
    secret = {
        "metadata": {"namespace": "ns", "name": "n"},
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
    found = sealed_values(secret)
    assert list(found) == ["secrets.json"]
    assert (found["secrets.json"].version, found["secrets.json"].scope) == (3, None)


def test_a_manifest_tells_the_scope_and_key() -> None:
    manifest = Manifest("k", Scope.STRICT, "k-digest", {"a": "vault:v1:x"})
    data = {"a": b"vault:v1:QUJD", "b": b"vault:v1:QUJD", MANIFEST_KEY: manifest.dump()}
    secret = {
        "metadata": {"namespace": "ns", "name": "n"},
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
    found = sealed_values(secret)
    assert (found["a"].scope, found["a"].transit_key) == (Scope.STRICT, "k")
    assert found["b"].scope is None


def test_what_a_secret_says_of_each_data_key() -> None:
    """One of each kind: as sealed, changed by somebody, overwritten, broken, gone, and never ours."""
    sealed = "vault:v1:QUJD"
    keys = ("as-sealed", "changed", "overwritten", "broken", "gone")
    checksums = dict.fromkeys(keys, checksum(sealed))
    manifest = Manifest("k", Scope.STRICT, "k-digest", dict.fromkeys(keys, "d"), checksums, place="ns/other")
    texts = {"as-sealed": sealed, "changed": "vault:v2:QUJD", "overwritten": "PLAIN", "broken": "vault:v1:!"}
    texts |= {"theirs": "vault:v3:QUJD", "plain": "PLAIN"}
    data = {key: encode(text.encode()) for key, text in texts.items()}
    metadata = {"namespace": "ns", "name": "n"}
    secret = SealedSecret.of({"metadata": metadata, "data": {**data, MANIFEST_KEY: encode(manifest.dump())}})
    assert (secret.error, secret.transit_key, secret.managed_keys) == (None, "k", set(keys))
    assert {key: (value.version, value.managed, value.damaged) for key, value in secret.values.items()} == {
        "as-sealed": (1, True, False),
        "changed": (2, True, True),
        "theirs": (3, False, False),
    }
    assert (secret.plain_keys, secret.broken_keys) == ({"overwritten", "plain"}, {"broken"})
    assert (secret.missing_keys, secret.lost_keys) == ({"gone"}, {"overwritten", "broken", "gone"})
    assert secret.copied_from == "ns/other"
    damaged = SealedSecret.of({"metadata": metadata, "data": {**data, MANIFEST_KEY: encode(b"{")}})
    assert (damaged.error, damaged.manifest) == ("the manifest in data key '.kubevault' is damaged", None)
    assert damaged.plain_keys == {"overwritten", "broken", "plain"}
    assert not any(value.managed for value in damaged.values.values())


def test_a_rewrap_takes_the_manifest_along() -> None:
    manifest = Manifest("k", Scope.STRICT, "k-digest", {"a": "digest"}, {"a": checksum("vault:v1:QUJD")})
    data = {"a": encode(b"vault:v1:QUJD"), "theirs": encode(b"vault:v1:QUJD"), MANIFEST_KEY: encode(manifest.dump())}
    secret = {"metadata": {"namespace": "ns", "name": "n"}, "data": data}
    after = with_ciphertexts(secret, {"a": "vault:v2:QUJD", "theirs": "vault:v2:QUJD"})
    assert {key: value.version for key, value in sealed_values(after).items()} == {"a": 2, "theirs": 2}
    rewritten = manifest_of(after)
    assert rewritten
    assert (rewritten.digests, rewritten.checksums) == ({"a": "digest"}, {"a": checksum("vault:v2:QUJD")})
    assert sealed_values(secret)["a"].version == 1


@given(st.lists(st.integers(1, 10**8), min_size=1, max_size=6).map(sorted))
def test_the_oldest_version_stays_known_over_rewraps(versions: list[int]) -> None:
    texts = [f"vault:v{version}:QUJD" for version in versions]
    manifest = Manifest("k", Scope.STRICT, "k-digest", {"a": "digest"}, {"a": checksum(texts[0])})
    data = {"a": encode(texts[0].encode()), "b": "", MANIFEST_KEY: encode(manifest.dump())}
    secret = {"metadata": {"namespace": "ns", "name": "n"}, "data": data}
    for text in texts[1:]:
        secret = with_ciphertexts(secret, {"a": text})
    found = manifest_of(secret)
    assert found
    assert oldest_version(found, "a", secret["data"]["a"]) == versions[0]
    assert oldest_version(found, "b", "") is None
    # A value of which nothing older is known takes no room in the manifest.
    assert bool(found.oldest_versions) == (versions[-1] != versions[0])
