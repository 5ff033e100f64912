"""The program of roles/vault-snapshot: which snapshots are kept, which are damaged, and what is too old."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support import snapshot_program

FILES = {"meta.json": b'{"Index": 7}', "state.bin": os.urandom(200_000)}
NOON = datetime(2026, 3, 31, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return snapshot_program.load()


def snapshot(**sums: str | None) -> bytes:
    """Return a snapshot in Vault's format, with other checksums than those of its files; None leaves one out."""
    correct = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    listed = {**correct, **{name.replace("_", "."): digest for name, digest in sums.items()}}
    text = "".join(f"{digest}  {name}\n" for name, digest in listed.items() if digest)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in {**FILES, "SHA256SUMS": text.encode(), "SHA256SUMS.sealed": b"sealed"}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def configuration(folder: Path, **changed: Any) -> dict[str, Any]:
    return {"folder": str(folder), "metrics": f"{folder}/metrics.prom", "max_age": 3600, **changed}


def test_a_snapshot_is_encrypted_as_it_came(program: ModuleType, tmp_path: Path) -> None:
    whole = snapshot()
    assert program.encrypt(io.BytesIO(whole), ["cat"], tmp_path / "out") == len(whole)
    assert (tmp_path / "out").read_bytes() == whole


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (snapshot(state_bin="0" * 64), "state.bin does not have its checksum"),
        (snapshot(meta_json=None), "no checksum of meta.json"),
        (snapshot(other="0" * 64), "other does not have its checksum"),
        (snapshot()[:-100_000], "incomplete or damaged"),
        (snapshot()[:-4], "incomplete or damaged"),
        (snapshot()[:-8] + b"\0" * 8, "incomplete or damaged"),
        (gzip.compress(b""), "incomplete"),
        (b'{"errors": []}', "incomplete or damaged"),
        (b"", "incomplete"),
    ],
    ids=["content", "unlisted", "missing", "half", "end", "crc", "empty", "no snapshot", "nothing"],
)
def test_a_damaged_snapshot_is_refused(program: ModuleType, tmp_path: Path, damaged: bytes, said: str) -> None:
    with pytest.raises(program.SnapshotError, match=said):
        program.encrypt(io.BytesIO(damaged), ["cat"], tmp_path / "out")


@pytest.mark.parametrize("command", [["false"], ["true"], ["sh", "-c", "cat; exit 3"]])
def test_a_program_that_does_not_encrypt_all_is_an_error(
    program: ModuleType, tmp_path: Path, command: list[str]
) -> None:
    with pytest.raises(program.SnapshotError, match=f"^{command[0]} could not encrypt"):
        program.encrypt(io.BytesIO(snapshot()), command, tmp_path / "out")


def test_the_last_of_each_day_week_and_month_is_kept(program: ModuleType) -> None:
    taken = [NOON - timedelta(hours=12 * step) for step in range(200)]
    kept = program.kept(taken, {"days": 3, "weeks": 2, "months": 3})
    assert sorted(kept, reverse=True) == [
        NOON,
        NOON - timedelta(days=1),
        NOON - timedelta(days=2),  # Sunday: the last of the week before, too
        datetime(2026, 2, 28, 12, tzinfo=UTC),
        datetime(2026, 1, 31, 12, tzinfo=UTC),
    ]


def test_the_newest_is_kept_in_any_case(program: ModuleType) -> None:
    nothing = {"days": 0, "weeks": 0, "months": 0}
    assert program.kept([NOON - timedelta(days=400), NOON], nothing) == {NOON}
    assert program.kept([], nothing) == set()


def test_periods_without_a_snapshot_do_not_count(program: ModuleType) -> None:
    taken = [NOON - timedelta(days=100 * step) for step in range(3)]
    assert program.kept(taken, {"days": 3, "weeks": 0, "months": 0}) == set(taken)


def test_other_files_of_the_folder_are_not_snapshots(program: ModuleType, tmp_path: Path) -> None:
    for name in ("vault-20260331T120000Z.snap.age", "vault-mine.snap.age", ".vault-20260401T120000Z.snap.age", "x"):
        (tmp_path / name).touch()
    assert list(program.taken(tmp_path)) == [NOON]


def test_a_host_without_a_snapshot_fails_the_check(program: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(program.SnapshotError, match="there is no snapshot"):
        program.check(configuration(tmp_path))


@pytest.mark.parametrize("age", [timedelta(minutes=1), timedelta(hours=2)])
def test_the_check_fails_once_the_newest_is_too_old(program: ModuleType, tmp_path: Path, age: timedelta) -> None:
    (tmp_path / (datetime.now(UTC) - age).strftime("vault-%Y%m%dT%H%M%SZ.snap.age")).touch()
    if age < timedelta(hours=1):
        assert "the last snapshot was taken 0:01:0" in program.check(configuration(tmp_path))
    else:
        with pytest.raises(program.SnapshotError, match=r"taken 2:00:0. ago, allowed is 1:00:00"):
            program.check(configuration(tmp_path))


@pytest.mark.parametrize(
    ("answer", "leads"),
    [(b'{"is_self": true}', True), (b'{"is_self": false}', False), (b'{"ha_enabled": true}', False)],
)
def test_openbao_leaves_out_that_a_node_does_not_lead(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, answer: bytes, leads: bool
) -> None:
    vault = program.Vault("https://vault.example.org:8200", None, "", 1)
    monkeypatch.setattr(vault, "open", lambda method, path: io.BytesIO(answer))
    assert vault.leads() is leads


def test_a_standby_needs_no_snapshot_as_long_as_it_looks_who_leads(program: ModuleType, tmp_path: Path) -> None:
    (tmp_path / ".standby").touch()
    program.check(configuration(tmp_path))
    two_hours_ago = datetime.now(UTC).timestamp() - 7200
    os.utime(tmp_path / ".standby", (two_hours_ago, two_hours_ago))
    with pytest.raises(program.SnapshotError, match="the last look at who leads was 2:00:0"):
        program.check(configuration(tmp_path))


def test_metrics_are_replaced_at_once(program: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "metrics.prom").write_text("old")
    program.write_metrics(tmp_path / "metrics.prom", {"size_bytes": ("Its size.", 12.0)})
    assert (tmp_path / "metrics.prom").read_text() == (
        "# HELP vault_snapshot_size_bytes Its size.\n"
        "# TYPE vault_snapshot_size_bytes gauge\n"
        "vault_snapshot_size_bytes 12\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.prom"]


OLD = {
    (datetime.now(UTC) - timedelta(days=days)).strftime("vault-%Y%m%dT%H%M%SZ.snap.age"): days for days in (1, 2, 40)
}
"""Names of snapshots that were taken before, and how many days ago."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of snapshots, with those of some days, their metrics and a file of somebody else's."""
    made = tmp_path / "snapshots"
    made.mkdir()
    for name in (*OLD, "metrics.prom", "vault-mine.snap.age"):
        (made / name).write_text(f"old {name}")
    return made


@pytest.fixture
def take(program: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the program on the host of the leader, which sends this snapshot; returns its status."""

    def take(stream: bytes, **changed: Any) -> int:
        answers = {
            "sys/leader": b'{"is_self": true}',
            "auth/token/renew-self": b"{}",
            "sys/storage/raft/snapshot": stream,
        }
        monkeypatch.setattr(program.Vault, "open", lambda vault, method, path: io.BytesIO(answers[path]))
        token, file = folder.with_name("token"), folder.with_name("configuration.json")
        token.write_text("hvs.snapshots")
        settings: dict[str, Any] = {
            **{"url": "https://vault.example.org:8200", "ca_cert": None, "token_file": str(token), "timeout": 1},
            **{"encrypt": ["cat"], "suffix": ".age", "copy": [], "keep": {"days": 2, "weeks": 0, "months": 0}},
            **changed,
        }
        file.write_text(json.dumps(configuration(folder, **settings)))
        umask = os.umask(0o022)
        try:
            return int(program.main(["take", str(file)]))
        finally:
            os.umask(umask)

    return take


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("stream", "encrypt"),
    [
        (snapshot(state_bin="0" * 64), ["cat"]),
        (snapshot()[:-100_000], ["cat"]),
        (snapshot(), ["false"]),
        (snapshot(), ["sh", "-c", "cat; exit 3"]),
        (snapshot(), ["/nonexistent/age"]),
    ],
    ids=["damaged", "half", "not encrypted", "encrypted in vain", "no program"],
)
def test_a_snapshot_that_fails_leaves_all_as_it_was(
    take: Callable[..., int], folder: Path, capsys: pytest.CaptureFixture[str], stream: bytes, encrypt: list[str]
) -> None:
    before = contents(folder)
    assert take(stream, encrypt=encrypt) == 1
    assert capsys.readouterr().err.startswith("vault-snapshot: ")
    assert contents(folder) == before


def test_a_snapshot_gets_its_name_at_the_end_and_then_old_ones_are_deleted(
    take: Callable[..., int], folder: Path, tmp_path: Path
) -> None:
    def looking(name: str) -> str:
        return f"ls -A {folder} > {tmp_path / name}"

    def seen(name: str) -> set[str]:
        return set((tmp_path / name).read_text().split())

    before, stream = contents(folder), snapshot()
    encrypt, copy = f"cat && {looking('encrypting')}", f"{looking('copying')} && cp {folder}/metrics.prom {tmp_path}"
    assert take(stream, encrypt=["sh", "-c", encrypt], copy=["sh", "-c", copy]) == 0
    after = contents(folder)
    (new,) = after.keys() - before.keys()
    assert after[new] == stream
    assert seen("encrypting") == {*before, f".{new}"}
    # Of the last two days with a snapshot; and what the program did not take stays.
    assert before.keys() - after.keys() == {name for name, days in OLD.items() if days > 1}
    assert seen("copying") == set(after)
    assert (tmp_path / "metrics.prom").read_bytes() == before["metrics.prom"]
    assert f"vault_snapshot_size_bytes {len(after[new])}".encode() in after["metrics.prom"]


def test_metrics_that_cannot_be_written_fail_the_unit_and_the_snapshot_stays(
    take: Callable[..., int], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(folder)
    assert take(snapshot(), metrics=str(tmp_path / "none/vault-snapshot.prom")) == 1
    said = capsys.readouterr().err
    (new,) = contents(folder).keys() - before.keys()
    assert f"{new} was taken, but {tmp_path}/none/vault-snapshot.prom not written: No such file or directory" in said
    assert contents(folder)["metrics.prom"] == before["metrics.prom"]
