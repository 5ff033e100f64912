"""Runs commands, two at a time, and shows what they print, one after the other: two_at_a_time.py COMMAND ...

What is shown is live for the command whose turn it is. All run to their end, and one that failed is named at last.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

_POLL = 0.2  # seconds


class Job:
    """A command, whose output goes to a file.

    Attributes:
        command: program and arguments, quoted as for a shell.
        status: its exit status; None until it has ended.
    """

    def __init__(self, command: str, output: Path) -> None:
        self.command = command
        self.status: int | None = None
        self._output = output
        self._output.touch()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Run the command to its end."""
        # A session of its own, so that it gets an interruption only once, by `signal`.
        with self._output.open("wb") as file:
            self._process = subprocess.Popen(  # noqa: S603 - the caller names the programs
                shlex.split(self.command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.status = self._process.wait()

    def signal(self, number: int) -> None:
        """Send a signal to all processes of the command, if it runs."""
        if self._process and self.status is None:
            os.killpg(self._process.pid, number)

    def show(self) -> None:
        """Print its output until it has ended."""
        with self._output.open("rb") as file:
            while True:
                ended = self.status is not None
                shutil.copyfileobj(file, sys.stdout.buffer)
                sys.stdout.flush()
                if ended:
                    return
                time.sleep(_POLL)


def main(commands: list[str]) -> str | int:
    """Run the commands; return an exit status, or what failed."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = [Job(command, Path(folder, str(number))) for number, command in enumerate(commands)]
        waiting = iter(jobs)
        lock = threading.Lock()
        interrupted = threading.Event()

        def work() -> None:
            while not interrupted.is_set():
                with lock:
                    job = next(waiting, None)
                if not job:
                    return
                job.run()

        def interrupt(number: int, frame: object) -> None:
            interrupted.set()
            for job in jobs:
                job.signal(number)
            raise KeyboardInterrupt

        workers = [threading.Thread(target=work) for _ in range(2)]
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, interrupt)
        for worker in workers:
            worker.start()
        try:
            for job in jobs:
                job.show()
        except KeyboardInterrupt:
            pass
        # They clean up.
        for worker in workers:
            worker.join()
    if interrupted.is_set():
        return 130
    failed = [job.command for job in jobs if job.status]
    return f"Failed: {', '.join(failed)}" if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
