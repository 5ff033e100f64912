"""Build the collection, install it, and run Ansible's programs as users without a configuration do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.ansible import BIN, ROOT


def build(folder: Path) -> Path:
    """Build the collection as `make collection` does; return the path of the artifact."""
    command = [sys.executable, ROOT / "tools/build_collection.py", folder]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (artifact,) = folder.iterdir()
    return artifact


def install(artifact: Path, folder: Path) -> Path:
    """Have a collections path with nothing but the built collection; return it."""
    env = bare({"ANSIBLE_COLLECTIONS_PATH": str(folder)}, folder)
    run(["ansible-galaxy", "collection", "install", "--offline", "--no-deps", "-p", folder, artifact], env, folder)
    return folder


def bare(env: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the environment of a user who has not configured Ansible."""
    config = folder / "ansible.cfg"
    config.touch()
    others = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return {**others, "ANSIBLE_HOME": str(folder / "ansible"), **env, "ANSIBLE_CONFIG": str(config)}


def run(command: Sequence[str | Path], env: Mapping[str, str], folder: Path) -> str:
    """Run a program of Ansible; return its output."""
    process = subprocess.run(
        [BIN / command[0], *command[1:]], env=env, cwd=folder, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout
