"""Build the image of the command, and check what is in it for an architecture."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import elf
import oci
import pytest
from build_image import EXEC, folder_entries
from reproducible import Entry, File, Folder, Link

from kubevault_lab.cache import target_platform
from support.ansible import ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
NATIVE = target_platform()[1]


def require(*programs: str) -> None:
    """Skip a test where the machine cannot run it; CI can, so there it fails."""
    missing = [name for name in programs if not shutil.which(name)] + (["the rights of root"] if os.geteuid() else [])
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"missing: {', '.join(missing)}")


def build(folder: Path, *options: str) -> str:
    """Build into a folder; return what the program printed."""
    require("go", "apt-get", "dpkg-deb")
    command = [sys.executable, ROOT / "tools/build_image.py", *options, folder]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def base(built: Path, architecture: str) -> oci.Base:
    """Return the image for an architecture, as one that others can be built on."""
    image = oci.read_layout(dict(folder_entries(built / "oci")), architecture)
    assert image
    return image


def check(built: Path, architecture: str) -> None:
    """The image for an architecture says what it is, and holds what it should and no more."""
    image = base(built, architecture)
    files = dict(image.entries)
    _check_platform(files, architecture)
    _check_extent(files)
    _check_bill(json.loads((built / f"kubevault-{VERSION}-{architecture}.cdx.json").read_text()), files)
    _check_runtime(image.runtime)


def _check_platform(files: dict[str, Entry], architecture: str) -> None:
    """Every program is of the platform."""
    headers = {name: elf.parse(entry.content) for name, entry in files.items() if isinstance(entry, File)}
    architectures = {name: header.architecture for name, header in headers.items() if header}
    assert {EXEC, "usr/bin/python3.11"} < architectures.keys()
    assert set(architectures.values()) == {architecture}


def _check_extent(files: dict[str, Entry]) -> None:
    """There is no more than a program needs."""
    programs = {name for name, entry in files.items() if isinstance(entry, File) and re.search(r"(^|/)s?bin/", name)}
    assert programs == {"usr/bin/python3.11", "usr/local/bin/kubevault", EXEC}
    assert not [name for name in files if re.search(r"/(pip|setuptools|ensurepip|pygments|pytest|ansible)/", name)]
    # All modules are byte code already, which a read-only root could not keep.
    assert not [name for name in files if name.endswith(".py")]
    modes = {name: entry.mode for name, entry in files.items() if isinstance(entry, File | Folder)}
    assert {name for name, mode in modes.items() if mode & 0o7022} == {"tmp"}
    for name, entry in files.items():
        if isinstance(entry, Link):
            target = os.path.normpath(os.path.join(os.path.dirname(name), entry.target)).lstrip("/")  # noqa: PTH118, PTH120
            assert target in files, f"{name} leads nowhere"


def _check_bill(bill: oci.Json, files: dict[str, Entry]) -> None:
    """The bill of materials is what is there."""
    listed = {(item["purl"].split("/")[0], item["name"]) for item in bill["components"]}
    debian = {("pkg:deb", name.rpartition("/")[2]) for name in files if name.startswith("var/lib/dpkg/status.d/")}
    python = {
        ("pkg:pypi", match[1].replace("_", "-").lower())
        for name in files
        if (match := re.search(r"/([^/]+)-[^/-]+\.dist-info/METADATA$", name))
    }
    go = {("pkg:golang", "kubevault-exec"), ("pkg:golang", "stdlib")}
    assert listed == debian | python | go
    assert {("pkg:pypi", "kubevault"), ("pkg:deb", "libssl3")} < listed
    assert bill["metadata"]["component"]["version"] == VERSION


def _check_runtime(runtime: oci.Json) -> None:
    """It says what it is and how it is run."""
    assert (runtime["User"], runtime["Entrypoint"]) == ("65532:65532", ["kubevault"])
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in runtime["Labels"].items()}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert labels["revision"].removesuffix("-dirty") == commit.strip()
    assert (labels["title"], labels["version"], labels["licenses"]) == ("kubevault", VERSION, "Apache-2.0")
