"""Ports of loopback: chosen once, and kept from others until they are used, and while their server is down.

A port that is free when it is chosen is not when it is used, if others choose at the same time: other labs, and other
tests. So each port is claimed, by a symbolic link with its number that points to what it is for: the folder of a lab,
or a process. Without its target, a link claims nothing: nobody has to clear up.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .errors import LabError

# Below Linux' range for outgoing connections (32768, ip-sysctl's ip_local_port_range), so that no client's
# connection takes the port of a server that is down.
CANDIDATES = range(20000, 32000)


def is_free(port: int) -> bool:
    """Whether nothing is bound to this TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a free port, which nobody else gets until this process ends.

    Raises:
        LabError: no port is free.
    """
    with _claims() as claims:
        return _claim_free(claims, _this_process())


def choose(
    path: str | Path, names: Iterable[str], preferred: Mapping[str, int] | None = None, *, write: bool = True
) -> tuple[dict[str, int], bool]:
    """Return a port for each name: the one in the file, else a free one, which is kept for the file's folder.

    Args:
        path: JSON file, an object from name to port, in the folder of a lab; created if it is missing.
        names: the servers that need a port.
        preferred: the port that a server gets if it is free, by name.
        write: False to leave the file unchanged.

    Returns:
        The ports by name, and whether the file changed (or would change).

    Raises:
        LabError: no port is free.
    """
    file = Path(path).absolute()
    known: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    ports = dict(known)
    owner = file.parent if write else _this_process()
    with _claims() as claims:
        for port in known.values():
            _claim(claims, port, owner)
        for name in names:
            if name not in ports:
                wish = (preferred or {}).get(name)
                ports[name] = wish if wish and _claim_this(claims, wish, owner) else _claim_free(claims, owner)
    if ports == known:
        return ports, False
    if write:
        file.write_text(json.dumps(ports, indent=2) + "\n")
    return ports, True


@contextmanager
def _claims() -> Iterator[Path]:
    """Hold the folder of the claims, which one process at a time uses; each network namespace has its own."""
    network = Path("/proc/self/ns/net").stat().st_ino
    folder = Path(tempfile.gettempdir(), f"kubevault-ports-{os.getuid()}-{network}")
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(descriptor)


def _claim_free(claims: Path, owner: Path) -> int:
    for port in random.sample(CANDIDATES, len(CANDIDATES)):
        if _claim_this(claims, port, owner):
            return port
    raise LabError(f"no port from {CANDIDATES.start} to {CANDIDATES.stop - 1} is free")


def _claim_this(claims: Path, port: int, owner: Path) -> bool:
    """Claim a port that is free, and return whether it was."""
    if (claims / str(port)).exists() or not is_free(port):
        return False
    _claim(claims, port, owner)
    return True


def _claim(claims: Path, port: int, owner: Path) -> None:
    """Claim a port, unless something that exists has it."""
    claim = claims / str(port)
    if not claim.exists():
        claim.unlink(missing_ok=True)
        claim.symlink_to(owner)


def _this_process() -> Path:
    return Path(f"/proc/{os.getpid()}")
