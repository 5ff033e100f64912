"""Files for node_exporter in a folder to which others may write too: by the unit's own user, never through a link."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from support import snapshot_program
from support.ansible import ROOT

from secretmanager.commands import textfile
from secretmanager.errors import ConfigError

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that another user reaches, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture(params=["vault-snapshot", "kubevault"])
def write(request: pytest.FixtureRequest) -> Callable[[Path], object]:
    """Writes a file, as each of the two programs does."""
    program: ModuleType = snapshot_program.load()
    return {
        "vault-snapshot": lambda path: program.write_metrics(path, {"size_bytes": ("Its size.", 12.0)}),
        "kubevault": lambda path: textfile.record_rotation(path, "aes256-key"),
    }[request.param]


def without_rights(call: Callable[[], object]) -> str:
    """Call a function in a process of a user without rights, if root runs the tests; return its error, or nothing."""
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        error = ""
        try:
            os.umask(0o077)
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            call()
        except BaseException as raised:  # noqa: BLE001 - nothing of the tests may go on in this process
            error = str(raised) or repr(raised)
        os.write(writing, error.encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with os.fdopen(reading) as pipe:
        return pipe.read()


def test_a_link_in_the_way_is_replaced_and_not_followed(write: Callable[[Path], object], folder: Path) -> None:
    victim, shared = folder / "victim", folder / "shared"
    victim.write_text("as it was")
    victim.chmod(0o666)
    shared.mkdir()
    shared.chmod(0o777)
    path = shared / "a.prom"
    for name in ("a.prom", "a.prom.new", "a.prom.tmp", "a.tmp", ".a.prom", ".a.prom.new"):
        (shared / name).symlink_to(victim)
    assert without_rights(lambda: write(path)) == ""
    assert (victim.read_text(), victim.stat().st_mode & 0o777) == ("as it was", 0o666)
    assert path.lstat().st_mode & 0o777 == 0o644
    assert not path.is_symlink()
    assert re.fullmatch(r"(# (HELP|TYPE) .*\n){2}\w+(\{.*\})? \d+\n", path.read_text())
    assert len(list(shared.iterdir())) == 6, "nothing else is left"


def test_a_folder_that_is_not_the_user_s_is_an_error_and_stays_as_it_is(
    write: Callable[[Path], object], folder: Path
) -> None:
    folder.chmod(0o555)
    assert "Permission denied" in without_rights(lambda: write(folder / "a.prom"))
    assert list(folder.iterdir()) == []


def test_a_folder_that_has_the_file_s_name_is_an_error_that_says_what_to_do(folder: Path) -> None:
    path = folder / "a.prom"
    path.mkdir()
    with pytest.raises(ConfigError, match=r"a\.prom: cannot be written: .*; let the user that runs this write"):
        textfile.record_rotation(path, "aes256-key")
    assert [entry.name for entry in folder.iterdir()] == ["a.prom"]


def test_no_unit_runs_a_command_with_more_rights_than_its_user_has() -> None:
    """systemd.service(5): `+`, `!` and `!!` before a command."""
    units = [*(ROOT / "roles").glob("*/templates/*.service.j2")]
    assert {unit.name for unit in units} >= {"vault.service.j2", "vault-snapshot.service.j2", "rotation.service.j2"}
    privileged = re.compile(r"^Exec\w+\s*=\s*[-@:|]*[+!]", re.MULTILINE)
    assert [unit.name for unit in units if privileged.search(unit.read_text())] == []
