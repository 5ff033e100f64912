"""Which files the values become, by pure functions."""

from __future__ import annotations

from typing import Any

import pytest

from secretmanager.delivery.layout import entries, environment, files, mode_of
from secretmanager.delivery.values import named
from secretmanager.errors import ConfigError, SecretFormatError

VALUES = {"user": b"neo", "db.pass-word": "ä$&\n".encode(), "key.bin": b"\xff\0"}


def content(**entry: Any) -> bytes:
    (file,) = files(VALUES, entries({"files": [{"path": "it", **entry}]}, "f.yaml")).values()
    return file.content


def test_each_value_is_a_file() -> None:
    made = files(VALUES, None, 0o400)
    assert {path: (file.content, file.mode) for path, file in made.items()} == {
        name: (value, 0o400) for name, value in VALUES.items()
    }
    with pytest.raises(ConfigError, match="'a/b' is not allowed as a file's name"):
        files({"a/b": b""}, None)
    with pytest.raises(ConfigError, match=r"'\.\.data' is not allowed"):
        files({"..data": b""}, None)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("", b""),
        ("${user}:${db.pass-word}", "neo:ä$&\n".encode()),
        ("$host $$ $${user} $$${user} $1", b"$host $$ ${user} $${user} $1"),
        ("${user}${user}", b"neoneo"),
    ],
)
def test_templates(template: str, expected: bytes) -> None:
    assert content(template=template) == expected


def test_a_value_alone_may_be_binary() -> None:
    assert content(value="key.bin") == b"\xff\0"


@pytest.mark.parametrize(
    ("entry", "kind", "message"),
    [
        (
            {"template": "${nosuch}"},
            ConfigError,
            r"f.yaml: files\[0\]: template of it: there is no value nosuch; there are",
        ),
        ({"value": "nosuch"}, ConfigError, r"f.yaml: files\[0\]: value: there is no value nosuch"),
        ({"template": "${key.bin}"}, SecretFormatError, r"files\[0\]: template of it: key.bin is not text"),
    ],
)
def test_names_that_give_no_text(entry: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        content(**entry)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"template": "a\n${b c}"}, "template: line 2: '\\${' begins the name of a value"),
        ({"template": "${"}, "template: line 1"),
        ({"path": "/etc/x"}, "path: found /etc/x; allowed is a path in the folder"),
        ({"path": "a/../../x"}, "path: '..' is not allowed as a file's name"),
        ({"path": "..data/x"}, r"'\.\.data' is not allowed"),
        ({"path": "a//b"}, "'' is not allowed as a file's name"),
        ({"path": "./b"}, "'.' is not allowed as a file's name"),
        ({"path": ""}, "'' is not allowed as a file's name"),
        ({"path": 1}, "path: found a value of type int; allowed is text"),
        ({"mode": 0o440}, "mode: found 288; allowed is octal text"),
        ({"mode": "0999"}, "mode: found '0999'"),
        ({"mode": "4755"}, "mode: found '4755'"),
        ({"owner": "root:root"}, "owner: found 'root:root'; allowed are numbers"),
        ({"value": "user"}, "needs either template or value"),
        ({"contents": "x"}, "contents: unknown; allowed are path, template, value, mode, owner"),
    ],
)
def test_entries_that_are_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        entries({"files": [{"path": "ok", "template": "x"}, {"path": "it", "template": "", **entry}]}, "f.yaml")
    assert "f.yaml: files[1]" in str(caught.value)


@pytest.mark.parametrize("config", [{}, {"files": []}, {"files": {}}, {"files": [{"path": "a"}], "mode": "0400"}])
def test_a_configuration_is_a_list_of_files(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="allowed is the list files alone"):
        entries(config, "f.yaml")


@pytest.mark.parametrize("other", ["a/b", "a", "a/b/c"])
def test_paths_that_are_taken(other: str) -> None:
    both = [{"path": path, "template": ""} for path in ("a/b", other)]
    with pytest.raises(ConfigError, match=f"path: {other} is taken by another file"):
        entries({"files": both}, "f.yaml")


def test_modes_and_owners() -> None:
    config = [{"path": "a/b", "template": "", "mode": "0600", "owner": "1000:2000"}, {"path": "c", "value": "user"}]
    made = files(VALUES, entries({"files": config}, "f.yaml"), mode_of("444", "--mode"))
    assert [(file.mode, file.owner) for file in made.values()] == [(0o600, (1000, 2000)), (0o444, None)]


def test_the_file_of_variables() -> None:
    made = environment({"USER": "neo", "TEXT": "a=b\nc", "EMPTY": ""})
    assert made[".env"].content == b"USER=neo\0TEXT=a=b\nc\0EMPTY=\0"


def test_names_of_several_secrets() -> None:
    assert named([("n/a", None, {"x": b"1"}), ("n/b/j", "j", {"j": b'{"y": 2}'})]) == {"x": b"1", "y": b"2"}
    with pytest.raises(ConfigError, match="x: is in several of the Secrets"):
        named([("n/a", None, {"x": b"1"}), ("n/b/j", "j", {"j": b'{"x": 2}'})])
