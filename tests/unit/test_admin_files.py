"""Secret files: private, and written completely or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from secretmanager.admin.files import PrivateFile, check_folder, file_mode, read_private, unfinished
from secretmanager.errors import ConfigError


def test_a_file_appears_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with PrivateFile(path) as file:
        assert not path.exists()
        file.commit("content\n")
    assert path.read_text() == "content\n"
    assert file_mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("a longer one than before")
    with PrivateFile(path) as file:
        file.commit("new")
    assert path.read_text() == "new"


def test_a_failure_before_the_content_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), PrivateFile(tmp_path / "token"):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_a_failure_after_the_content_keeps_it(tmp_path: Path) -> None:
    """A secret that Vault returns only once must not be lost if its path was taken meanwhile."""
    path = tmp_path / "keys"
    with pytest.raises(IsADirectoryError), PrivateFile(path) as file:  # noqa: PT012 - the folder is created in between
        path.mkdir()
        file.commit("the only copy")
    (left,) = (file for file in tmp_path.iterdir() if file != path)
    assert left.read_text() == "the only copy"
    assert file_mode(left) == 0o600


def test_what_was_interrupted_is_found(tmp_path: Path) -> None:
    path = tmp_path / "keys[1]"
    (tmp_path / "keys[1].json").touch()
    with PrivateFile(path) as file:
        assert len(unfinished(path)) == 1
        file.leave()
    assert unfinished(path) == [left for left in tmp_path.iterdir() if left.name.startswith(".")]
    assert not path.exists()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none" / "token"
    with pytest.raises(ConfigError, match="none/token: cannot be written: its folder does not exist"):
        PrivateFile(path)
    with pytest.raises(ConfigError, match="does not exist"):
        check_folder(path)


def test_a_missing_or_empty_file_reads_as_none(tmp_path: Path) -> None:
    assert read_private(tmp_path / "none") is None
    (tmp_path / "empty").write_text(" \n")
    assert read_private(tmp_path / "empty") is None
    (tmp_path / "token").write_text("abc\n")
    assert read_private(tmp_path / "token") == "abc"


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_private(tmp_path)
