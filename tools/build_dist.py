"""Builds the wheel, the source distribution and the list of what they need: ``make dist``.

Everything goes into the folder ``dist``, or the one that the command line names. Two builds of one commit give the same
bytes. ``kubevault-VERSION.cdx.json`` is a CycloneDX software bill of materials of the packages that the wheel and its
extras need, as they are locked.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from reproducible import read_tar_gz, tar_gz

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent

SOURCES = ("src/secretmanager", "pyproject.toml", "README.md", "LICENSE")

EXTRAS = ("cli", "gcp", "pydantic", "redis")
"""Extras that are in the bill of materials. The extra ``ansible`` is Ansible itself, on the host that runs it."""


def main() -> None:
    """Build into the folder that the command line names."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        staged, built = Path(temporary, "staged"), Path(temporary, "built")
        stage(staged)
        run([sys.executable, "-m", "build", "--no-isolation", "--outdir", built, staged], temporary)
        for path in sorted(built.iterdir()):
            content = path.read_bytes()
            target = folder / path.name
            target.write_bytes(tar_gz(read_tar_gz(content)) if path.name.endswith(".tar.gz") else content)
            print(target)
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        requirements = Path(temporary, "requirements.txt")
        requirements.write_text("".join(locked(closure(project))), encoding="utf-8")
        target = folder / f"kubevault-{project['version']}.cdx.json"
        options: list[str | Path] = [
            "--pyproject",
            ROOT / "pyproject.toml",
            "--output-reproducible",
            "--output-file",
            target,
        ]
        run([BIN / "cyclonedx-py", "requirements", *options, requirements], temporary)
        print(target)


def stage(folder: Path) -> None:
    """Copy what is built, so that nothing is written to the sources, with the same modes everywhere."""
    for name in SOURCES:
        for source in sorted(path for path in [ROOT / name, *(ROOT / name).rglob("*")] if path.is_file()):
            if "__pycache__" not in source.parts:
                target = folder / source.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
                target.chmod(0o644)


def run(command: list[str | Path], folder: str) -> None:
    """Run a build tool; if it fails, exit with all that it printed."""
    # The time of the commit and the modes stand in the wheel's entries, so both are given
    # (https://reproducible-builds.org/specs/source-date-epoch/).
    env = {**os.environ, "SOURCE_DATE_EPOCH": epoch()}
    done = subprocess.run(  # noqa: S603 - build tools of the lock file
        command,
        cwd=folder,
        env=env,
        umask=0o022,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stdout)


def epoch() -> str:
    """Return the time of the commit, or that which SOURCE_DATE_EPOCH gives, in seconds since 1970."""
    log = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    return os.environ.get("SOURCE_DATE_EPOCH") or subprocess.check_output(log, text=True).strip()  # noqa: S603


def closure(project: dict[str, Any], extras: Iterable[str] = EXTRAS) -> set[str]:
    """Return the names of all packages that the project and some of its extras need."""
    optional = (project["optional-dependencies"][extra] for extra in extras)
    # Not from the metadata of the installed project, which is as old as the virtual environment.
    pending = [Requirement(text) for texts in (project["dependencies"], *optional) for text in texts]
    found: set[str] = set()
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        if name not in found:
            found.add(name)
            pending += needs(name, frozenset(requirement.extras))
    return found


def needs(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    """Yield what an installed package needs here."""
    try:
        texts = requires(name) or []
    except PackageNotFoundError:
        return  # only on another platform
    for requirement in map(Requirement, texts):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield requirement


def locked(names: set[str]) -> Iterator[str]:
    """Yield the entries of the lock file for some packages, with their hashes."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for entry in re.split(r"(?m)^(?=[a-z0-9])", text):
        if canonicalize_name(entry.partition("==")[0]) in names:
            yield "".join(line for line in entry.splitlines(keepends=True) if not line.lstrip().startswith("#"))


if __name__ == "__main__":
    main()
