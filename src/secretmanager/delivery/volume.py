"""Files in a volume, replaced all at once as kubelet does, so that no reader ever sees one half-written or missing.

    FOLDER/password         -> ..data/password       what programs open
    FOLDER/..data           -> ..2026_11_26_03_30_00.x8w2h1c0, and is replaced by a rename
    FOLDER/..2026_11_26_03_30_00.x8w2h1c0/password   the file

Unlike kubelet, it keeps the folder that it replaced, without removed files, until the next write: a reader may have
followed ``..data`` just before, and be about to open a file there.

Source: https://pkg.go.dev/k8s.io/kubernetes/pkg/volume/util#AtomicWriter
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigError

DATA = "..data"
"""The symbolic link that is replaced."""

_GENERATION = "..%Y_%m_%d_%H_%M_%S."
_GENERATIONS = re.compile(r"\.\.\d{4}(_\d\d){5}\.")

_State = tuple[bytes, int, int, int]  # content, mode, user, group


@dataclass(frozen=True)
class File:
    """A file to be written.

    Attributes:
        content: its content.
        mode: its permission bits; None for those of `default_mode`.
        owner: numbers of its user and its group; None for those of this process and of the folder.
    """

    content: bytes = field(repr=False)
    mode: int | None = None
    owner: tuple[int, int] | None = None


@dataclass(frozen=True)
class Change:
    """What a write changed, by the files' paths; it is false if nothing was."""

    written: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return bool(self.written or self.removed)

    def __str__(self) -> str:
        """Name what changed."""
        parts = [f"wrote {', '.join(self.written)}"] if self.written else []
        return "; ".join([*parts, f"removed {', '.join(self.removed)}"] if self.removed else parts)


def write(folder: Path, files: Mapping[str, File]) -> Change:
    """Write all files of a folder at once; those that an earlier write left there and that are not named are removed.

    If the content, modes and owners are as wanted, nothing is written.

    Args:
        folder: the folder; it has to exist. Files of others in it stay.
        files: by path in the folder. No part of a path may begin with two dots.

    Raises:
        ConfigError: a path is taken by something else, the folder cannot be written, or an owner cannot be set.
    """
    names = {path.partition("/")[0] for path in files}
    for name in sorted(names):
        _check_free(folder, name)
    before = {path: _state(file) for path, file in _files(folder / DATA)}
    default = default_mode(folder)
    desired = {path: _desired(file, default, folder) for path, file in files.items()}
    change = Change(
        tuple(sorted(path for path, state in desired.items() if before.get(path) != state)),
        tuple(sorted(before.keys() - desired.keys())),
    )
    links = [folder / name for name in names if not (folder / name).is_symlink()]
    try:
        replaced = _generation(folder) if is_written(folder) else ""
        try:
            # Links lead nowhere until the data is there, so that all new files appear at the same moment.
            for link in links:
                link.symlink_to(f"{DATA}/{link.name}")
            if change or not replaced:
                _replace(folder, files, default)
        except BaseException:
            for link in links:
                link.unlink(missing_ok=True)
            raise
        for path in change.removed:
            (folder / replaced / path).unlink()
        _sweep(folder, names, {replaced, _generation(folder)})
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: cannot be written: {error.strerror}") from error
    return change


def is_written(folder: Path) -> bool:
    """Whether the files are there, all of them."""
    return (folder / DATA).is_dir()


def require_program(source: Path) -> None:
    """Check that there is a program to copy.

    Raises:
        ConfigError: there is none.
    """
    if not source.is_file():
        raise ConfigError(f"{source}: the program cannot be copied: No such file or directory")


def put_program(folder: Path, source: Path) -> None:
    """Copy a program into a folder, unless it is there already. It may be running there.

    Raises:
        ConfigError: there is no such program, or the folder cannot be written.
    """
    target, new = folder / source.name, folder / f"..{source.name}"
    try:
        if target.is_file() and filecmp.cmp(source, target, shallow=False):
            return
        shutil.copyfile(source, new)
        new.chmod(0o555)
        new.replace(target)
    except OSError as error:
        raise ConfigError(f"{error.filename}: the program cannot be copied: {error.strerror}") from error


def default_mode(folder: Path) -> int:
    """Return the mode of files that name none, as kubelet chooses it for the tokens that it mounts.

    With an fsGroup, kubelet makes the volume's folder set-group-ID: the group is the pod's, and may read. Without one,
    the programs of the pod may have other users and groups, so that all may read: those who mount the volume.
    """
    return 0o440 if folder.stat().st_mode & stat.S_ISGID else 0o444


def require_folder(path: Path, *, on_disk: bool = False) -> None:
    """Check that there is a folder, and that what is written to it stays in memory.

    Args:
        path: the folder.
        on_disk: whether it may be on another file system than a tmpfs.

    Raises:
        ConfigError: it is not a folder, or not on a tmpfs.
    """
    if not path.is_dir():
        raise ConfigError(f"{path}: is not a folder")
    if not on_disk and not is_tmpfs(path):
        raise ConfigError(f"{path}: is not on a tmpfs, so files there would reach a disk", remedy="name another folder")


def is_tmpfs(path: Path) -> bool:
    """Whether a folder is on a tmpfs or ramfs, by the longest mount point that holds it (proc_pid_mountinfo(5))."""
    real, best, kind = path.resolve(), "", ""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        mount_fields, _, filesystem_fields = line.partition(" - ")
        mount_point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), mount_fields.split()[4])
        if real.is_relative_to(mount_point) and len(mount_point) >= len(best):
            best, kind = mount_point, filesystem_fields.split()[0]
    return kind in ("tmpfs", "ramfs")


def _check_free(folder: Path, name: str) -> None:
    path = folder / name
    ours = path.is_symlink() and path.readlink() == Path(DATA, name)
    if not ours and os.path.lexists(path):
        raise ConfigError(f"{path}: is there, and was not written by kubevault", remedy="name another path")


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*") if folder.is_dir() else ():
        if path.is_file():
            yield str(path.relative_to(folder)), path


def _state(path: Path) -> _State | None:
    status = path.stat()
    try:
        return path.read_bytes(), stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
    except PermissionError:
        return None  # not ours any more, or of a mode without "read": it is written again


def _desired(file: File, default: int, folder: Path) -> _State:
    folder_status = folder.stat()
    own = os.geteuid(), folder_status.st_gid if folder_status.st_mode & stat.S_ISGID else os.getegid()
    return file.content, default if file.mode is None else file.mode, *(file.owner or own)


def _replace(folder: Path, files: Mapping[str, File], default: int) -> None:
    new = Path(tempfile.mkdtemp(prefix=time.strftime(_GENERATION), dir=folder))
    try:
        # mkdtemp's mode is 0700; a set-group-ID bit, which new folders inherit, has to stay.
        inherited = new.stat().st_mode & stat.S_ISGID
        new.chmod(0o755 | inherited)
        for path, file in files.items():
            target = new / path
            for parent in reversed(target.relative_to(new).parents[:-1]):
                (new / parent).mkdir(exist_ok=True)
                (new / parent).chmod(0o755 | inherited)
            _create(target, file, default)
        link = folder / f"{DATA}_tmp"
        link.unlink(missing_ok=True)
        link.symlink_to(new.name)
        link.replace(folder / DATA)
    except BaseException:
        shutil.rmtree(new)
        raise


def _create(path: Path, file: File, default: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(file.content)
        if file.owner:
            try:
                os.fchown(descriptor, *file.owner)
            except PermissionError:
                number = ":".join(map(str, file.owner))
                raise ConfigError(
                    f"{path.name}: owner: {number} cannot be set by user {os.geteuid()}",
                    remedy="run the container as that user, or set fsGroup and leave the owner out",
                ) from None
        os.fchmod(descriptor, default if file.mode is None else file.mode)


def _generation(folder: Path) -> str:
    return (folder / DATA).readlink().name


def _sweep(folder: Path, names: set[str], current_generations: set[str]) -> None:
    """Remove links to what is no longer there, and folders that other writes, also killed ones, left behind."""
    for path in folder.iterdir():
        if path.is_symlink() and path.name not in names and path.readlink() == Path(DATA, path.name):
            path.unlink()
        elif _GENERATIONS.match(path.name) and path.name not in current_generations:
            shutil.rmtree(path)
