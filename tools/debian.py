"""Debian packages of any architecture, downloaded and verified by APT and unpacked without being installed.

APT has folders of its own here, so the machine's packages are not touched, and no right of root is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reproducible import Entry, read_tar

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Debian's keys, by which APT verifies what it downloads."""


class DebianError(Exception):
    """Packages cannot be had; the text says what to do."""


@dataclass(frozen=True)
class Package:
    """A package.

    Attributes:
        name: its name.
        version: its version.
        architecture: as Debian names it, such as "amd64"; "all" for one that fits each.
        control: its control file, which says what it is.
        entries: its files by their paths without a leading slash.
    """

    name: str
    version: str
    architecture: str
    control: bytes
    entries: Mapping[str, Entry]


def download(
    names: Sequence[str], release: str, architecture: str, folder: Path, mirror: str | None = None
) -> list[Package]:
    """Download packages of a release, in their newest versions, without what they depend on.

    Args:
        names: names of the packages.
        release: code name of the release, such as "bookworm".
        architecture: as Debian names it, such as "arm64".
        folder: folder for APT's files.
        mirror: URL of an archive of Debian; None for those that this machine's APT has for the release.

    Raises:
        DebianError: APT is missing, has no archive of the release, or cannot download or verify.
    """
    missing = [name for name in ("apt-get", "dpkg-deb") if not shutil.which(name)]
    if missing:
        raise DebianError(f"{', '.join(missing)}: not installed. On Debian or Ubuntu: apt install apt dpkg")
    if not KEYRING.exists():
        raise DebianError(f"{KEYRING}: is not there. On Debian or Ubuntu: apt install debian-archive-keyring")
    sources = [f"{mirror} {release} main"] if mirror else sorted(set(_archives(release)))
    if not sources:
        raise DebianError(f"this machine's APT has no archive of Debian {release}; name one by --mirror")
    options = _options(folder, architecture)
    lines = [f"deb [signed-by={KEYRING}] {source}\n" for source in sources]
    (folder / "sources.list").write_text("".join(lines), encoding="utf-8")
    _run(["apt-get", *options, "--error-on=any", "update"], folder)
    packages = folder / "packages"
    packages.mkdir()
    _run(["apt-get", *options, "download", *names], packages)
    return [_read(path) for path in sorted(packages.iterdir())]


def _archives(release: str) -> Iterator[str]:
    """Yield the archives of a release, its updates and its security updates that this machine's APT has."""
    fields = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    for line in _run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"]).decode().splitlines():
        _, suite, component = line.split()
        if suite.partition("-")[0] == release and component == "main":
            yield line


def _options(folder: Path, architecture: str) -> list[str]:
    for name in ("state/lists/partial", "cache/archives/partial", "etc"):
        (folder / name).mkdir(parents=True)
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        # Not the user _apt, who may not enter the folder.
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": folder / "etc",
        "Dir::State": folder / "state",
        "Dir::State::status": os.devnull,
    }
    return ["--quiet=2", *(f"--option={name}={value}" for name, value in settings.items())]


def _read(path: Path) -> Package:
    fields = ("Package", "Version", "Architecture")
    name, version, architecture = (_run(["dpkg-deb", "--field", path, field]).decode().strip() for field in fields)
    control = _run(["dpkg-deb", "--field", path])
    return Package(name, version, architecture, control, read_tar(_run(["dpkg-deb", "--fsys-tarfile", path])))


def _run(command: Sequence[str | Path], folder: Path | None = None) -> bytes:
    """Run a program, and return what it printed.

    Raises:
        DebianError: it failed.
    """
    done = subprocess.run(  # noqa: S603 - programs of Debian
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )
    if done.returncode:
        raise DebianError(f"{command[0]} failed:\n{done.stderr.decode(errors='replace').strip()}")
    return done.stdout
