"""Progress of long tasks: one line that is redrawn on a terminal; elsewhere, a line from time to time."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

REDRAW = 0.5
"""Seconds between two updates on a terminal."""

REPEAT = 30.0
"""Seconds between two lines without a terminal, such as in a CI log."""


def duration(seconds: float) -> str:
    """Return a duration as text, such as "8 s" or "2 min 5 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def megabytes(count: int) -> str:
    """Return a number of bytes as text, such as "26 MB"."""
    return f"{count / 1e6:.0f} MB"


class Progress:
    """Writes finished and running tasks to a stream."""

    def __init__(self, stream: TextIO | None = None, *, interval: float | None = None) -> None:
        """Write to a stream.

        Args:
            stream: the stream; standard error if None.
            interval: seconds between two updates of a task; REDRAW or REPEAT if None.
        """
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._interval = interval or (REDRAW if self._terminal else REPEAT)
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Write a permanent line."""
        with self._lock:
            self._stream.write(f"{self._clear()}{text}\n")
            self._stream.flush()

    def warn(self, text: str) -> None:
        """Write a permanent line, marked as a warning."""
        self.say(f"WARNING: {text}")

    @contextmanager
    def task(self, title: str, state: Callable[[], str] = lambda: "") -> Iterator[None]:
        """Show a task while it runs: its title, its state and its duration so far.

        Args:
            title: name of the task.
            state: returns its progress; called by another thread.
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
        """Return the control sequence that erases the current line of a terminal (ECMA-48 EL)."""
        return "\r\x1b[K" if self._terminal else ""
