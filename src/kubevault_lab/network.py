"""Network namespaces (network_namespaces(7)) of a process, by file descriptors.

os.setns and os.unshare exist from Python 3.12 on.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(kinds: int) -> None:
    """Give this thread new namespaces (unshare(2)).

    Args:
        kinds: CLONE_NEWNET and the like, combined by "or".

    Raises:
        OSError: this user may not, or the kernel cannot.
    """
    _check(_libc.unshare(kinds))


def setns(namespace: int, kind: int) -> None:
    """Move this thread into a namespace (setns(2)); of CLONE_NEWPID, only processes that it starts from now on.

    Args:
        namespace: file descriptor of the namespace, see `open_namespace`.
        kind: CLONE_NEWNET or the like.

    Raises:
        OSError: this user may not, or it is no such namespace.
    """
    _check(_libc.setns(namespace, kind))


def open_namespace(kind: str, process: int | str = "thread-self") -> int:
    """Return a file descriptor of a process' namespace; child processes do not inherit it.

    Args:
        kind: its name in /proc/PID/ns, such as "net".
        process: a process ID; this thread by default.

    Raises:
        OSError: there is no such process, or this user may not look at it.
    """
    return os.open(f"/proc/{process}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def within(network: int) -> Iterator[None]:
    """Be in a network namespace for a moment. A socket stays in the network in which it was made.

    Args:
        network: file descriptor of the namespace.

    Raises:
        OSError: see `setns`.
    """
    home = open_namespace("net")
    try:
        setns(network, CLONE_NEWNET)
        try:
            yield
        finally:
            setns(home, CLONE_NEWNET)
    finally:
        os.close(home)


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
