"""Invalid resources are refused before any request to Vault."""

from __future__ import annotations

import pytest

from secretmanager.admin.resources import Resource, check_batch
from secretmanager.errors import ConfigError


@pytest.mark.parametrize(
    "path",
    [
        "",
        "transit",
        "/transit/keys/a",
        "v1/transit/keys/a",
        "a/../b",
        "a/./b",
        "a//b",
        "a/b/",
        "a/b?c=d",
        "a/b#c",
        "a b/c",
    ],
)
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"^path: found"):
        Resource(path, {"type": "transit"})


@pytest.mark.parametrize("path", ["sys/mounts/a", "auth/kube-1/role/a.b_c", "transit/keys/v1", "sys/mounts/a/b"])
def test_a_path_is_taken(path: str) -> None:
    assert Resource(path, {"type": "transit"}).path == path


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "state present needs data"),
        ({"data": {"ttl": None}}, "ttl is null"),
        ({"data": {"ttl": 1}, "refresh": True}, "no secret_data"),
        ({"data": {"jwt": 1}, "secret_data": {"jwt": "s3cr3t"}}, "jwt is in data and in secret_data"),
        ({"state": "absent", "data": {"ttl": 1}}, "state absent takes no data"),
    ],
)
def test_a_combination_without_meaning_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Resource("auth/a/role/r", **fields)  # type: ignore[arg-type] # the cases differ in type
    assert "s3cr3t" not in str(caught.value)


def test_a_batch_names_a_path_once() -> None:
    with pytest.raises(ConfigError, match="a/b: found twice"):
        check_batch([Resource("a/b", {"x": 1}), Resource("a/c", {"x": 1}), Resource("a/b", state="absent")])


def test_no_secret_in_repr() -> None:
    assert "s3cr3t" not in repr(Resource("a/b", {"x": 1}, {"jwt": "s3cr3t"}))
