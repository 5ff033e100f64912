"""Builds the Ansible collection: ``make collection``, or ``python tools/build_collection.py FOLDER``.

The roles of this repository have hyphens in their names, which a collection may not have. They are staged under names
with underscores, with all that refers to them; nothing is kept twice. Two builds give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from reproducible import read_tar_gz, tar_gz

ROOT = Path(__file__).parents[1]

CONTENT = ("plugins", "meta", "changelogs/changelog.yaml", "CHANGELOG.md", "LICENSE", "README.md", "galaxy.yml")
"""What the collection has as it is. Documentation, lab and tests stay in the repository."""

SANITY = "tests/sanity"

ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if not path.name.startswith("lab-"))


def main() -> None:
    """Build into the folder that the command line names."""
    if len(sys.argv) != 2:
        sys.exit("usage: build_collection.py FOLDER")
    print(build(Path(sys.argv[1])))


def build(folder: Path) -> Path:
    """Build the collection into a folder; return the path of the artifact."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary, "staged")
        stage(staged)
        program = str(Path(sys.executable).parent / "ansible-galaxy")
        galaxy = [program, "collection", "build", "--output-path", temporary]
        config = Path(temporary, "ansible.cfg")
        config.touch()
        env = {**os.environ, "ANSIBLE_HOME": str(Path(temporary, "home")), "ANSIBLE_CONFIG": str(config)}
        run = subprocess.run(  # noqa: S603 - Ansible's own
            [*galaxy, staged], cwd=temporary, env=env, capture_output=True, text=True, check=False
        )
        if run.returncode:
            sys.exit(run.stdout + run.stderr)
        (artifact,) = Path(temporary).glob("*.tar.gz")
        target = folder / artifact.name
        target.write_bytes(reproducible(artifact.read_bytes()))
    return target


def stage(folder: Path) -> None:
    """Copy what belongs to the collection, with the roles under their names in it."""
    for name in (*CONTENT, SANITY):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copyfile(source, target)
    for role in ROLES:
        for source in sorted((ROOT / "roles" / role).rglob("*")):
            # Tests import a program that a role installs.
            if source.is_file() and "__pycache__" not in source.parts:
                target = folder / "roles" / in_collection(role) / source.relative_to(ROOT / "roles" / role)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(renamed(source.read_text(encoding="utf-8")), encoding="utf-8")


def in_collection(role: str) -> str:
    """Return a role's name in the collection."""
    return role.replace("-", "_")


def renamed(text: str) -> str:
    """Return the text of a role's file with the names that the roles have in the collection."""
    for role in ROLES:
        # A play names a role by its full name; prose and links by its own.
        text = re.sub(rf"- role: {role}$", f"- role: kubevault.core.{in_collection(role)}", text, flags=re.M)
        if "-" in role:
            text = re.sub(rf"(?<![\w-]){role}(?![\w-])", in_collection(role), text)
    return text


def reproducible(artifact: bytes) -> bytes:
    """Return the artifact with its files in order, and without times and owners."""
    contents = read_tar_gz(artifact)
    listed: dict[str, Any] = json.loads(contents["FILES.json"])
    listed["files"].sort(key=lambda entry: entry["name"])
    contents["FILES.json"] = json.dumps(listed, indent=True).encode()
    manifest: dict[str, Any] = json.loads(contents["MANIFEST.json"])
    manifest["file_manifest_file"]["chksum_sha256"] = hashlib.sha256(contents["FILES.json"]).hexdigest()
    contents["MANIFEST.json"] = json.dumps(manifest, indent=True).encode()
    folders = {entry["name"] for entry in listed["files"] if entry["ftype"] == "dir"} - {"."}
    # The manifest comes first: ansible-galaxy reads it before all else.
    return tar_gz(contents, folders, key=lambda name: (name != "MANIFEST.json", name))


if __name__ == "__main__":
    main()
