"""Running a program with secrets in its environment, or as files that are gone with it."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ..delivery.values import check_name
from ..delivery.volume import is_tmpfs, require_folder
from ..errors import ConfigError, ProgramError
from .memory import protect

CANNOT_RUN, NOT_FOUND, FAILED = 126, 127, 125
"""Exit statuses of a command that runs another, as of env(1): it cannot be run, it is not there; the command failed."""

FILES_VARIABLE = "KUBEVAULT_FILES"
"""Environment variable that holds the path of the program's files."""

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - it is asked for: a tmpfs, and the folder made there is private
_PR_SET_PDEATHSIG = 1
_FORWARDED: frozenset[int] = frozenset(
    getattr(signal, f"SIG{name}")
    for name in ("TERM", "HUP", "INT", "QUIT", "USR1", "USR2", "WINCH", "TSTP", "ALRM", "TTIN", "TTOU")
)
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_SI_USER = 0  # sent by kill(2), see sigaction(2); what a terminal sends reaches the program by itself


def run_with_environment(
    command: Sequence[str], environment: Mapping[bytes, bytes], secret: Mapping[str, str] | None = None
) -> NoReturn:
    """Become the program, with the given environment. So signals and exit status are its own.

    Args:
        command: program and arguments.
        environment: its variables, without those of secrets.
        secret: those, which are UTF-8 as they were sealed, whatever the locale says.

    Raises:
        ProgramError: there is no such program, or it may not be run.
        ConfigError: the variables are larger together than the system takes.
    """
    encoded = {name.encode(): text.encode() for name, text in (secret or {}).items()}
    try:
        _execute(command, {**environment, **encoded})
    except OSError as error:
        if error.errno == errno.E2BIG and encoded:
            size = sum(map(len, encoded.values()))
            largest = max(encoded, key=lambda name: len(encoded[name]))
            raise ConfigError(
                f"the values are too large for variables of a program: {size:,} bytes, of which"
                f" {len(encoded[largest]):,} are {largest.decode()}'s",
                remedy="pass them as files (--files)",
            ) from None
        raise _program_error(command[0], error.errno or 0) from error


def run_with_files(
    command: Sequence[str],
    files: Mapping[str, bytes],
    folder: Path | None = None,
    *,
    environment: Mapping[bytes, bytes] | None = None,
) -> int:
    """Run the program with files on a tmpfs, which only its user may read; they are gone when it ends, however it ends.

    Signals that this process gets go on to the program. Where this process is killed, the program ends too.

    Args:
        command: program and arguments.
        files: content by name.
        folder: where the folder is made; it must be on a tmpfs. None for ``$XDG_RUNTIME_DIR`` or ``/dev/shm``.
        environment: environment of the program, as bytes, whatever the locale says; `FILES_VARIABLE` is added: the
            folder of the files. None for this process's own.

    Returns:
        Exit status; minus a signal's number if that ended the program.

    Raises:
        ProgramError: there is no such program, or it may not be run.
        ConfigError: there is no tmpfs, or a name is not valid for a file.
    """
    for name in files:
        check_name(name)
    inherited = os.environb if environment is None else environment
    with _waiting_for_children() as disposition, _folder(files, folder or _tmpfs()) as path:
        return _supervised(command, {**inherited, os.fsencode(FILES_VARIABLE): os.fsencode(path)}, disposition)


def end_as(status: int) -> NoReturn:
    """End this process as a program ended: with its exit status, or by the same signal.

    Args:
        status: as `run_with_files` returns it.
    """
    if status < 0:
        protect()  # the signal may have it write a core file
        signal.signal(-status, signal.SIG_DFL) if -status not in (signal.SIGKILL, signal.SIGSTOP) else None
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-status})
        os.kill(os.getpid(), -status)
    sys.exit(status if status >= 0 else 128 - status)


def _execute(command: Sequence[str], environment: Mapping[bytes, bytes]) -> NoReturn:
    """Become the program, which ignores no signal that Python alone ignores: `yes | head` ends by SIGPIPE.

    Its limit of core files is the one that this process was started with. If there is no program, all is as before.
    """
    dispositions = {number: signal.signal(number, signal.SIG_DFL) for number in _IGNORED_BY_PYTHON}
    limits = protect()
    protected = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, limits)
    try:
        os.execvpe(command[0], list(command), dict(environment))  # noqa: S606 - that is what it is for
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, protected)
        for number, disposition in dispositions.items():
            signal.signal(number, disposition)


@contextmanager
def _waiting_for_children() -> Iterator[Any]:
    """Have the kernel keep the status of children, also where the caller has them ignored (wait(2), ECHILD)."""
    disposition = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield disposition
    finally:
        signal.signal(signal.SIGCHLD, disposition)


@contextmanager
def _folder(files: Mapping[str, bytes], parent: Path) -> Iterator[Path]:
    require_folder(parent)
    with _written(parent):
        path = Path(tempfile.mkdtemp(prefix="kubevault-", dir=parent))  # mode 0700
    with _deleted_in_the_end(path):
        with _written(path):
            for name, content in files.items():
                descriptor = os.open(path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
        yield path


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Translate what keeps a folder from being written."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{path}: the files of the secrets cannot be written: {error.strerror}",
            remedy="name another tmpfs (--tmpfs)",
        ) from error


@contextmanager
def _deleted_in_the_end(path: Path) -> Iterator[None]:
    """Delete a folder in the end, even if this process is killed: then another does it, which waits for that."""
    reader, writer = os.pipe()
    janitor = os.fork()
    if janitor == 0:
        _wait_and_delete(reader, writer, path)
    os.close(reader)
    try:
        yield
    finally:
        try:
            shutil.rmtree(path)
        finally:
            os.close(writer)
            os.waitpid(janitor, 0)


def _wait_and_delete(reader: int, writer: int, path: Path) -> NoReturn:
    try:
        os.setsid()  # unreachable of the terminal's signals
        os.close(writer)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)  # otherwise a reader of this command's output would wait for this process
        for number in _FORWARDED:
            signal.signal(number, signal.SIG_IGN)
        os.read(reader, 1)  # ends when the last writer is closed, and so when the other process ends
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os._exit(0)


def _supervised(command: Sequence[str], environment: Mapping[bytes, bytes], disposition: Any) -> int:
    waited = _FORWARDED | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    parent = os.getpid()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGCHLD, disposition)
        _become(command, environment, {int(number) for number in before}, parent, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        failure = pipe.read()
    try:
        while True:
            changed, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
            if changed and os.WIFSTOPPED(status):
                os.kill(os.getpid(), signal.SIGSTOP)  # as the shell expects that stopped both
                os.kill(child, signal.SIGCONT)
            elif changed:
                if failure:
                    raise _program_error(command[0], int(failure))
                return os.waitstatus_to_exitcode(status)
            received = signal.sigwaitinfo(waited)
            if received.si_signo != signal.SIGCHLD and received.si_code <= _SI_USER:
                os.kill(child, received.si_signo)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _become(
    command: Sequence[str], environment: Mapping[bytes, bytes], mask: set[int], parent: int, failure: int
) -> NoReturn:
    """Become the program, in the child."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # the parent ended before prctl
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _execute(command, environment)
    except OSError as error:
        os.write(failure, str(error.errno).encode())
    finally:
        os._exit(127)


def _program_error(program: str, number: int) -> ProgramError:
    status = NOT_FOUND if number == errno.ENOENT else CANNOT_RUN
    return ProgramError(os.strerror(number), exit_status=status, place=program)


def _tmpfs() -> Path:
    """Return a folder on a tmpfs."""
    for path in (os.environ.get("XDG_RUNTIME_DIR"), _SHARED_MEMORY):
        if path and os.access(path, os.W_OK) and is_tmpfs(Path(path)):
            return Path(path)
    raise ConfigError(
        f"there is no tmpfs: neither $XDG_RUNTIME_DIR nor {_SHARED_MEMORY} is one", remedy="name a folder on one"
    )
