"""kubevault_lab/bytecode: what Ansible's archives hold is compiled once, and is what runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SITECUSTOMIZE = Path(__file__).parents[2] / "src/kubevault_lab/bytecode/sitecustomize.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the file, which keeps what it compiles beside it."""
    shutil.copy(SITECUSTOMIZE, tmp_path)
    return tmp_path


def run(folder: Path, value: str, name: str = "ansible_ping_payload.zip") -> str:
    """Import a module of a package from an archive; return what it prints, and the loader's class."""
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("package/__init__.py", "")
        archive.writestr("package/module.py", f"value = {value!r}\nwhere = __file__")
    code = (
        f"import sys; sys.path.insert(0, {str(folder / name)!r}); import package.module as m;"
        "print(m.value, m.where, type(m.__loader__).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def kept(folder: Path) -> set[str]:
    """Return what is kept; Python itself keeps sitecustomize there."""
    return {path.name for path in folder.glob("__pycache__/*") if "sitecustomize" not in path.name}


def test_each_source_is_compiled_once_and_another_one_anew(folder: Path) -> None:
    where = f"{folder}/ansible_ping_payload.zip/package/module.py"
    assert run(folder, "first") == f"first {where} ModuleArchive"
    before = kept(folder)
    assert len(before) == 2
    assert run(folder, "first") == f"first {where} ModuleArchive"
    assert kept(folder) == before
    assert run(folder, "second") == f"second {where} ModuleArchive"
    assert len(kept(folder)) == 3


def test_what_is_kept_is_what_runs(folder: Path) -> None:
    run(folder, "first")
    other = folder / "other"
    other.mkdir()
    shutil.copy(SITECUSTOMIZE, other)
    run(other, "second")
    (mine,) = kept(folder) - kept(other)
    (its,) = kept(other) - kept(folder)
    shutil.copy(other / "__pycache__" / its, folder / "__pycache__" / mine)
    assert run(folder, "first").startswith("second ")


def test_other_archives_are_left_to_python(folder: Path) -> None:
    assert run(folder, "first", "library.zip").endswith(" zipimporter")
    assert kept(folder) == set()


def test_who_may_not_write_runs_all_the_same(folder: Path) -> None:
    (folder / "__pycache__").write_text("no folder")
    assert run(folder, "first").startswith("first ")
