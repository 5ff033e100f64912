"""Runs a suite of `make test`, and reports on all of them at its end.

`suites.py run NAME COMMAND [ARG ...]` runs the command, then shows its output; its time and status are noted.
`suites.py report NAME [NAME ...]` says how long each suite took, how it ended, and what was not run.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "build/suites"
"""Holds NAME.log, the output of a suite, NAME.json, how it ended, and NAME.not-run, why it could not run."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What interrupts a run."""


def run(name: str, *command: str) -> int:
    """Run a suite's command, show its output once it has ended, and return its exit status.

    The command has a session of its own, so that each of its processes gets an interruption once, although make sends
    several. It is waited for then too, since it takes its servers down.
    """
    log = FOLDER / f"{name}.log"
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.not-run").unlink(missing_ok=True)
    begin = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the Makefile names the command
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )

    def interrupt(number: int, frame: object) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        if process.returncode is None:
            os.killpg(process.pid, number)

    for number in SIGNALS:
        signal.signal(number, interrupt)
    status = process.wait()
    result = {"seconds": time.monotonic() - begin, "status": status}
    (FOLDER / f"{name}.json").write_text(json.dumps(result))
    with log.open("rb") as content:
        shutil.copyfileobj(content, sys.stdout.buffer)
    return status


def report(*names: str) -> str | None:
    """Print a line for each suite; return what failed. With CI set, a suite that could not run has failed."""
    failed = []
    print()
    for name in names:
        result = FOLDER / f"{name}.json"
        if not result.exists():
            failed.append(name)
            print(f"{name:<12} did not end")
            continue
        seconds, status = json.loads(result.read_text()).values()
        if status:
            failed.append(name)
        minutes, rest = divmod(round(seconds), 60)
        print(f"{name:<12} {minutes:3} min {rest:2} s  {'failed' if status else 'passed'}")
    for note in sorted(FOLDER.glob("*.not-run")):
        print(f"NOT RUN: {note.stem}: {note.read_text().strip()}")
        if os.environ.get("CI"):
            failed.append(note.stem)
    print("NOT RUN: what a release needs besides, and each other Python: make release-check")
    return f"Failed: {', '.join(failed)}" if failed else None


if __name__ == "__main__":
    verb, *names = sys.argv[1:]
    sys.exit(run(*names) if verb == "run" else report(*names))
