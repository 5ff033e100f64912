"""The ports that the lab and the tests choose."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubevault_lab import ports
from kubevault_lab.errors import LabError

FEW = range(20000, 20040)

CHOOSE = f"""
import sys
from kubevault_lab import ports
ports.CANDIDATES = {FEW!r}
ports.is_free = lambda port: True
print(*(ports.free_port() for _ in range(10)), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _few_ports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Few ports, none of which has a server, and claims of this test's own."""
    monkeypatch.setattr(ports, "CANDIDATES", FEW)
    monkeypatch.setattr(ports, "is_free", lambda port: True)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def others() -> Iterator[list[subprocess.Popen[str]]]:
    """Four processes that choose all ports at the same time."""
    pipe = subprocess.PIPE
    processes = [subprocess.Popen([sys.executable, "-c", CHOOSE], stdin=pipe, stdout=pipe, text=True) for _ in range(4)]
    yield processes
    for process in processes:
        process.communicate()


def chosen(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout
    return [int(port) for port in process.stdout.readline().split()]


def test_processes_that_choose_at_once_get_different_ports(others: list[subprocess.Popen[str]]) -> None:
    first, *rest = (chosen(process) for process in others)
    assert sorted(sum(rest, first)) == list(FEW)
    with pytest.raises(LabError, match="no port from 20000 to 20039 is free"):
        ports.free_port()
    others[0].communicate()
    assert ports.free_port() in first


def test_the_ports_of_a_lab_are_its_own_as_long_as_its_folder_exists(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    names = [f"server-{number}" for number in range(39)]
    own, changed = ports.choose(lab / "ports.json", names)
    assert (len(set(own.values())), changed) == (39, True)
    assert ports.choose(lab / "ports.json", names) == (own, False)
    assert {ports.free_port()} == set(FEW) - set(own.values())
    lab.rename(tmp_path / "gone")
    assert ports.free_port() in own.values()


def test_a_port_is_preferred_where_nobody_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for lab in (first, second, third):
        lab.mkdir()
    own, _ = ports.choose(first / "ports.json", ["vault", "other"], {"vault": 8200})
    assert own["vault"] == 8200
    assert own["other"] in FEW
    assert ports.choose(first / "ports.json", ["vault", "other"]) == (own, False)
    assert ports.choose(second / "ports.json", ["vault"], {"vault": 8200})[0]["vault"] in FEW  # another lab has it
    first.rename(tmp_path / "gone")
    monkeypatch.setattr(ports, "is_free", lambda port: port != 8200)
    assert ports.choose(third / "ports.json", ["vault"], {"vault": 8200})[0]["vault"] in FEW  # something listens there


def test_check_mode_keeps_no_port_for_a_lab(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    own, changed = ports.choose(file, ["a", "b"], write=False)
    assert (len(set(own.values())), changed, file.exists()) == (2, True, False)
    claims = {int(path.name): path.readlink() for path in tmp_path.glob("kubevault-ports-*/*")}
    assert claims == dict.fromkeys(own.values(), ports._this_process())


def test_the_claims_of_a_lab_are_renewed_where_they_were_cleared_away(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    file.write_text(json.dumps({"a": 20007}))
    ports.choose(file, ["a"])
    assert 20007 not in {ports.free_port() for _ in range(39)}
