"""The release of `make dist`: complete, and usable with the Python that runs the tests (others: tests/release)."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from pathlib import Path

import pytest
from support.ansible import ROOT
from support.wheel import build, check_a_ca_without_key_usage, check_reading, environment


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, in a folder with all that `make dist` builds but the collection (see test_collection.py)."""
    return build(tmp_path_factory.mktemp("dist"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = (ROOT / "src/secretmanager").rglob("*")
    expected = {str(path.relative_to(ROOT / "src")) for path in sources if path.suffix in (".py", ".typed")}
    assert names == expected


def test_the_bill_of_materials_says_what_is_needed(wheel: Path) -> None:
    (path,) = wheel.parent.glob("*.cdx.json")
    bill = json.loads(path.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "kubevault"
    versions = {item["name"]: item["version"] for item in bill["components"]}
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert versions.items() <= locked.items()
    assert {"pyyaml", "click", "redis", "google-auth", "pydantic-settings"} <= versions.keys()
    assert not {"pytest", "kubernetes"} & versions.keys()  # which Ansible and the tests need, not the package


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and its dependencies only."""
    return environment(sys.executable, tmp_path_factory.mktemp("venv"), [wheel])


def test_the_wheel_reads_with_this_python(python: Path, tmp_path: Path) -> None:
    check_reading(python, tmp_path)


def test_a_ca_without_key_usage_with_this_python(python: Path, tmp_path: Path) -> None:
    check_a_ca_without_key_usage(python, tmp_path)
