"""Secrets from files and from the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from secretmanager import SecretManager
from secretmanager.errors import ConfigError, SecretFileError, SecretFormatError, SecretKeyNotFound


def read_file(*args: Any, **options: Any) -> dict[str, Any]:
    return SecretManager({"SOURCE": "FILE"}).read_secrets(*args, **options)


def read_environment(*args: Any, **options: Any) -> dict[str, Any]:
    return SecretManager({"SOURCE": "ENVIRONMENT"}).read_secrets(*args, **options)


def private(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_json_and_yaml(tmp_path: Path) -> None:
    assert read_file(private(tmp_path / "a", '{"v": "PLAIN"}')) == {"v": "PLAIN"}
    assert read_file(private(tmp_path / "b", "v: PLAIN"), "YAML") == {"v": "PLAIN"}
    both = [{"file_name": str(tmp_path / "a")}, {"file_name": str(tmp_path / "b"), "file_type": "YAML"}]
    assert SecretManager({"SOURCE": "FILE"}).read_many(both) == [{"v": "PLAIN"}] * 2


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440, 0o700])
def test_a_file_that_others_cannot_read(tmp_path: Path, mode: int) -> None:
    assert read_file(private(tmp_path / "a", "{}", mode)) == {}


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o601, 0o666])
def test_a_file_that_is_open_to_others(tmp_path: Path, mode: int) -> None:
    with pytest.raises(SecretFileError, match=f"its mode is 0{mode:o} .* chmod 600") as caught:
        read_file(private(tmp_path / "a", '{"v": "PLAIN"}', mode))
    assert (caught.value.reason, caught.value.place) == ("open to others", str(tmp_path / "a"))


def test_a_file_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = private(tmp_path / "a", "{}")
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:  # a user who cannot change the owner of a file pretends to be another user
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(SecretFileError, match="its owner"):
        read_file(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SecretFileError, match="No such file") as caught:
        read_file(str(tmp_path / "nosuch"))
    assert caught.value.reason == "missing"
    with pytest.raises(SecretFileError, match="Is a directory") as caught:
        read_file(str(tmp_path))
    assert caught.value.reason == "not readable"
    (tmp_path / "bytes").write_bytes(b"\xff")
    (tmp_path / "bytes").chmod(0o600)
    with pytest.raises(SecretFormatError, match="is not valid UTF-8"):
        read_file(str(tmp_path / "bytes"))


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ('{"v": "PLAIN}', "JSON", "it is not JSON: Unterminated string starting at in line 1; put a JSON object there"),
        ('["PLAIN"]', "JSON", "it is JSON, but holds a list"),
        ('{"v": "PLAIN', "YAML", "it is not YAML, by line"),
        ("PLAIN", "YAML", "it is YAML, but holds a str"),
    ],
)
def test_bad_content_is_not_shown(tmp_path: Path, text: str, kind: str, said: str) -> None:
    with pytest.raises(SecretFormatError, match=said) as caught:
        read_file(private(tmp_path / "a", text), kind)
    assert "PLAIN" not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_another_type_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="file_type: found 'TOML'; allowed are JSON, YAML"):
        read_file(private(tmp_path / "a", ""), "TOML")
    with pytest.raises(ConfigError, match="definition_type: found 'INI'"):
        read_environment(private(tmp_path / "a", ""), None, "INI")


def test_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBHOST", "db")
    monkeypatch.delenv("DBPORT", raising=False)
    definition = tmp_path / "definition.json"
    definition.write_text('{"db_host": "DBHOST"}')
    assert read_environment(str(definition)) == {"db_host": "db"}
    assert read_environment({"db_host": "DBHOST"}) == {"db_host": "db"}
    definition.write_text("db_host: DBHOST\ndb_port: DBPORT")
    with pytest.raises(SecretKeyNotFound, match="DBPORT: the environment variable for db_port is not set"):
        read_environment(env_def_file=str(definition), definition_type="YAML")
    env_file = private(tmp_path / "env", "DBHOST=other\nDBPORT='5432'\nREF=${DBHOST}\n")
    assert read_environment(str(definition), env_file, "YAML") == {"db_host": "db", "db_port": "5432"}
    assert read_environment({"ref": "REF"}, env_file) == {"ref": "${DBHOST}"}
    assert "DBPORT" not in os.environ
    Path(env_file).chmod(0o644)
    with pytest.raises(SecretFileError, match="0644"):
        read_environment(str(definition), env_file, "YAML")
    definition.write_text('{"db_host": 5}')
    with pytest.raises(SecretFormatError, match="not every value is the name of a variable"):
        read_environment(str(definition))
