"""The lab's ports: chosen once, kept in one file."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Collection, Iterable
from pathlib import Path

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


_returned: set[int] = set()


def free_port(taken: Collection[int] = ()) -> int:
    """Return a free port that is none of those taken, and that this process did not get before, but may not use yet."""
    shuffled = random.sample(CANDIDATES, len(CANDIDATES))
    port = next(port for port in shuffled if port not in taken and port not in _returned and is_free(port))
    _returned.add(port)
    return port


def choose(path: str | Path, names: Iterable[str], *, write: bool = True) -> tuple[dict[str, int], bool]:
    """Return a port for each name: the one in the file, else a free one.

    Args:
        path: JSON file, an object from name to port; created if it is missing.
        names: the servers that need a port.
        write: False to leave the file unchanged.

    Returns:
        The ports by name, and whether the file changed (or would change).
    """
    file = Path(path)
    known: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    ports = dict(known)
    for name in names:
        if name not in ports:
            ports[name] = free_port(ports.values())
    if ports == known:
        return ports, False
    if write:
        file.write_text(json.dumps(ports, indent=2) + "\n")
    return ports, True
