"""Specifications that are refused before any request, and how values are read."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretmanager.errors import ConfigError
from secretmanager.sealed import Scope
from secretmanager.sealing.spec import SECRET_BYTES, Behavior, SecretSpec, State, from_options, plaintext, sealed_size

GOOD = {"namespace": "ns", "name": "n", "transit_key": "k", "data": {"a": "1"}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": None}, "name is missing"),
        ({"namespace": None}, "namespace is missing"),
        ({"namespace": ""}, "namespace is missing"),
        ({"name": "Upper"}, "name 'Upper' is not allowed; allowed is an RFC 1123 subdomain, at most 253 characters"),
        ({"name": "a" * 254}, "at most 253 characters"),
        ({"name": "a..b"}, "name 'a..b' is not allowed"),
        ({"namespace": "a.b"}, "namespace 'a.b' is not allowed; allowed is an RFC 1123 label, at most 63 characters"),
        ({"namespace": "a" * 64}, "at most 63 characters"),
        ({"namespace": 7}, "namespace is of type int; allowed is str"),
        ({"data": {"a/b": "1"}}, "data key 'a/b' is not allowed; allowed is letters, digits"),
        ({"data": {"a\n": "1"}}, r"data key 'a\\n' is not allowed"),
        ({"data": {"..a": "1"}}, "data key '..a' is not allowed"),
        ({"data": {".": "1"}}, "data key '.' is not allowed"),
        ({"data": {"a" * 254: "1"}}, "at most 253 characters"),
        ({"data": {".kubevault": "1"}}, "data key '.kubevault' is the manifest's own; choose another"),
        ({"data": {"a": 1}}, r"data\[a\] is a value of type int; allowed are text, dict and list, so quote it"),
        ({"data": {"a": True}}, r"data\[a\] is a value of type bool; .* quote it, or add `\| string` to a template"),
        ({"data": {False: "x"}}, 'data: a key was read as False, which is not text; write it in quotes, as "NO"'),
        ({"data": {None: "x"}}, "data: a key was read as None, which is not text; write it in quotes"),
        ({"binary_data": {1.5: "QQ=="}}, r"binary_data: a key was read as 1\.5, which is not text; write it in quotes"),
        ({"files": {True: "/etc/hosts"}}, "files: a key was read as True, which is not text"),
        ({"data": {"a": {"b": [{False: "x"}]}}}, r"data\[a\] cannot be written as JSON"),
        ({"absent_keys": [False]}, "absent_keys: a key was read as False, which is not text; write it in quotes"),
        ({"labels": {True: "x"}}, "labels: a key was read as True"),
        (
            {"restart": ["Pod/shop"]},
            "'Pod/shop' is not allowed; allowed are Deployment/NAME, StatefulSet/NAME, DaemonSet/NAME, annotated",
        ),
        ({"restart": ["deployment/shop"]}, "restart: 'deployment/shop' is not allowed"),
        ({"restart": ["Deployment/"]}, "restart: 'Deployment/' is not allowed"),
        ({"restart": ["Deployment/a/b"]}, "restart: 'Deployment/a/b' is not allowed"),
        ({"restart": "Deployment/shop"}, "restart is of type str; allowed is list"),
        ({"restart": [True]}, "restart: an entry was read as True, which is not text"),
        ({"data": {"a": None}}, r"data\[a\] is nothing"),
        ({"data": {"a": "", "b": "x"}}, "data key a: the value is empty; set allow_empty if it is meant"),
        ({"binary_data": {"b": ""}}, "data key b: the value is empty"),
        ({"allow_empty": "yes"}, "allow_empty is of type str; allowed is bool"),
        ({"data": {"a": {"x": math.nan}}}, r"data\[a\] cannot be written as JSON, for example because of NaN"),
        ({"data": {"a": [math.inf]}}, r"data\[a\] cannot be written as JSON"),
        ({"data": {"a": {"x": {1, 2}}}}, r"data\[a\] cannot be written as JSON"),
        ({"data": {"a": {1: "x", "1": "y"}}}, r"data\[a\] cannot be written as JSON, .* or a key that is not text"),
        ({"data": {"a": "\ud800"}}, r"data\[a\] is not valid UTF-8; give such bytes as base64"),
        ({"data": {"a": ["\ud800"]}}, r"data\[a\] cannot be written as JSON"),
        ({"data": ["a"]}, "data is of type list; allowed is dict"),
        ({"binary_data": {"b": "!"}}, r"binary_data\[b\] is not base64"),
        ({"binary_data": {"b": "QQ"}}, r"binary_data\[b\] is not base64"),
        ({"binary_data": {"b": "ä"}}, r"binary_data\[b\] is not base64"),
        ({"binary_data": {"b": 7}}, r"binary_data\[b\] is of type int; allowed is base64 text"),
        ({"binary_data": {"a": "QQ=="}}, r"binary_data\[a\]: the data key is given twice"),
        ({"files": {"c": "/nosuch"}}, r"files\[c\]: No such file or directory; allowed is the path of a file"),
        ({"transit_key": None}, "transit_key is missing"),
        ({"data": None}, "nothing to seal: give one of data, binary_data, files, adopt or absent_keys"),
        ({"data": None, "adopt": False}, "nothing to seal"),
        ({"absent_keys": ["a"]}, "data keys a are both given and among absent_keys"),
        ({"state": "absent"}, "state absent deletes the whole Secret, so it takes no values"),
        ({"state": "gone"}, "state is 'gone'; allowed are present, absent"),
        ({"scope": "wide"}, "scope is 'wide'; allowed are strict, namespace-wide, cluster-wide"),
        ({"behavior": "purge"}, "behavior is 'purge'; allowed are merge, replace"),
        ({"labels": {"a": True}}, r"labels\[a\] is of type bool; allowed is text, so quote it"),
        ({"labels": {"a b": "x"}}, "labels: key 'a b' is not allowed"),
        ({"labels": {"/a": "x"}}, "labels: key '/a' is not allowed"),
        ({"labels": {"a": "x" * 64}}, "labels: value .* of a is not allowed"),
        ({"labels": {"kubevault.io/sealed": "no"}}, "kubevault.io/sealed is the sealer's own"),
        ({"annotations": {"a": "x" * 300_000}}, "annotations take 300001 bytes; allowed are 262144"),
        ({"type": "kubernetes.io/service-account-token"}, "cannot be sealed"),
        ({"frobnicate": 1}, "frobnicate: there is no such option"),
    ],
)
def test_bad_input_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_options([{**GOOD, **options}])


def test_all_that_is_wrong_is_told_at_once() -> None:
    entries = [
        {**GOOD, "name": "UPPER"},
        {"namespace": "ns", "name": "b", "transit_key": "k", "data": {"x": 1, "y": 2}},
        {**GOOD, "name": "twice"},
        {**GOOD, "name": "twice"},
    ]
    with pytest.raises(ConfigError) as caught:
        from_options(entries)
    told = str(caught.value)
    for part in (
        "secrets[0]: ns/UPPER: name 'UPPER'",
        "secrets[1]: ns/b: data[x]",
        "data[y]",
        "secrets: ns/twice occurs 2 times",
    ):
        assert part in told


@given(st.text(min_size=12))
def test_no_error_shows_a_value(secret: str) -> None:
    for value in ({"x": [secret, math.nan]}, {1: secret, "1": secret}, {"x": {secret}}):
        with pytest.raises(ConfigError) as caught:
            from_options([{**GOOD, "data": {"a": value}, "binary_data": {"b": f"!{secret}"}}])
        error: BaseException | None = caught.value
        while error is not None:
            assert secret not in f"{error} {error!r} {vars(error)}"
            error = error.__cause__ or error.__context__


def test_a_wanted_secret_does_not_show_its_values() -> None:
    assert "hunter2" not in repr(SecretSpec("ns", "n", {"a": b"hunter2"}, "k"))


def test_kinds_of_values(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\x00file")
    (wanted,) = from_options(
        [
            {
                **GOOD,
                "data": {"text": "ä", "empty": "", "dict": {"b": 1, "a": None}, "list": [True], "bytes": b"\xff"},
                "binary_data": {"base64": "AAE\nC"},
                "files": {"file": str(tmp_path / "file")},
                "allow_empty": True,
            }
        ]
    )
    assert wanted.values == {
        "text": "ä".encode(),
        "empty": b"",
        "dict": b'{"a": null, "b": 1}',
        "list": b"[true]",
        "bytes": b"\xff",
        "base64": b"\x00\x01\x02",
        "file": b"\x00file",
    }


def test_another_order_is_no_other_value() -> None:
    assert plaintext({"a": {"x": 1, "y": 2}, "b": 1}, "it") == plaintext({"b": 1, "a": {"y": 2, "x": 1}}, "it")


def test_an_entrys_own_options_win() -> None:
    base = {"namespace": "ns", "transit_key": "k", "labels": {"a": "x"}, "behavior": "replace", "force": False}
    one, two, three = from_options(
        [
            {"name": "one", "data": {"a": "1"}, "scope": None},
            {"name": "two", "data": {"a": "1"}, "namespace": "other", "scope": "strict", "behavior": "merge"},
            {"name": "three", "state": "absent", "force": True},
        ],
        base,
    )
    assert (one.namespace, one.behavior, one.scope, one.labels) == ("ns", Behavior.REPLACE, None, {"a": "x"})
    assert (two.namespace, two.behavior, two.scope) == ("other", Behavior.MERGE, Scope.STRICT)
    assert (three.state, three.force) == (State.ABSENT, True)


@given(st.integers(0, 5000))
def test_the_size_told_is_that_of_the_ciphertext(length: int) -> None:
    """AES-GCM adds a nonce of 12 bytes and a tag of 16 to the plaintext."""
    assert sealed_size(b"x" * length) == len("vault:v1:" + base64.b64encode(b"x" * (12 + length + 16)).decode())


def test_too_large_says_how_much_and_which_key() -> None:
    values = {"small": b"1", "big": b"x" * SECRET_BYTES}
    with pytest.raises(ConfigError) as caught:
        SecretSpec("ns", "n", values, "k")
    sizes = sealed_size(values["small"]), sealed_size(values["big"])
    assert str(caught.value) == (
        f"sealed, the Secret takes {sum(sizes)} bytes, {sum(sizes) - SECRET_BYTES} more than the {SECRET_BYTES} that"
        f" Kubernetes allows; the largest data key is big with {sizes[1]} bytes"
    )
