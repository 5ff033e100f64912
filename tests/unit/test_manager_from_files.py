"""A manager made from files, as a ConfigMap mounts them: options, and what is to be read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from secretmanager import AsyncSecretManager, SecretManager
from secretmanager.errors import ConfigError, SecretFileError, SecretFormatError


def files(folder: Path, config: Mapping[str, Any], definition: Mapping[str, Any]) -> tuple[str, str]:
    paths = folder / "secretcfg.json", folder / "secretdef.json"
    for path, content in zip(paths, (config, definition), strict=True):
        path.write_text(json.dumps(content))
    return str(paths[0]), str(paths[1])


@pytest.fixture
def secrets(tmp_path: Path) -> str:
    path = tmp_path / "secrets.json"
    path.write_text('{"v": "PLAIN"}')
    path.chmod(0o600)
    return str(path)


def test_one_definition(tmp_path: Path, secrets: str) -> None:
    """As the services of the earlier client have it."""
    given = files(tmp_path, {"SOURCE": "FILE"}, {"file_name": secrets, "file_type": "JSON"})
    assert SecretManager.from_files(*given).read_defined() == {"v": "PLAIN"}


def test_several_definitions(tmp_path: Path, secrets: str) -> None:
    given = files(tmp_path, {"SOURCE": "FILE"}, {"one": {"file_name": secrets}, "two": {"file_name": secrets}})
    assert SecretManager.from_files(*given).read_defined() == {"one": {"v": "PLAIN"}, "two": {"v": "PLAIN"}}


def test_definitions_of_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBHOST", "PLAIN-host")
    (tmp_path / "definition.yaml").write_text("db_host: DBHOST")
    by_file = {"env_def_file": str(tmp_path / "definition.yaml"), "env_file": None, "definition_type": "YAML"}
    for definition in (by_file, {"env_def_file": {"db_host": "DBHOST"}}):
        given = files(tmp_path, {"SOURCE": "ENVIRONMENT"}, definition)
        assert SecretManager.from_files(*given).read_defined() == {"db_host": "PLAIN-host"}


def test_asyncio(tmp_path: Path, secrets: str) -> None:
    given = files(tmp_path, {"SOURCE": "FILE"}, {"file_name": secrets})

    async def run() -> None:
        async with AsyncSecretManager.from_files(*given) as manager:
            assert await manager.read_defined() == {"v": "PLAIN"}

    asyncio.run(run())


def test_yaml(tmp_path: Path, secrets: str) -> None:
    (tmp_path / "cfg.yaml").write_text("SOURCE: FILE")
    (tmp_path / "def.yml").write_text(f"file_name: {secrets}")
    assert SecretManager.from_files(str(tmp_path / "cfg.yaml"), str(tmp_path / "def.yml")).read_defined()


@pytest.mark.parametrize(
    ("config", "definition", "message"),
    [
        ({"SOURCE": "X"}, {}, "SOURCE: found 'X'"),
        ({"SOURCE": "FILE"}, {}, "there is no definition of what to read; give from_files a definition_file"),
        ({"SOURCE": "FILE"}, {"file": "x"}, "definition: file: unknown; allowed are file_name, file_type"),
        ({"SOURCE": "FILE"}, {"file_type": "JSON"}, "definition: file_name: is missing"),
        ({"SOURCE": "FILE"}, {"db": {"file": "x"}}, "definition of db: file: unknown"),
        ({"SOURCE": "FILE"}, {"file_name": "x", "db": {"file_name": "x"}}, "definition: db: unknown"),
        ({"SOURCE": "KUBERNETES"}, {"secret_name": "x"}, "definition: namespace: is missing"),
        ({"SOURCE": "KUBERNETES"}, {"secret_name": "x", "namespace": "y", "secret_key": "z"}, "secret_key: unknown"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, config: Mapping[str, Any], definition: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        SecretManager.from_files(*files(tmp_path, config, definition)).read_defined()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    config, _ = files(tmp_path, {"SOURCE": "FILE"}, {})
    with pytest.raises(SecretFileError, match=r"nosuch\.json: No such file"):
        SecretManager.from_files(str(tmp_path / "nosuch.json"))
    with pytest.raises(SecretFileError, match=r"nosuch\.json: No such file"):
        SecretManager.from_files(config, str(tmp_path / "nosuch.json"))
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(SecretFormatError, match=r"list\.json: it is JSON, but holds a list"):
        SecretManager.from_files(str(tmp_path / "list.json"))
