"""A Python that does not run is reported with what to do, before `make` uses it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# As pyenv 2.6 writes each of its shims.
SHIM = """\
#!/usr/bin/env bash
set -e
program="${{0##*/}}"
export PYENV_ROOT="{root}"
exec "{root}/libexec/pyenv" exec "$program" "$@"
"""

# Stands in for pyenv, which not every machine has, where no version in use has the program.
PYENV = """\
#!/usr/bin/env bash
echo "pyenv: $2: command not found" >&2
exit 127
"""


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def shim(tmp_path: Path) -> Path:
    """A shim of pyenv for a Python of which no version is in use, and which is the first on PATH."""
    root = tmp_path / "pyenv"
    program(root / "libexec/pyenv", PYENV)
    return program(root / "shims/python3.13", SHIM.format(root=root))


def check(python: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = f"{folder}:{os.environ['PATH']}" if folder else os.environ["PATH"]
    return subprocess.run(
        [ROOT / "tools/check-python", python], env={"PATH": path}, capture_output=True, text=True, check=False
    )


def test_a_python_that_runs_is_not_mentioned() -> None:
    process = check(sys.executable)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


@pytest.mark.parametrize("python", ["python3.nosuch", "/nosuch/python3", ""])
def test_one_that_does_not_exist(python: str) -> None:
    process = check(python)
    assert process.returncode == 1
    assert process.stderr == (
        f'Missing: Python: there is no program "{python}". Install it, or name another: make PYTHON=python3.11 ...\n'
    )


def test_a_shim_of_a_version_that_is_not_in_use(shim: Path) -> None:
    versions = shim.parents[1] / "versions"
    for version in ("3.13.2", "3.13.10"):
        program(versions / version / "bin/python3.13", "")
    program(versions / "3.14.0/bin/python3.14", "")
    process = check("python3.13", shim.parent)
    assert process.returncode == 1
    assert process.stderr == (
        f"Missing: Python: {shim} does not run.\n"
        "It is a shim of pyenv, and no version that pyenv has in use here brings it.\n"
        f"Use one that is installed: make PYTHON={versions}/3.13.10/bin/python3.13 ..., "
        "or first: export PYENV_VERSION=3.13.10\n"
    )


def test_a_shim_of_a_version_that_is_not_installed(shim: Path) -> None:
    process = check("python3.13", shim.parent)
    assert process.returncode == 1
    assert process.stderr.endswith("\nInstall one (pyenv install 3.13), or name another: make PYTHON=python3.11 ...\n")


def test_what_any_other_program_says_is_shown(tmp_path: Path) -> None:
    broken = program(tmp_path / "python3", "#!/bin/sh\necho 'no encodings' >&2\nexit 1\n")
    process = check(broken)
    assert process.returncode == 1
    assert process.stderr == (
        f"Missing: Python: {broken} does not run.\nIt says: no encodings\n"
        "Repair it, or name another: make PYTHON=python3.11 ...\n"
    )


def test_make_checks_first(shim: Path, tmp_path: Path) -> None:
    """Make itself would say no more than "Error 127"."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    process = subprocess.run(
        ["make", "venv", f"PYTHON={shim}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert process.stderr.startswith(f"Missing: Python: {shim} does not run.\n")
    assert "Error 127" not in process.stderr
