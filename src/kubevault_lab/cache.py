"""The cache of the lab's programs, shared by all labs of a user.

A program has its own name in it only when it is complete: it is written in a work folder and renamed into place, so an
existing name needs no further check. One process at a time works on a project; the others wait for it.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

# Go's names (`go tool dist list`), which upstream's releases use too.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def target_platform() -> tuple[str, str]:
    """Return this machine's operating system and architecture as Go names them, such as ("linux", "amd64")."""
    machine = platform.machine()
    return platform.system().lower(), _ARCHITECTURES.get(machine, machine)


@dataclass(frozen=True)
class Work:
    """The exclusive right to provide a project's programs.

    Attributes:
        folder: empty folder for unfinished files; deleted at the end.
        lock: file descriptor of the lock. A child process that inherits it keeps the lock if this process is killed.
    """

    folder: Path
    lock: int


@dataclass(frozen=True)
class Cache:
    """Programs by name and key; see `projects.Project.cache_key`.

    Attributes:
        folder: the folder; created when the first program is installed.
    """

    folder: Path

    def path(self, program: str, key: str) -> Path:
        """Return the path of a program, whether it exists or not."""
        return self.folder / "-".join((program, key, *target_platform()))

    def find(self, program: str, key: str) -> Path | None:
        """Return the path of a program; None if it does not exist."""
        path = self.path(program, key)
        return path if os.access(path, os.X_OK) else None

    @contextmanager
    def exclusive(
        self, project: str, waiting: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> Iterator[Work]:
        """Hold the lock of a project, and have an empty work folder meanwhile.

        Args:
            project: name of the project.
            waiting: context manager to enter while another process holds the lock.

        Raises:
            OSError: the cache cannot be written.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = self.folder / f".{project}.partial"
        with (self.folder / f".{project}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with waiting():
                    fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                # A process that was killed leaves it.
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(mode=0o700)
                yield Work(folder, lock.fileno())
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                # Closing the file is not enough: a descendant may still hold the descriptor (flock(2)).
                fcntl.flock(lock, fcntl.LOCK_UN)

    def install(self, file: Path, program: str, key: str) -> Path:
        """Move a finished file of the work folder to its path, atomically and durably.

        Raises:
            OSError: the cache cannot be written.
        """
        path = self.path(program, key)
        file.chmod(0o755)
        _sync(file)
        file.replace(path)
        _sync(self.folder)
        return path


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
