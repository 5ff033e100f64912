"""What an older version of a key opens keeps it, and nothing else does: on a real Vault, for what anybody may write."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import forked
from support.cluster import own_namespace
from support.intermediary import Intermediary, page
from support.sealing import Chain, environment
from support.servers import Authority
from test_rotation import VALUES, Life, make

from secretmanager.rotation.keys import KeyVersions
from secretmanager.rotation.planning import Skip
from secretmanager.rotation.usage import find_usage
from secretmanager.sealed import MANIFEST_KEY, SEALED_LABEL, Manifest, Scope, encode
from secretmanager.sealing import recreation
from secretmanager.servers.vault import TransitItem

Object = dict[str, Any]


@pytest.fixture(params=[True, False], ids=["derived", "plain"])
def life(chain: Chain, name: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Life]:
    """A key whose versions 1 and 2 decrypt, and a namespace of its own."""
    with own_namespace("retirement") as cluster:
        life = make(replace(chain, cluster=cluster), name, tmp_path, derived=request.param)
        life.seal(life.spec("old"))
        chain.vault.write(f"transit/keys/{life.key}/rotate")
        yield life


def never_sealed(size: int = 60, version: int = 1) -> bytes:
    return b"vault:v%d:%b" % (version, base64.b64encode(os.urandom(size)))


def manifest(key: str, *keys: str, **facts: Any) -> bytes:
    digests = dict.fromkeys(keys or ("a",), "vault:v1:AAAA")
    whole = {"format": 1, "transit_key": key, "scope": "strict", "digest_key": f"{key}-digest", "digests": digests}
    return json.dumps({**whole, **facts}).encode()


def put(life: Life, name: str, data: Mapping[str, bytes | str], **metadata: Any) -> None:
    """Write a Secret, whose values are bytes, or as they are in ``data``."""
    encoded = {key: encode(text) if isinstance(text, bytes) else text for key, text in data.items()}
    body = {"metadata": {"name": name, "labels": {SEALED_LABEL: "true"}, **metadata}, "data": encoded}
    life.chain.api.create_namespaced_secret(life.chain.namespace, body)


def min_decryption_version(life: Life) -> int:
    return int(life.root.read_key(life.key)["min_decryption_version"])


def test_what_was_never_sealed_keeps_no_version(life: Life) -> None:
    other = f"{life.key}-other"
    life.chain.vault.new_key(other, derived=False)
    (of_another,) = life.root.encrypt(other, [TransitItem(b"PLAIN")])
    named = {
        "random": {MANIFEST_KEY: manifest(life.key), "a": never_sealed()},
        "many": {MANIFEST_KEY: manifest(life.key, "k0"), **{f"k{n}": never_sealed() for n in range(1500)}},
        "short": {MANIFEST_KEY: manifest(life.key), "a": b"vault:v1:AAAA"},
        "no-base64": {MANIFEST_KEY: manifest(life.key), "a": b"vault:v1:%%%%"},
        "not-ascii": {MANIFEST_KEY: manifest(life.key), "a": b"vault:v1:\xff\x00AA"},
        "gone": {MANIFEST_KEY: manifest(life.key, "a", "b")},
        "plain": {MANIFEST_KEY: manifest(life.key), "a": b"vault:vault"},
        "of-another": {MANIFEST_KEY: manifest(life.key), "a": of_another.encode()},
        "elsewhere": {MANIFEST_KEY: manifest(life.key, place="no/where"), "a": never_sealed()},
        "everywhere": {MANIFEST_KEY: manifest(life.key, scope="cluster-wide"), "a": never_sealed()},
    }
    unnamed = {
        "no-manifest": {"a": never_sealed()},
        "damaged-manifest": {MANIFEST_KEY: b"{", "a": never_sealed()},
        "of-another-unmanaged": {"a": of_another.encode()},
    }
    for name, data in {**named, **unnamed}.items():
        put(life, name, data)
    refused = life.run("retire", status=1)["said"]
    assert f"1 Secrets are behind: {life.place('old')} (version 1)" in refused
    done = life.run("rewrap", "--namespace", life.chain.namespace)
    assert (done["rewrapped"], done["failed"]) == ([life.place("old")], {})
    assert {life.place(name) for name in named} == done["skipped"].keys()
    foretold = life.run("retire", "--check", status=3)
    retired = life.run("retire", "--trim")
    assert foretold["skipped"].keys() == retired["skipped"].keys() == {life.place(name) for name in named}
    assert (retired["retired"], retired["min_decryption_version"]) == (True, 2)
    assert life.chain.opened("old") == VALUES
    told = forked.kubevault("retire", "--transit-key", life.key, env=environment(life.chain, life.folder / "retirer"))
    assert told.returncode == 0
    assert f"  {life.place('random')}: {Skip.REFUSED}" in told.stdout.decode()


Change = Callable[[Life, Object], Object | None]
"""Makes another Secret of a sealed one; None if there is none for this key."""


def _unmanaged(life: Life, secret: Object) -> Object:
    secret["data"].pop(MANIFEST_KEY)
    return secret


def _with_manifest(**facts: Any) -> Change:
    def change(life: Life, secret: Object) -> Object:
        found = {**json.loads(base64.b64decode(secret["data"][MANIFEST_KEY])), **facts}
        secret["data"][MANIFEST_KEY] = encode(json.dumps(found).encode())
        return secret

    return change


def _damaged_manifest(life: Life, secret: Object) -> Object:
    secret["data"][MANIFEST_KEY] = encode(b"{")
    return secret


def _line_end(life: Life, secret: Object) -> Object:
    secret["data"]["a"] = encode(base64.b64decode(secret["data"]["a"]) + b"\n")
    secret["data"].pop("b.json")
    return secret


def _lines(life: Life, secret: Object) -> Object:
    text = base64.b64decode(secret["data"]["a"])
    secret["data"] = {"a": encode(text[:20] + b"\r\n" + text[20:] + b"\n")}
    return secret


def _one_is_gone(life: Life, secret: Object) -> Object:
    secret["data"].pop("b.json")
    return secret


def _beside_what_was_never_sealed(life: Life, secret: Object) -> Object:
    secret["data"] |= {f"k{number}": encode(never_sealed()) for number in range(600)}
    secret["data"]["b.json"] = encode(never_sealed())
    return secret


def _a_copy(life: Life, secret: Object) -> Object:
    secret["metadata"]["name"] += "-copy"
    return secret


def _of_a_recreation(life: Life, secret: Object) -> Object:
    """Without the place in the manifest, as an older kubevault wrote it."""
    secret = _with_manifest(place="")(life, secret) or secret
    secret["metadata"] = {"namespace": life.chain.namespace, "name": secret["metadata"]["name"]}
    return recreation._copy({**secret, "apiVersion": "v1", "kind": "Secret"})


def _owned(life: Life, secret: Object) -> Object:
    secret["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/name"] = "x"
    return {**secret, "immutable": True}


CHANGES: dict[str, Change] = {
    "as it was sealed": lambda life, secret: secret,
    "without its manifest": _unmanaged,
    "with a damaged manifest": _damaged_manifest,
    "with another scope": _with_manifest(scope="namespace-wide"),
    "with the scope of any place": _with_manifest(scope="cluster-wide"),
    "with checksums of something else": _with_manifest(checksums={"a": "x", "b.json": "x"}),
    "without its place": _with_manifest(place=""),
    "with a place that is not its own": _with_manifest(place="some/where"),
    "with a line end": _line_end,
    "in several lines, without its manifest": _lines,
    "without one of its values": _one_is_gone,
    "beside what was never sealed": _beside_what_was_never_sealed,
    "as a copy, without the original": _a_copy,
    "as a copy of a recreation": _of_a_recreation,
    "immutable, and owned by Flux": _owned,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_the_key_opens_keeps_its_version(life: Life, change: Change) -> None:
    secret = life.chain.secret("old")
    life.chain.api.delete_namespaced_secret("old", life.chain.namespace)
    metadata = {
        name: secret["metadata"][name] for name in ("name", "labels", "annotations") if name in secret["metadata"]
    }
    changed = change(life, {**secret, "metadata": {**metadata}})
    assert changed is not None
    body = {name: changed[name] for name in ("metadata", "data", "immutable") if name in changed}
    life.chain.api.create_namespaced_secret(life.chain.namespace, body)
    for options in ((), ("--trim",), ("--check",)):
        refused = life.run("retire", *options, status=1)["said"]
        assert f"1 Secrets are behind: {life.place(body['metadata']['name'])} (" in refused
    assert min_decryption_version(life) == 1


def test_what_is_retired_already_is_not_deleted_for_ever(life: Life) -> None:
    """Vault does not say whether a version opens a value that it no longer decrypts; lowered again, it may."""
    secret = life.chain.secret("old")
    life.run("rewrap", "--namespace", life.chain.namespace)
    assert life.run("retire")["retired"]
    body = {"metadata": {"name": "restored", "labels": secret["metadata"]["labels"]}, "data": secret["data"]}
    life.chain.api.create_namespaced_secret(life.chain.namespace, body)
    life.chain.vault.write(f"transit/keys/{life.key}/rotate")
    life.run("rewrap", "--namespace", life.chain.namespace)
    refused = life.run("retire", "--trim", status=1)["said"]
    assert f"{life.place('restored')} (version 1, which is retired and would be deleted)" in refused
    done = life.run("retire")
    assert (done["retired"], done["skipped"].keys()) == (True, {life.place("restored")})
    life.chain.vault.write(f"transit/keys/{life.key}/config", min_decryption_version=1)
    assert f"1 Secrets are behind: {life.place('restored')}" in life.run("retire", status=1)["said"]
    life.chain.api.delete_namespaced_secret("restored", life.chain.namespace)
    assert life.run("retire", "--trim")["retired"]
    # Of what was deleted, nothing can be opened any more.
    put(life, "late", {MANIFEST_KEY: manifest(life.key), "a": never_sealed()})
    life.chain.vault.write(f"transit/keys/{life.key}/rotate")
    life.run("rewrap", "--namespace", life.chain.namespace)
    assert life.run("retire", "--trim")["retired"]


def vault_says(*errors: str, status: int, **more: Any) -> bytes:
    return page(status, json.dumps({"errors": errors, **more}).encode(), "application/json")


def each_says(error: str) -> bytes:
    return page(200, json.dumps({"data": {"batch_results": [{"error": error}] * 2}}).encode(), "application/json")


NO_ANSWERS = {
    "no leave to rewrap": vault_says("1 error occurred:\n\t* permission denied", status=403),
    "an expired token": vault_says("permission denied", "invalid token", status=403),
    "a sealed Vault": vault_says("Vault is sealed", status=503, sealed=True),
    "a rate limit": vault_says("request path: rate limit quota exceeded", status=429),
    "an error of its own": vault_says("internal error", status=500),
    "no such key": vault_says("encryption key not found", status=400),
    "another refusal": vault_says("context should be set either in all the request blocks or in none", status=400),
    "a proxy": page(502),
    "a request that is too large for a proxy": page(413),
    "an unknown error of each value": each_says("something that a later Vault says"),
    "a version that is new": each_says("invalid ciphertext: version is too new"),
    "a version that was retired meanwhile": each_says("ciphertext or signature version is disallowed by policy"),
    "a key without decryption": each_says("message decryption not supported for key type 9"),
}


def test_no_other_answer_says_that_a_key_does_not_open_a_value(chain: Chain, name: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "between")
    front = Intermediary(chain.vault.url, chain.vault.ca, authority.issue("front"))
    with own_namespace("answers") as cluster:
        life = make(replace(chain, cluster=cluster), name, tmp_path, derived=False)
        put(life, "random", {MANIFEST_KEY: manifest(life.key), "a": never_sealed()})
        chain.vault.write(f"transit/keys/{life.key}/rotate")
        env = environment(
            life.chain, tmp_path / "retirer", VAULT_ADDR=front.url, VAULT_CACERT=f"{tmp_path}/between.crt"
        )
        for said, answer in NO_ANSWERS.items():
            front.answer = lambda path, answer=answer: answer if "/rewrap/" in path else None
            done = forked.kubevault("retire", "--transit-key", life.key, "--election-timeout", "0.1", env=env)
            assert done.returncode == 1, (said, done.stdout)
            assert min_decryption_version(life) == 1, said
        front.answer = lambda path: None
        assert forked.kubevault("retire", "--transit-key", life.key, env=env).returncode == 0
        assert min_decryption_version(life) == 2
    front.close()


@pytest.mark.parametrize("kind", ["aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "rsa-2048"])
def test_every_type_of_key_tells_what_it_opens(chain: Chain, name: str, kind: str) -> None:
    key, root = f"key-{name}", chain.vault.root
    chain.vault.write(f"transit/keys/{key}", type=kind)
    (sealed,) = root.encrypt(key, [TransitItem(b"PLAIN")])
    chain.vault.write(f"transit/keys/{key}/rotate")
    garbage = [never_sealed(), never_sealed(256), b"vault:v1:AAAA", b"vault:v1:%"]
    secrets = {f"n/garbage-{number}": {"a": text} for number, text in enumerate(garbage)}
    secrets |= {"n/good": {"a": sealed.encode()}, "n/large": {"a": never_sealed(1024 * 1024)}}
    found = find_usage(root, secrets_of(key, secrets), KeyVersions.read(root, key), trim=False)
    assert found.needed.keys() == {"n/good", "n/large"}  # the latter is more than Vault takes, so it does not say
    assert found.unopened == {
        **dict.fromkeys(["n/garbage-0", "n/garbage-1", "n/garbage-2"], str(Skip.REFUSED)),
        "n/garbage-3": str(Skip.DAMAGED),
    }


def secrets_of(key: str, secrets: Mapping[str, Mapping[str, bytes]]) -> Iterator[tuple[str, Object]]:
    text = Manifest(key, Scope.CLUSTER_WIDE, "digest", {"a": "vault:v1:AAAA"}).dump()
    for place, values in secrets.items():
        namespace, _, name = place.partition("/")
        data = {key: encode(value) for key, value in {**values, MANIFEST_KEY: text}.items()}
        yield place, {"metadata": {"namespace": namespace, "name": name}, "data": data}
