"""Runs commands, two at a time, and shows what they print, one after the other: two_at_a_time.py COMMAND ...

What is shown is live for the command whose turn it is. All run to their end, and those that failed are named at last.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

_POLL = 0.2  # seconds


class Job:
    """A command, whose output goes to a file.

    Attributes:
        command: program and arguments, quoted as for a shell.
    """

    def __init__(self, command: str, output: Path) -> None:
        self.command = command
        self._output = output
        self._output.touch()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Run the command to its end; return its exit status."""
        # A session of its own, so that it gets an interruption only once, by `signal`.
        with self._output.open("wb") as file:
            self._process = subprocess.Popen(  # noqa: S603 - the caller names the programs
                shlex.split(self.command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self._process.wait()

    def signal(self, number: int) -> None:
        """Send a signal to all processes of the command, if it runs."""
        if self._process and self._process.returncode is None:
            os.killpg(self._process.pid, number)

    def show(self, end: Future[int]) -> None:
        """Print its output until it has ended."""
        with self._output.open("rb") as file:
            while True:
                ended = end.done()
                shutil.copyfileobj(file, sys.stdout.buffer)
                sys.stdout.flush()
                if ended:
                    return
                time.sleep(_POLL)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt(number)


def main(commands: list[str]) -> str | int:
    """Run the commands; return an exit status, or what failed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    # At its end, the executor waits for what runs, also for one that was interrupted and cleans up.
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(max_workers=2) as executor:
        jobs = [Job(command, Path(folder, str(number))) for number, command in enumerate(commands)]
        ends = [executor.submit(job.run) for job in jobs]
        try:
            for job, end in zip(jobs, ends, strict=True):
                job.show(end)
        except KeyboardInterrupt as interrupt:
            executor.shutdown(wait=False, cancel_futures=True)
            for job in jobs:
                job.signal(interrupt.args[0])
            return 130
    failed = [job.command for job, end in zip(jobs, ends, strict=True) if end.result() != 0]
    return f"Failed: {', '.join(failed)}" if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
