"""Prints the oldest and the newest Python of this machine that the package supports, with which a release is tested."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SUPPORTED = ("3.11", "3.12", "3.13", "3.14")


def interpreters() -> dict[str, str]:
    """Return the path of each supported Python, by its version: those on PATH, then those of pyenv.

    One that does not run is left out, as a shim of pyenv does not whose version is not in use.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    folders = [*map(Path, os.environ["PATH"].split(os.pathsep)), *sorted(pyenv.glob("versions/*/bin"))]
    paths = {version: [folder / f"python{version}" for folder in folders] for version in SUPPORTED}
    usable = {version: next(filter(_runs, paths[version]), None) for version in SUPPORTED}
    return {version: str(path) for version, path in usable.items() if path}


def _runs(path: Path) -> bool:
    return path.exists() and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0  # noqa: S603


if __name__ == "__main__":
    oldest, *others = interpreters().values()
    print(oldest, *others[-1:])
