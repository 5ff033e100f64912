"""Files that hold a secret: mode 0600, complete or not created at all."""

from __future__ import annotations

import glob
import os
import stat
import tempfile
from pathlib import Path
from typing import Self

from ..errors import ConfigError

MODE = 0o600
# Bytes, more than keys or a token ever take; reserved before they exist.
_ROOM = 64 * 1024


class PrivateFile:
    """A file to be written, whose folder, permissions and disk space are checked before its content exists.

    Its content cannot be obtained again (Vault returns unseal keys once), so everything that can be checked is checked
    before. Until `commit`, nothing exists under the file's own name. In a ``with`` statement, it leaves nothing behind
    if `commit` was not reached; `unfinished` finds what a process left that was killed.

    Args:
        path: where the file will be. Its folder must exist.

    Raises:
        ConfigError: the folder is missing, not writable or full.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        check_folder(path)
        try:
            self._fd, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")  # mode 0600
            self._temporary = Path(name)
            os.posix_fallocate(self._fd, 0, _ROOM)
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written: {error.strerror}") from error
        self._discard = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        if self._discard:
            self._temporary.unlink()

    def leave(self) -> None:
        """Leave the temporary file for `unfinished`, as if the process was killed now."""
        self._discard = False

    def commit(self, content: str) -> None:
        """Write the content and rename the file to its own name, which replaces an existing file.

        A failure leaves the temporary file, with the part of the content that was written.
        """
        self._discard = False
        os.truncate(self._fd, os.pwrite(self._fd, content.encode(), 0))
        os.fsync(self._fd)
        self._temporary.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def unfinished(path: str | Path) -> list[Path]:
    """Return the temporary files of a `PrivateFile` that was neither committed nor discarded."""
    return sorted(Path(path).parent.glob(f".{glob.escape(Path(path).name)}.????????"))


def read_private(path: str | Path) -> str | None:
    """Return a file's text without the white space around it; None if it is missing or empty.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        return Path(path).read_text().strip() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def file_mode(path: str | Path) -> int:
    """Return a file's permission bits."""
    return stat.S_IMODE(Path(path).stat().st_mode)


def check_folder(path: str | Path) -> None:
    """Raise ConfigError if a file could not be created at this path; for check mode, which creates none."""
    folder = Path(path).parent
    if not os.access(folder, os.W_OK | os.X_OK):
        reason = "is not writable" if folder.exists() else "does not exist"
        raise ConfigError(f"{path}: cannot be written: its folder {reason}")
