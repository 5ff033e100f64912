"""What a long task is doing, for a person: one line redrawn on a terminal, else a line now and then."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

REDRAW = 0.5
"""Seconds between two states on a terminal."""

REPEAT = 30.0
"""Seconds between two lines without a terminal, as in a log of CI."""


def duration(seconds: float) -> str:
    """Write a duration, such as "8 s" or "2 min 5 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def megabytes(count: int) -> str:
    """Write a number of bytes, such as "26 MB"."""
    return f"{count / 1e6:.0f} MB"


class Progress:
    """Writes to a stream what is done and what is under way."""

    def __init__(self, stream: TextIO | None = None, *, interval: float | None = None) -> None:
        """Write to a stream.

        Args:
            stream: where to; standard error where None.
            interval: seconds between two states of a task; REDRAW or REPEAT where None.
        """
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._interval = interval or (REDRAW if self._terminal else REPEAT)
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Write a line that stays."""
        with self._lock:
            self._stream.write(f"{self._clear()}{text}\n")
            self._stream.flush()

    def warn(self, text: str) -> None:
        """Write a line that stays and that nobody should miss."""
        self.say(f"WARNING: {text}")

    @contextmanager
    def task(self, title: str, state: Callable[[], str] = lambda: "") -> Iterator[None]:
        """Show a task while it runs: its title, its state and how long it has taken.

        Args:
            title: what is being done.
            state: returns how far it is; called by another thread.
        """
        done = threading.Event()
        start = time.monotonic()

        def show() -> None:
            while not done.wait(self._interval):
                parts = [title, state(), duration(time.monotonic() - start)]
                self._show(", ".join(filter(None, parts)))

        thread = threading.Thread(target=show, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            if self._terminal:
                with self._lock:
                    self._stream.write(self._clear())
                    self._stream.flush()

    def _show(self, text: str) -> None:
        if not self._terminal:
            self.say(text)
            return
        with self._lock:
            # A line longer than the terminal would wrap, and could not be redrawn.
            self._stream.write(self._clear() + text[: shutil.get_terminal_size().columns - 1])
            self._stream.flush()

    def _clear(self) -> str:
        """Return what takes the line that is redrawn away: to its start, erase to its end (ECMA-48 EL)."""
        return "\r\x1b[K" if self._terminal else ""
