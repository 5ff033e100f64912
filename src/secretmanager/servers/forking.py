"""Objects that threads share, in a process that was forked: it has one thread, and its parent's connections.

A lock that another thread of the parent held stays locked there for ever, and what is done to a connection, such as the
end of its TLS session, is done to the parent's. gunicorn, Celery and multiprocessing fork.

Source: https://docs.python.org/3/library/os.html#os.register_at_fork
"""

from __future__ import annotations

import os
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


def _renew() -> None:
    for shared in list(_shared):
        shared._in_child()


os.register_at_fork(after_in_child=_renew)
