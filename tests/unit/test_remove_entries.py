"""What the module remove_entries removes, and what it refuses to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

sys.path.append(str(Path(__file__).parents[2] / "plugins" / "modules"))

import remove_entries

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the module; returns what Ansible would get."""

    def run(path: object, *entries: str, check: bool = False) -> dict[str, Any]:
        given = {"path": str(path), "entries": list(entries), "_ansible_check_mode": check}
        with patch_module_args(given), pytest.raises(SystemExit):
            remove_entries.main()
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with data of ours and a file of others."""
    made = tmp_path / "folder"
    (made / "raft").mkdir(parents=True)
    for name in ("raft/raft.db", "vault.db", "tls.crt", "theirs"):
        (made / name).touch()
    return made


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_only_what_is_named_is_removed_as_check_mode_predicts(run: Run, folder: Path) -> None:
    predicted = run(folder, "raft/", "tls.*", check=True)
    assert left(folder) == {"raft", "vault.db", "tls.crt", "theirs"}
    done = run(folder, "raft/", "tls.*")
    assert left(folder) == {"vault.db", "theirs"}
    assert (done["changed"], done["removed"], done["kept"]) == (True, ["raft", "tls.crt"], ["theirs", "vault.db"])
    assert predicted == done
    assert run(folder, "raft/", "tls.*")["changed"] is False


def test_a_folder_that_is_empty_then_is_removed(run: Run, folder: Path) -> None:
    named = ("raft/", "*.db", "tls.crt", "theirs")
    assert run(folder, *named, check=True)["kept"] == []
    assert folder.exists()
    assert run(folder, *named)["changed"] is True
    assert not folder.exists()
    assert run(folder, *named)["changed"] is False


def test_without_a_name_only_an_empty_folder_is_removed(run: Run, folder: Path) -> None:
    assert run(folder)["changed"] is False
    (folder / "raft/raft.db").unlink()
    assert run(folder / "raft")["changed"] is True
    assert left(folder) == {"vault.db", "tls.crt", "theirs"}


def test_a_folder_is_removed_only_by_a_name_of_a_folder(run: Run, folder: Path) -> None:
    (folder / "vault.db").unlink()
    (folder / "vault.db").mkdir()
    assert run(folder, "raft", "vault.db", "theirs/")["removed"] == []


def test_links_are_not_followed(run: Run, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "precious").mkdir(parents=True)
    (folder / "link").symlink_to(other)
    assert run(folder, "link/")["removed"] == []
    assert run(folder, "link")["removed"] == ["link"]
    (tmp_path / "way").symlink_to(other)
    assert run(tmp_path / "way", "precious/")["removed"] == ["precious"]
    assert (tmp_path / "way").is_symlink()
    assert other.is_dir()


@pytest.mark.parametrize(
    "path", ["", "/", "//", "/etc", "etc/vault.d", "/etc/../opt", "/etc/.", "/..", "/etc//vault.d", "/opt/vault/.."]
)
def test_a_path_that_can_be_another_folder_is_refused(path: str, run: Run) -> None:
    assert "allowed is the absolute path" in run(path, "name", check=True)["msg"]


@pytest.mark.parametrize("entry", ["", "*", "**/", ".", "..", "../", "/", "a/b", "/etc", "?*", "[!.]*"])
def test_a_name_that_can_be_any_is_refused(entry: str, run: Run, folder: Path) -> None:
    assert "allowed is a name" in run(folder, "vault.db", entry)["msg"]
    assert "vault.db" in left(folder)


def test_a_file_is_no_folder(run: Run, folder: Path) -> None:
    assert "is not a folder" in run(folder / "theirs", "name")["msg"]


NAMESPACE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
"""Runs a program that may mount, and whose mounts end with it."""

MAY_MOUNT = subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0

IN_A_MOUNT = """
import contextlib, json, pathlib, subprocess, sys
sys.path.append(sys.argv[1])
import remove_entries
from ansible.module_utils.testing import patch_module_args
folder = pathlib.Path(sys.argv[2])
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
(folder / "ours").touch()
for check in (True, False, True, False):
    given = {"path": str(folder), "entries": ["ours"], "_ansible_check_mode": check}
    with patch_module_args(given), contextlib.suppress(SystemExit):
        remove_entries.main()
print(json.dumps([folder.is_mount(), [path.name for path in folder.iterdir()]]))
"""


@pytest.mark.skipif(not MAY_MOUNT, reason="this user may make no mount namespace here")
def test_a_mount_point_stays_as_check_mode_predicts(folder: Path) -> None:
    """As a volume for Raft's data; without what was in it, it is empty."""
    command = [*NAMESPACE, sys.executable, "-c", IN_A_MOUNT, Path(remove_entries.__file__).parent, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    predicted, removed, predicted_again, again, left_there = map(json.loads, filter(None, done.stdout.splitlines()))
    assert (removed["changed"], removed["removed"], removed["kept"]) == (True, ["ours"], [])
    assert removed["diff"]["after"] == {"folder": "present", "entries": []}
    assert (again["changed"], again["removed"]) == (False, [])
    assert [predicted, predicted_again] == [removed, again]
    assert left_there == [True, []]
