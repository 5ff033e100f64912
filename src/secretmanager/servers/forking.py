"""Objects that threads share, in a process that was forked: it has one thread, and its parent's connections.

A lock that another thread of the parent held stays locked there for ever, and what is done to a connection, such as the
end of its TLS session, is done to the parent's. gunicorn, Celery and multiprocessing fork.

Source: https://docs.python.org/3/library/os.html#os.register_at_fork
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakSet


class Shared(Protocol):
    """What `renewed_in_children` takes."""

    def _in_child(self) -> None:
        """Take new locks, and forget the parent's connections without a use of them."""


_shared: WeakSet[Shared] = WeakSet()


def renewed_in_children(shared: Shared) -> None:
    """Have an object renew itself in each process that this one forks, before anything else runs there."""
    _shared.add(shared)


@contextmanager
def unforked() -> Iterator[None]:
    """Have no thread of this process fork meanwhile: for calls of a library that has locks of its own.

    OpenSSL caches what it has fetched under such locks while it makes a context (CRYPTO_THREAD_write_lock(3)). A child
    in which one is locked would wait for ever for its first connection. Nothing that waits for a server belongs here.
    """
    with _forking:
        yield


# Of a thread that is in here, a signal handler may fork.
_forking = threading.RLock()


def _renew() -> None:
    for shared in list(_shared):
        shared._in_child()


os.register_at_fork(before=_forking.acquire, after_in_parent=_forking.release, after_in_child=_forking.release)
os.register_at_fork(after_in_child=_renew)
