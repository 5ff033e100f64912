"""Files that are replaced all at once, on a real tmpfs."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from secretmanager.delivery.volume import (
    DATA,
    Change,
    File,
    default_mode,
    is_written,
    put_program,
    require_folder,
    write,
)
from secretmanager.errors import ConfigError


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder on a tmpfs, as kubelet makes an emptyDir without an fsGroup."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        Path(path).chmod(0o777)
        yield Path(path)


def shown(folder: Path) -> dict[str, bytes]:
    """Return what a program sees that does not look at names with two dots."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for top in folder.iterdir()
        if not top.name.startswith("..")
        for path in ([top] if top.is_file() else top.rglob("*"))
        if path.is_file()
    }


def generations(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]


def test_the_layout_of_kubelet(folder: Path) -> None:
    assert not is_written(folder)
    assert write(folder, {"a": File(b"1"), "b/c": File(b"2")}) == Change(("a", "b/c"))
    assert is_written(folder)
    assert (folder / "a").readlink() == Path("..data/a")
    assert (folder / "b").readlink() == Path("..data/b")
    assert [folder / (folder / DATA).readlink()] == generations(folder)
    assert shown(folder) == {"a": b"1", "b/c": b"2"}


def test_what_is_removed_is_gone(folder: Path) -> None:
    write(folder, {"a": File(b"1"), "b/c": File(b"2"), "b/d": File(b"3")})
    change = write(folder, {"a": File(b"4"), "b/d": File(b"3")})
    assert (change, str(change)) == (Change(("a",), ("b/c",)), "wrote a; removed b/c")
    write(folder, {"a": File(b"4")})
    assert shown(folder) == {"a": b"4"}
    assert not os.path.lexists(folder / "b")
    found = {path.relative_to(each) for each in generations(folder) for path in each.rglob("*") if path.is_file()}
    assert found == {Path("a")}


def test_what_was_replaced_stays_until_the_next_write(folder: Path) -> None:
    """For a reader who has followed the link and not opened the file yet."""
    write(folder, {"a": File(b"1")})
    before = (folder / DATA).resolve()
    write(folder, {"a": File(b"2")})
    assert (before / "a").read_bytes() == b"1"
    assert not write(folder, {"a": File(b"2")})
    assert generations(folder) == [(folder / DATA).resolve()]


def test_what_is_as_wanted_is_not_written(folder: Path) -> None:
    write(folder, {"a": File(b"1")})
    before = (folder / DATA).readlink()
    assert not write(folder, {"a": File(b"1")})
    assert (folder / DATA).readlink() == before
    assert write(folder, {"a": File(b"1", 0o400)}) == Change(("a",))


def test_modes(folder: Path) -> None:
    before = os.umask(0o077)
    try:
        write(folder, {"a/b/c": File(b""), "x": File(b"", 0o600)})
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((folder / name).stat().st_mode) for name in (DATA, "a", "a/b", "a/b/c", "x")}
    assert modes == {DATA: 0o755, "a": 0o755, "a/b": 0o755, "a/b/c": 0o444, "x": 0o600}


def test_an_fs_group(folder: Path) -> None:
    """Kubelet gives the volume to the group and sets the bit by which what is in it belongs to the group too."""
    if os.geteuid() == 0:
        os.chown(folder, -1, 2000)
    folder.chmod(0o2777)
    group = folder.stat().st_gid
    assert default_mode(folder) == 0o440
    assert write(folder, {"a/b": File(b"")})
    assert not write(folder, {"a/b": File(b"")})
    found = (folder / "a/b").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o440, group)


AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may be other users, and give files away")


def as_user(user: int, groups: list[int], code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code as another user, as kubelet starts a container: in the groups that it has, without capabilities."""
    code = (
        "import os, sys; from pathlib import Path; from secretmanager.delivery.volume import File, write\n"
        "folder = Path(sys.argv[1])\n"
        f"os.setgroups({groups}); os.setgid({user}); os.setuid({user})\n{code}"
    )
    return subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=False)


@AS_ROOT
def test_two_users_and_an_fs_group(folder: Path) -> None:
    """The image's user writes, the program's reads through the group, and nobody else does."""
    os.chown(folder, 0, 2000)
    folder.chmod(0o2777)
    for text in ("1", "2"):
        done = as_user(65532, [2000], f"assert write(folder, {{'a/b': File(b'{text}')}})", folder)
        assert done.returncode == 0, done.stderr
        read = "print((folder / 'a/b').read_text())"
        assert as_user(1000, [2000], read, folder).stdout == f"{text}\n"
        assert "PermissionError" in as_user(1001, [], read, folder).stderr
    found = (folder / "a/b").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (65532, 2000, 0o440)
    assert len(generations(folder)) == 2


@AS_ROOT
def test_two_users_without_an_fs_group(folder: Path) -> None:
    done = as_user(65532, [], "assert write(folder, {'a': File(b'1')})", folder)
    assert done.returncode == 0, done.stderr
    assert as_user(1000, [], "print((folder / 'a').read_text())", folder).stdout == "1\n"
    assert "PermissionError" in as_user(1000, [], "(folder / 'a').open('w')", folder).stderr


@AS_ROOT
def test_an_owner(folder: Path) -> None:
    files = {"a": File(b"1", 0o400, (1000, 2000))}
    assert write(folder, files)
    found = (folder / "a").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1000, 2000, 0o400)
    assert not write(folder, files)


@AS_ROOT
def test_an_owner_that_cannot_be_set(folder: Path) -> None:
    write(folder, {"a": File(b"1")})
    done = as_user(65532, [], "write(folder, {'a': File(b'2', None, (0, 0))})", folder)
    assert "ConfigError: a: owner: 0:0 cannot be set by user" in done.stderr
    assert shown(folder) == {"a": b"1"}
    assert len(generations(folder)) == 1


def test_what_a_killed_write_left_is_removed(folder: Path) -> None:
    write(folder, {"a": File(b"1")})
    left = folder / "..2026_11_26_03_30_00.abcdefgh"
    left.mkdir()
    (left / "a").write_bytes(b"2")
    (folder / "..data_tmp").symlink_to(left.name)
    (folder / "a").unlink()
    (folder / "gone").symlink_to("..data/gone")
    assert not write(folder, {"a": File(b"1")})
    assert shown(folder) == {"a": b"1"}
    assert not os.path.lexists(left)
    assert not os.path.lexists(folder / "gone")


def test_a_write_that_fails_leaves_all_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, {"a": File(b"1")})
    before = {path.name: path.lstat() for path in folder.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("secretmanager.delivery.volume._create", full)
    with pytest.raises(ConfigError, match="cannot be written: No space left"):
        write(folder, {"a": File(b"2"), "new": File(b"3")})
    assert {path.name: path.lstat().st_ino for path in folder.iterdir()} == {
        name: found.st_ino for name, found in before.items()
    }
    assert shown(folder) == {"a": b"1"}


def test_files_of_others_stay(folder: Path) -> None:
    (folder / "other").write_bytes(b"x")
    write(folder, {"a": File(b"1")})
    assert shown(folder) == {"a": b"1", "other": b"x"}
    with pytest.raises(ConfigError, match="other: is there, and was not written by kubevault; name another path"):
        write(folder, {"other": File(b"1")})
    assert shown(folder) == {"a": b"1", "other": b"x"}


def test_a_reader_never_sees_a_part(folder: Path) -> None:
    """A process opens and reads a file in a loop while it changes: it is always there, whole, and of one write."""
    size = 100_000
    write(folder, {"a": File(b"0" * size)})
    code = (
        "import sys\n"
        "text = ''\n"
        "while '9' not in text:\n"
        "    text = open(sys.argv[1] + '/a').read()\n"
        f"    assert len(text) == {size} and len(set(text)) == 1, (len(text), set(text))\n"
        "    print(text[0], flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout
        for number in [*(n % 9 for n in range(200)), 9]:
            write(folder, {"a": File(str(number).encode() * size)})
            # One write may overtake a reader, who then still finds the file; two may not.
            assert f"{number}\n" in reader.stdout
    assert reader.returncode == 0


def test_a_program_is_copied_once_while_it_runs(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "kubevault-exec"
    source.write_bytes(Path("/bin/sleep").read_bytes())
    put_program(folder, source)
    target = folder / source.name
    assert stat.S_IMODE(target.stat().st_mode) == 0o555
    with subprocess.Popen([target, "1000"]) as running:
        inode = target.stat().st_ino
        put_program(folder, source)
        assert target.stat().st_ino == inode
        source.write_bytes(Path("/bin/cat").read_bytes())
        put_program(folder, source)
        assert target.read_bytes() == source.read_bytes()
        running.kill()
    assert list(folder.iterdir()) == [target]
    with pytest.raises(ConfigError, match="nosuch: the program cannot be copied: No such file"):
        put_program(folder, tmp_path / "nosuch")


def test_a_disk_is_refused(folder: Path) -> None:
    require_folder(folder)
    with pytest.raises(ConfigError, match="/usr: is not on a tmpfs, so files there would reach a disk"):
        require_folder(Path("/usr"))
    with pytest.raises(ConfigError, match="nosuch: is not a folder"):
        require_folder(folder / "nosuch")
