"""A command at a terminal of its own, at which it asks questions."""

from __future__ import annotations

import os
import pty
import select
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from .servers import PATIENCE


def run_at_terminal(
    command: Sequence[str | Path], answers: Sequence[tuple[str, str]], *, env: Mapping[str, str], folder: Path
) -> tuple[int, str]:
    """Run a command, and answer its questions; return its exit status and all that was on the terminal.

    Args:
        command: the command.
        answers: for each question, in their order, a text that it has, and what is typed then.
        env: the whole environment.
        folder: the working folder.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execve(command[0], [str(word) for word in command], dict(env))
    shown, left, looked = b"", list(answers), 0
    deadline = time.monotonic() + 3 * PATIENCE
    with suppress(OSError):  # EIO: the command has ended
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 1)[0]:
                shown += os.read(terminal, 65536)
            if left and left[0][0].encode() in shown[looked:]:
                question, answer = left.pop(0)
                looked = shown.index(question.encode(), looked) + len(question)
                time.sleep(0.5)  # Ansible throws away what is typed before it listens
                os.write(terminal, f"{answer}\r".encode())
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown.decode(errors="replace")
