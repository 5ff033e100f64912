"""Telling a program that its files changed: by a signal, or by a request to its own loopback address."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import ConfigError
from ..servers.connection import LimitedConnection

Notify = Callable[[], None]
"""Notifies a program; raises `NotNotified`."""

ATTEMPTS = 5
"""How often a request is sent until the program answers with a status of success."""

TIMEOUT = 5.0
"""Time that one request may take, in seconds."""

_ANSWER = 64 * 1024  # bytes of the answer's headers; its body is not read

_PAUSE = 0.5  # seconds, doubled after each attempt
_PROC = Path("/proc")
_COMM = 15  # characters of a program's name that the kernel keeps


class NotNotified(Exception):
    """The program was not notified; its files are new all the same."""


def by_signal(name: str, process: str) -> Notify:
    """Return what sends a signal to the processes with a name; of a parent and its children, to the parent.

    The containers of the pod need one process namespace (``shareProcessNamespace``) and one user.

    Args:
        name: the signal's name, as HUP or SIGHUP.
        process: name of the program, without its folder.

    Raises:
        ConfigError: there is no such signal.
    """
    number = getattr(signal, f"SIG{name.upper().removeprefix('SIG')}", None)
    if not isinstance(number, signal.Signals):
        raise ConfigError(f"signal: found {name!r}; allowed is a name, as HUP or USR1")

    def notify() -> None:
        parents = dict(_processes(process))
        if not parents:
            raise NotNotified(f"there is no process {process}; the pod needs shareProcessNamespace")
        for pid, parent in parents.items():
            if parent not in parents:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue  # it ended just now; a new one reads the new files
                except PermissionError:
                    raise NotNotified(
                        f"process {process} does not take a signal from user {os.geteuid()}; run both containers as one"
                    ) from None

    return notify


def by_request(url: str) -> Notify:
    """Return what sends a POST without content to an address of this pod's loopback, until it succeeds.

    Args:
        url: ``http://127.0.0.1:PORT/PATH``.

    Raises:
        ConfigError: it is another address.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not _is_loopback(parts.hostname or "") or parts.username:
        raise ConfigError(
            f"notify-url: found {parts.scheme}://{parts.hostname}; allowed is http:// and a loopback address"
        )
    host, port, path = parts.hostname or "", parts.port or 80, parts.path or "/"
    if parts.query:
        path += f"?{parts.query}"

    def notify() -> None:
        for attempt in range(ATTEMPTS):
            problem = _posted(host, port, path)
            if not problem:
                return
            if attempt + 1 < ATTEMPTS:
                time.sleep(_PAUSE * 2**attempt)
        raise NotNotified(f"{parts.hostname}:{port} does not take the notice: {problem}")

    return notify


def _posted(host: str, port: int, path: str) -> str:
    """Send one request; return what is wrong, or an empty text."""
    connection = LimitedConnection(host, port)
    connection.limits.begin(TIMEOUT, _ANSWER)
    try:
        connection.request("POST", path)
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()
    return "" if 200 <= status < 300 else f"status {status}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _processes(name: str) -> Iterator[tuple[int, int]]:
    """Yield process and parent of the processes with a name, except this one."""
    for folder in _PROC.iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        try:
            program = (folder / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
            before, _, after = (folder / "stat").read_text(errors="replace").rpartition(")")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended
        if name == program.rpartition("/")[2] or name[:_COMM] == before.partition("(")[2]:
            yield int(folder.name), int(after.split()[1])
