"""The folder where the lab's programs are kept, shared by every lab of this user.

A program lies in it under its own name only when it is whole: it is made in a work folder and renamed into place. So a
name that is there needs no further check. One run at a time works for a project; the others wait for it.
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
    """The right to work for a project.

    Attributes:
        folder: empty folder for unfinished files; gone at the end.
        lock: file descriptor of the lock. A child that inherits it keeps others waiting should this process be killed.
    """

    folder: Path
    lock: int


@dataclass(frozen=True)
class Cache:
    """Programs by name and key, as `projects.Project.cache_key`.

    Attributes:
        folder: where they are kept; made when something is put into it.
    """

    folder: Path

    def path(self, program: str, key: str) -> Path:
        """Return the place of a program, whether it is there or not."""
        return self.folder / "-".join((program, key, *target_platform()))

    def find(self, program: str, key: str) -> Path | None:
        """Return the path of a program that is there."""
        path = self.path(program, key)
        return path if os.access(path, os.X_OK) else None

    @contextmanager
    def exclusive(
        self, project: str, waiting: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> Iterator[Work]:
        """Work for a project while no one else does.

        Args:
            project: whose programs are to be made.
            waiting: entered while another run has to be waited for.

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
                # A run that was killed leaves it.
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(mode=0o700)
                yield Work(folder, lock.fileno())
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                # Closing would not do: a child's child may still hold the descriptor (flock(2)).
                fcntl.flock(lock, fcntl.LOCK_UN)

    def install(self, file: Path, program: str, key: str) -> Path:
        """Put a finished file of the work folder in its place, as a whole or not at all, even if the power fails.

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
