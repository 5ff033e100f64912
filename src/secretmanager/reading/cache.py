"""What was read lately, for a time and up to a number of entries."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from ..servers.forking import renewed_in_children

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Keeps values for a time; if there are too many, the least recently used is dropped. Threads may share it.

    Args:
        ttl: how long a value serves, in seconds; 0 keeps nothing.
        max_entries: how many are kept.
        stale: how long after that a value is kept for `stale`, in seconds.
        copy: copies a value, so that what is kept and what is in use have ends of their own.
        wipe: is given each kept value that goes.
    """

    def __init__(
        self,
        ttl: float,
        max_entries: int,
        *,
        stale: float = 0.0,
        copy: Callable[[V], V] = lambda value: value,
        wipe: Callable[[V], None] = lambda value: None,
    ) -> None:
        self._ttl = ttl
        self._max_entries = max_entries
        self._stale = stale
        self._copy = copy
        self._wipe = wipe
        self._lock = threading.Lock()
        renewed_in_children(self)
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def _in_child(self) -> None:
        """As `forking.Shared._in_child`."""
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """Return a value that has not expired; None if there is none."""
        return self._get(key, self._ttl)

    def stale(self, key: K) -> V | None:
        """Return a value that has expired not long ago, or not at all; None if there is none."""
        return self._get(key, self._ttl + self._stale)

    def has_stale(self, key: K) -> bool:
        """Whether `stale` would return a value."""
        with self._lock:
            entry = self._entries.get(key)
            return entry is not None and time.monotonic() - entry[0] < self._ttl + self._stale

    def put(self, key: K, value: V) -> None:
        """Keep a value, as a copy."""
        if self._ttl <= 0:
            return
        copied = self._copy(value)
        with self._lock:
            self._drop(key)
            self._entries[key] = (time.monotonic(), copied)
            if len(self._entries) > self._max_entries:
                self._drop(next(iter(self._entries)))

    def forget(self, matches: Callable[[K], bool] = lambda key: True) -> None:
        """Drop the values of some keys; without an argument, of all."""
        with self._lock:
            for key in [key for key in self._entries if matches(key)]:
                self._drop(key)

    def _get(self, key: K, age: float) -> V | None:
        if not self._entries:
            return None
        with self._lock:
            now = time.monotonic()
            # All that is too old goes now, not when it is asked for: it may be plaintext.
            for expired in [
                entry_key for entry_key, (since, _) in self._entries.items() if now - since >= self._ttl + self._stale
            ]:
                self._drop(expired)
            if key not in self._entries or now - self._entries[key][0] >= age:
                return None
            self._entries.move_to_end(key)
            return self._copy(self._entries[key][1])

    def _drop(self, key: K) -> None:
        if key in self._entries:
            self._wipe(self._entries.pop(key)[1])
