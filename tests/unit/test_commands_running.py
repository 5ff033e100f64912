"""Programs that are run with secrets: real processes, which leave nothing behind."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.servers import PATIENCE, wait_until

from secretmanager.commands.running import ProgramError, run_with_files
from secretmanager.delivery.values import MOST_OF_ONE, members, variables
from secretmanager.errors import ConfigError, SecretFormatError

RUNNER = """
import sys
from pathlib import Path
from secretmanager.commands.running import end_as, run_with_files
end_as(run_with_files(sys.argv[2:], {"a": b"secret", "b": b"\\0"}, Path(sys.argv[1])))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder on a tmpfs, empty before and after."""
    path = Path("/dev/shm") / f"test-{os.getpid()}-{time.monotonic_ns()}"
    path.mkdir()
    yield path
    path.rmdir()


def started(folder: Path, *command: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(folder), *command], stdout=subprocess.PIPE, text=True, **options
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_names_of_variables() -> None:
    values = {"secrets.json": b"1", "a-b": "ä".encode(), "ok_1": b""}
    assert variables(values, "P_") == {"P_secrets_json": "1", "P_a_b": "ä", "P_ok_1": ""}


@pytest.mark.parametrize(
    ("values", "prefix", "kind", "message"),
    [
        ({"a.b": b"1", "a-b": b"2"}, "", ConfigError, "data keys a.b and a-b both result in the variable a_b"),
        ({"1a": b"1"}, "", ConfigError, "data key 1a does not result in a valid variable name: '1a'; give a prefix"),
        ({"a": b"\xff"}, "", SecretFormatError, "data key a is not text"),
        ({"a": b"x\0y"}, "", SecretFormatError, "data key a is not text that fits a variable"),
    ],
)
def test_what_fits_no_variable(values: dict[str, bytes], prefix: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        variables(values, prefix)
    assert caught.value.__context__ is None  # it would contain the value


def test_members_of_a_json_object() -> None:
    assert members(b'{"user": "neo", "port": 1, "on": true, "list": ["a"]}', "it") == {
        "user": b"neo",
        "port": b"1",
        "on": b"true",
        "list": b'["a"]',
    }
    assert members(b" {} ", "it") == {}
    for other in (
        b"[]",
        b"{",
        b"\xff",
        b'"x"',
        b"1",
        b"",
        b"[" * 100_000,
        b'{"a": NaN}',
        b'{"a": "\\ud800"}',
        b'{"a": 1} x',
    ):
        with pytest.raises(SecretFormatError, match="is not a JSON object") as caught:
            members(other, "it")
        assert caught.value.__context__ is None


def test_members_that_are_no_text_are_as_they_are_written() -> None:
    numbers = {"a": b"1.10", "b": b"1E5", "c": b"12345678901234567890.5", "d": b"-0", "e": b'[1.0, {"f":\n2.50}]'}
    written = b"{" + b" ,\n".join(b'"%b"\t: %b' % (name.encode(), text) for name, text in numbers.items()) + b" }\n"
    assert members(written, "it") == numbers
    assert members(b'{"\\u0061{,": "}", "b": true}', "it") == {"a{,": b"}", "b": b"true"}


def test_files_are_private_and_gone_afterwards(folder: Path) -> None:
    script = 'cd "$KUBEVAULT_FILES" && pwd && stat -c "%a %n" . * && cat a && exit 7'
    process = started(folder, "sh", "-c", script)
    output, _ = process.communicate(timeout=PATIENCE)
    lines = output.splitlines()
    assert Path(lines[0]).parent == folder
    assert lines[1:] == ["700 .", "400 a", "400 b", "secret"]
    assert process.returncode == 7
    assert not list(folder.iterdir())


def test_a_program_may_change_its_files(folder: Path) -> None:
    script = 'cd "$KUBEVAULT_FILES" && rm a && mkdir -p x/y && touch x/y/z && chmod 000 x/y/z'
    process = started(folder, "sh", "-c", script)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert not list(folder.iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT])
def test_signals_go_to_the_program(folder: Path, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    process = started(folder, "sh", "-c", f"trap 'echo got; exit 3' {name}; echo ready; while :; do sleep 0.01; done")
    assert line(process) == "ready"
    process.send_signal(number)
    assert line(process) == "got"
    assert process.wait(PATIENCE) == 3
    assert not list(folder.iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_it_ends_by_the_signal_that_ended_the_program(folder: Path, number: signal.Signals) -> None:
    process = started(folder, "sh", "-c", f"kill -{number.value} $$", cwd="/")
    process.communicate(timeout=PATIENCE)
    assert process.returncode == -number
    assert not list(folder.iterdir())


def test_nothing_is_left_where_it_is_killed(folder: Path) -> None:
    process = started(folder, "sh", "-c", "echo $$; exec sleep 1000")
    program = int(line(process))
    assert list(folder.iterdir())
    process.kill()
    process.communicate(timeout=PATIENCE)  # no process keeps its output open
    wait_until("an empty folder", lambda: not list(folder.iterdir()))
    wait_until("the program's end", lambda: not Path(f"/proc/{program}").exists() or state(program) == "Z")


def test_a_terminals_interrupt_reaches_the_program_once(folder: Path) -> None:
    script = "trap 'echo interrupted' INT; echo ready; for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 0.05; done; echo end"
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", RUNNER, str(folder), "sh", "-c", script])
    with os.fdopen(terminal, "r+b", buffering=0) as stream:
        seen = b""
        while b"ready" not in seen:
            seen += stream.read(1)
        stream.write(b"\x03")
        while b"end" not in seen:
            seen += stream.read(1)
        assert seen.count(b"interrupted") == 1
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_it_stops_and_goes_on_with_the_program(folder: Path) -> None:
    # In a new process group: SIGTSTP does not stop an orphaned one (setpgid(2)), as in a background run.
    process = started(folder, "sh", "-c", "echo $$; exec sleep 1000", process_group=0)
    program = int(line(process))
    process.send_signal(signal.SIGTSTP)
    wait_until("the stop", lambda: state(program) == "T" and state(process.pid) == "T")
    process.send_signal(signal.SIGCONT)
    wait_until("the continuation", lambda: state(program) == "S" and state(process.pid) == "S")
    process.terminate()
    assert process.wait(PATIENCE) == -signal.SIGTERM


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


BECOMES = """
import os, sys
from secretmanager.commands.running import run_with_environment
run_with_environment(sys.argv[2:], os.environb)
"""


@pytest.mark.parametrize("runner", [RUNNER, BECOMES], ids=["files", "variables"])
@pytest.mark.parametrize("ignored", [(), (signal.SIGCHLD,), (signal.SIGHUP, signal.SIGINT)], ids=str)
def test_a_program_ignores_the_signals_that_the_caller_ignores_and_no_others(
    folder: Path, runner: str, ignored: tuple[signal.Signals, ...]
) -> None:
    """SIGPIPE is ignored by Python alone. Where SIGCHLD is ignored, the kernel keeps no status of a child."""
    ignore = "import signal\n" + "".join(f"signal.signal({number.value}, signal.SIG_IGN)\n" for number in ignored)
    status, shown = (
        subprocess.run(
            [sys.executable, "-c", f"{ignore}{runner}", str(folder), *command],
            stdout=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        for command in (("sh", "-c", "exit 7"), ("grep", "SigIgn", "/proc/self/status"))
    )
    assert status.returncode == 7
    by_tests = signals_ignored(Path("/proc/self/status").read_text()) - {signal.SIGPIPE, signal.SIGXFSZ}
    assert signals_ignored(shown.stdout) == by_tests | set(ignored)


def signals_ignored(status: str) -> set[int]:
    """Return the signals that a process ignores, as its status says (proc_pid_status(5)); 32 and 33 are glibc's own."""
    mask = int(status.partition("SigIgn:")[2].split()[0], 16)
    return {number for number in range(1, 32) if mask >> number - 1 & 1}


@pytest.mark.parametrize("runner", [RUNNER, BECOMES], ids=["files", "variables"])
def test_what_the_environment_has_is_handed_on_byte_by_byte(folder: Path, runner: str) -> None:
    environment = {**os.environb, b"ODD": b"\xff\xc3\xa4", b"LC_ALL": b"C"}
    command = [sys.executable, "-X", "utf8=0", "-c", runner, str(folder), "printenv", "ODD"]
    assert subprocess.run(command, env=environment, capture_output=True, check=True).stdout == b"\xff\xc3\xa4\n"


def test_a_program_that_cannot_be_run(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch(0o600)
    for command, message, status in (("nosuch-program", "No such file", 127), (str(file), "Permission denied", 126)):
        with pytest.raises(ProgramError, match=message) as caught:
            run_with_files([command], {"a": b"1"}, folder)
        assert caught.value.exit_status == status


def test_what_fits_no_variable_by_its_size_is_told_by_its_data_key() -> None:
    """The kernel's limit of one variable is met to the byte: a program gets what fits, and no other is tried."""
    name = "A"
    most = MOST_OF_ONE - len(f"{name}=\0")
    fits = variables({name: b"x" * most})
    done = subprocess.run(["true"], env={**os.environ, **fits}, check=False)
    assert done.returncode == 0
    with pytest.raises(
        SecretFormatError, match=rf"data key A is too large for a variable: {MOST_OF_ONE + 1:,} bytes with"
    ):
        variables({name: b"x" * (most + 1)})
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run(["true"], env={**os.environ, name: "x" * (most + 1)}, check=False)


TOO_LARGE = """
import os
from secretmanager.commands.running import run_with_environment
run_with_environment(["true"], os.environb, {"A": "x" * 100_000, "B": "x" * 120_000})
"""


def test_variables_that_are_too_large_together_are_told_with_the_largest() -> None:
    command = ["sh", "-c", 'ulimit -s 512; exec "$@"', "sh", sys.executable, "-c", TOO_LARGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (
        "ConfigError: the values are too large for variables of a program: 220,000 bytes, of which 120,000"
        in done.stderr
    )
    assert "are B's; pass them as files (--files)" in done.stderr


def test_a_folder_on_a_disk_is_refused(tmp_path: Path) -> None:
    on_disk = next(path for path in (tmp_path, Path.home(), Path("/")) if not is_tmpfs(path))
    with pytest.raises(ConfigError, match="is not on a tmpfs, so files there would reach a disk"):
        run_with_files(["true"], {"a": b"1"}, on_disk)
    with pytest.raises(ConfigError, match="is not a folder"):
        run_with_files(["true"], {"a": b"1"}, tmp_path / "nosuch")


def is_tmpfs(path: Path) -> bool:
    kind = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True).stdout
    return kind.strip() == "tmpfs"


@pytest.mark.parametrize("name", ["../a", "a/b", "..", ".", "", "a\0"])
def test_a_name_that_leads_elsewhere_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="is not allowed as a file's name"):
        run_with_files(["true"], {name: b"1"}, folder)
