"""Processes that are forked after the imports, which cost a new process of Python more than most tests do."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import connection
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import NamedTemporaryFile
from typing import IO

from secretmanager.commands.main import Subcommands, main

# What this module imports, each process imports: nothing of the tests' other modules.

_LIMIT = 120.0
"""Seconds within which a process must end; a test fails after them."""

_STATUS = threading.Lock()
"""Held while the status of a process is read, for which multiprocessing is not made to have several threads."""

_CONTEXT = multiprocessing.get_context("forkserver")
# pytest is here because each process imports the main module, which is that of pytest.
_CONTEXT.set_forkserver_preload(
    [
        *("pytest", "rich.progress", "secretmanager.admin.restoration"),
        *(f"secretmanager.commands.{name}" for name in Subcommands.NAMES),
    ]
)


class Forked:
    """A process that calls a function. What it prints goes to files, and what it reads comes from one.

    Args:
        call: the function, of a module that imports little, as the process imports it.
        arguments: its arguments.
        env: the whole environment; None for that of the tests.
        folder: the working folder; None for that of the tests.
        stdin: what its standard input has.
    """

    def __init__(
        self,
        call: Callable[..., object],
        *arguments: object,
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
        stdin: bytes = b"",
    ) -> None:
        self._files = [NamedTemporaryFile(prefix="kubevault-forked.") for _ in range(3)]  # noqa: SIM115 - as long as it
        self._files[0].write(stdin)
        self._files[0].flush()
        names = [file.name for file in self._files]
        target = names, dict(os.environ if env is None else env), folder or Path.cwd(), call, arguments
        self._process = _CONTEXT.Process(target=_run, args=target, daemon=True)
        with _STATUS:
            self._process.start()

    @property
    def stdout(self) -> bytes:
        return _content(self._files[1])

    @property
    def stderr(self) -> bytes:
        return _content(self._files[2])

    @property
    def output(self) -> str:
        """Its standard output, then its standard error."""
        return (self.stdout + self.stderr).decode()

    def kill(self) -> None:
        """End it by SIGKILL, and wait until it has ended; another thread may wait for that too."""
        self._process.kill()
        self._await_end()

    def wait(self) -> int:
        """Wait for its end; return its status, which is minus the number of a signal that ended it."""
        self._await_end()
        with _STATUS:
            status = self._process.exitcode
        assert status is not None
        return status

    def _await_end(self) -> None:
        assert connection.wait([self._process.sentinel], _LIMIT), f"it does not end: {self.output}"


def kubevault(
    *arguments: str | Path, env: Mapping[str, str], folder: Path | None = None, stdin: bytes = b""
) -> CompletedProcess[bytes]:
    """Run the command kubevault to its end; arguments as of `Forked`."""
    process = start(*arguments, env=env, folder=folder, stdin=stdin)
    status = process.wait()
    return CompletedProcess(arguments, status, process.stdout, process.stderr)


def start(*arguments: str | Path, env: Mapping[str, str], folder: Path | None = None, stdin: bytes = b"") -> Forked:
    """Start the command kubevault; arguments as of `Forked`."""
    return Forked(_kubevault, [str(argument) for argument in arguments], env=env, folder=folder, stdin=stdin)


def peak(*arguments: str | Path, env: Mapping[str, str]) -> tuple[CompletedProcess[bytes], int]:
    """Run the command kubevault to its end; return what it had most of memory, too, in bytes."""
    process = Forked(_measured, [str(argument) for argument in arguments], env=env)
    status = process.wait()
    *errors, last = process.stderr.splitlines(keepends=True)
    return CompletedProcess(arguments, status, process.stdout, b"".join(errors)), int(last)


def _kubevault(arguments: Sequence[str]) -> None:
    sys.argv = ["kubevault", *arguments]
    main()


def _measured(arguments: Sequence[str]) -> None:
    try:
        _kubevault(arguments)
    finally:
        print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)


def _run(
    files: Sequence[str],
    env: Mapping[str, str],
    folder: Path,
    call: Callable[..., object],
    arguments: Sequence[object],
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    for descriptor, file in enumerate(files):
        opened = os.open(file, os.O_WRONLY | os.O_APPEND if descriptor else os.O_RDONLY)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - multiprocessing has replaced it by the null device
    call(*arguments)


def _content(file: IO[bytes]) -> bytes:
    return Path(file.name).read_bytes()
