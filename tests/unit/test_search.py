"""The searches of folders in which programs make and delete files meanwhile."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.search import _CHUNK, below, files_with, processes
from support.servers import wait_until

CHANGES = """
import shutil, sys
from itertools import count
from pathlib import Path
for number in count():
    folder = Path(sys.argv[1], f"folder-{number % 3}")
    for name in ("a/b", "c"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_bytes(b"another")
    shutil.rmtree(folder)
"""


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Path]:
    """A folder with one file that stays, in which a program makes and deletes folders and files all the time."""
    (tmp_path / "stays").write_bytes(b"the text")
    program = subprocess.Popen([sys.executable, "-c", CHANGES, tmp_path])
    wait_until("the first folder", lambda: len(list(tmp_path.iterdir())) > 1)
    yield tmp_path
    assert program.poll() is None
    program.kill()
    program.wait()


def test_what_vanishes_is_no_error_and_what_stays_is_found(busy: Path) -> None:
    for _ in range(300):
        assert list(files_with(b"the text", busy)) == [busy / "stays"]


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(below(tmp_path / "missing"))


def test_what_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()

    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError):
        list(files_with(b"text", tmp_path))


@pytest.mark.parametrize("before", [0, 1, _CHUNK - 3, _CHUNK, 2 * _CHUNK - 1])
def test_a_text_is_found_anywhere_in_a_file(before: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * before + b"the text" + b"y")
    assert list(files_with(b"the text", tmp_path)) == [tmp_path / "file"]
    assert list(files_with(b"t", tmp_path)) == [tmp_path / "file"]
    assert list(files_with(b"the text!", tmp_path)) == []


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"the text")
    (tmp_path / "folder/link").symlink_to(tmp_path / "file")
    (tmp_path / "folder/up").symlink_to(tmp_path)
    assert list(files_with(b"the text", tmp_path)) == [tmp_path / "file"]


def test_a_process_is_found_by_its_command(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print(flush=True); input()", tmp_path]
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdout
    program.stdout.readline()  # before, it may not have its arguments yet
    assert [pid for pid, command in processes() if str(tmp_path) in command] == [program.pid]
    program.communicate(b"\n")
    assert [pid for pid, command in processes() if str(tmp_path) in command] == []
