"""Searches of what programs make and delete meanwhile: folders of running servers, and the processes of a machine.

And of outputs for secrets, however they are written.
"""

from __future__ import annotations

import errno
import os
import stat
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESRCH, errno.ENODEV}
"""Errors of what has vanished since its name was read, in file systems of disks, of processes and of control groups."""

PIECE = 16
"""Characters of a secret that count as a part of it."""

_CHUNK = 1 << 20


def below(folder: Path) -> Iterator[Path]:
    """Yield what is below a folder, without what vanishes meanwhile.

    Raises:
        OSError: the folder does not exist, or something in it cannot be read.
    """

    def ignore_gone(error: OSError) -> None:
        if error.errno not in GONE or error.filename == str(folder):
            raise error

    for parent, folders, files in os.walk(folder, onerror=ignore_gone):
        yield from (Path(parent, name) for name in (*folders, *files))


def files_with(text: bytes, folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that hold a text."""
    for path in below(folder):
        try:
            if stat.S_ISREG(path.lstat().st_mode) and _holds(path, text):
                yield path
        except OSError as error:
            if error.errno not in GONE:
                raise


def processes() -> Iterator[tuple[int, str]]:
    """Yield the process IDs on this machine, each with its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield int(path.parent.name), path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError as error:
            if error.errno not in GONE:
                raise


def shows(output: str, secret: str) -> bool:
    """Whether an output has a secret, or a part of it such as a line, as it is or in base64 within any other text."""
    # Within another text, base64 has three ways to write it. The ends depend on what is beside it.
    encoded = (b64encode(bytes(shift) + secret.encode()).decode()[4:-4] for shift in range(3))
    return any(piece in output for text in (secret, *encoded) for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    return (text[start : start + PIECE] for start in range(0, len(text) - PIECE + 1, PIECE))


def _holds(path: Path, text: bytes) -> bool:
    """Whether a file holds a text. It is read, not mapped: a program may make it shorter meanwhile."""
    with path.open("rb") as file:
        end = b""
        while chunk := file.read(_CHUNK):
            if text in end + chunk:
                return True
            end = chunk[1 - len(text) :] if len(text) > 1 else b""
    return False
