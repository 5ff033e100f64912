"""Which Secrets count as copies of a recreation that was broken off: none that somebody else could gain by."""

from __future__ import annotations

import json
from typing import Any

import pytest

from secretmanager.sealed import MANIFEST_KEY, Manifest, Scope, encode
from secretmanager.sealing.recreation import COPY_OF, copy_name, is_copy

MANIFEST = encode(Manifest("key", Scope.STRICT, "key-digest", {"a": "vault:v1:0"}, place="shop/db").dump())
DATA = {"a": encode(b"vault:v1:AAAA"), MANIFEST_KEY: MANIFEST}


def copy(
    original: dict[str, Any] | None = None, name: str | None = None, data: Any = DATA, **rest: Any
) -> dict[str, Any]:
    metadata = {"namespace": "shop", "name": "db", **(original or {})}
    text = json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **rest})
    place = {"namespace": "shop", "name": name or copy_name("db"), "annotations": {COPY_OF: text}}
    return {"metadata": place, "data": data}


def test_a_copy_as_a_recreation_makes_it() -> None:
    assert is_copy(copy())
    assert is_copy(copy(immutable=True, type="kubernetes.io/tls"))
    assert is_copy(copy(data={"a": DATA["a"]}))  # of a Secret that an older tool sealed


@pytest.mark.parametrize(
    "secret",
    [
        copy({"namespace": "kube-system"}),
        copy({"name": "other"}),
        copy(name="of-somebody"),
        copy(type="kubernetes.io/service-account-token"),
        copy(type="bootstrap.kubernetes.io/token"),
        copy(kind="Role"),
        copy(data={"token": "eA=="}),
        copy(data=None),
        copy(data={MANIFEST_KEY: "e30="}),
        copy({"name": "db2"}, copy_name("db2")),  # sealed for another Secret
        {"metadata": {"namespace": "shop", "name": "x", "annotations": {COPY_OF: "x"}}},
        {"metadata": {"namespace": "shop", "name": "x", "annotations": {COPY_OF: "[]"}}},
        {"metadata": {"namespace": "shop", "name": "x"}},
    ],
)
def test_what_is_to_pass_as_one(secret: dict[str, Any]) -> None:
    assert not is_copy(secret)
