"""The real program kubevault-exec: variables arrive, and the program that it becomes is as if it ran alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import elf
import pytest
from build_image import SOURCE, kubevault_exec

from kubevault_lab.cache import target_platform
from kubevault_lab.projects import BUILD_FLAGS

SECRET = "hunter2"

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def folder(built: bytes, tmp_path: Path) -> Path:
    """A folder as the init container leaves it."""
    program = tmp_path / "kubevault-exec"
    program.write_bytes(built)
    program.chmod(0o755)
    (tmp_path / ".env").write_bytes(f"PASSWORD={SECRET}\0EMPTY=\0LINES=a\nb=c\0".encode())
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Run:
    def run(*command: str, **more: object) -> subprocess.CompletedProcess[bytes]:
        more = {"env": {"PATH": "/usr/bin:/bin", "PASSWORD": "before", "OTHER": "1"}, **more}
        return subprocess.run([folder / "kubevault-exec", *command], capture_output=True, check=False, **more)

    return run


def test_variables_arrive_and_replace_those_of_the_environment(run: Run) -> None:
    done = run("env", "-0")
    assert (done.returncode, done.stderr) == (0, b"")
    assert sorted(done.stdout.decode().split("\0")[:-1]) == [
        "EMPTY=",
        "LINES=a\nb=c",
        "OTHER=1",
        f"PASSWORD={SECRET}",
        "PATH=/usr/bin:/bin",
    ]


def test_it_is_read_through_the_link_of_a_folder_that_is_replaced(folder: Path, tmp_path: Path) -> None:
    """As kubelet replaces a volume's files, and as `kubevault files --watch` does."""
    newer = tmp_path / "..2026"
    newer.mkdir()
    for name in ("kubevault-exec", ".env"):
        (folder / name).rename(newer / name)
    (folder / "..data").symlink_to("..2026")
    (folder / "kubevault-exec").symlink_to("..data/kubevault-exec")
    command = [folder / "kubevault-exec", "printenv", "PASSWORD"]
    assert subprocess.run(command, capture_output=True, check=True).stdout.decode() == f"{SECRET}\n"


@pytest.mark.parametrize("status", [0, 1, 42, 125, 255])
def test_the_exit_status_is_the_programs(run: Run, status: int) -> None:
    assert run("sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGUSR1])
def test_signals_reach_the_program(folder: Path, number: signal.Signals) -> None:
    command = [folder / "kubevault-exec", "sh", "-c", "echo $$; exec sleep 600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        # One process from the beginning: its ID is that of what was started.
        assert int(process.stdout.readline()) == process.pid
        process.send_signal(number)
        assert process.wait() == -number


def test_a_program_can_handle_a_signal(folder: Path) -> None:
    script = "trap 'echo handled; exit 7' TERM; echo ready; while :; do sleep 0.01; done"
    with subprocess.Popen(
        [folder / "kubevault-exec", "sh", "-c", script], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.stdout.read() == "handled\n"
        assert process.wait() == 7


def test_the_program_gets_what_the_bare_one_gets(folder: Path) -> None:
    """Limits, signals and open files are not changed by the program in between."""
    code = (
        "import os, resource\n"
        "names = [name for name in dir(resource) if name.startswith('RLIMIT_')]\n"
        "print({name: resource.getrlimit(getattr(resource, name)) for name in names})\n"
        "signals = ('SigBlk', 'SigIgn', 'SigCgt')\n"
        "print([line for line in open('/proc/self/status') if line.startswith(signals)])\n"
        "print(sorted(os.listdir('/proc/self/fd')), os.getcwd())\n"
    )
    # Go raises the soft limit of open files for itself, and of ignored signals keeps SIGHUP and SIGINT alone. A run in
    # the background ignores others too, hence env.
    limited = ["env", "--default-signal", "prlimit", "--nofile=100:200", "nohup"]
    bare, wrapped = (
        subprocess.run([*limited, *words, sys.executable, "-c", code], capture_output=True, check=True, cwd=folder)
        for words in ((), (folder / "kubevault-exec",))
    )
    assert b"'RLIMIT_NOFILE': (100, 200)" in bare.stdout
    assert bare.stdout == wrapped.stdout


def test_no_memory_of_it_remains(folder: Path) -> None:
    command = [folder / "kubevault-exec", "cat", "/proc/self/maps", "/proc/self/cmdline"]
    found = subprocess.run(command, capture_output=True, check=True).stdout
    assert b"/cat" in found
    assert b"kubevault-exec" not in found


def test_the_path_is_that_of_the_programs_environment(folder: Path, run: Run) -> None:
    (folder / "bin").mkdir()
    shutil.copy("/usr/bin/true", folder / "bin/only-here")
    assert run("only-here").returncode == 127
    (folder / ".env").write_bytes(f"PATH=/nosuch:{folder / 'bin'}\0".encode())
    assert run("only-here").returncode == 0
    # An empty folder is the current one, as of POSIX.
    (folder / ".env").write_bytes(b"PATH=/nosuch::/also-not")
    assert run("only-here", cwd=folder / "bin").returncode == 0
    assert run("./only-here", cwd=folder / "bin").returncode == 0


def test_what_cannot_run_says_so(folder: Path, run: Run) -> None:
    (folder / "data").write_text("no program")
    (folder / "data").chmod(0o755)
    (folder / "plain").write_text("no program")
    for command, status, message in (
        ("nosuch", 127, "nosuch: no such file or directory"),
        (str(folder / "nosuch"), 127, f"{folder}/nosuch: no such file or directory"),
        (str(folder / "data"), 126, f"{folder}/data: exec format error"),
        (str(folder / "plain"), 126, f"{folder}/plain: permission denied"),
        (str(folder), 126, f"{folder}: permission denied"),
    ):
        done = run(command)
        assert (done.returncode, done.stderr.decode(), done.stdout) == (status, f"kubevault-exec: {message}\n", b"")


def test_without_variables_nothing_runs(folder: Path, run: Run) -> None:
    done = run()
    assert (done.returncode, done.stderr) == (
        125,
        b"kubevault-exec: no command: usage: kubevault-exec COMMAND [ARG ...]\n",
    )
    (folder / ".env").write_bytes(f"A=1\0{SECRET}\0".encode())
    done = run("env")
    assert (done.returncode, done.stdout) == (125, b"")
    assert done.stderr.decode() == f"kubevault-exec: {folder}/.env: entry 2 is not NAME=VALUE\n"
    (folder / ".env").unlink()
    done = run("env")
    assert (done.returncode, done.stdout) == (125, b"")
    assert done.stderr.decode() == f"kubevault-exec: open {folder}/.env: no such file or directory\n"


def test_an_empty_file_has_no_variables(folder: Path, run: Run) -> None:
    (folder / ".env").write_bytes(b"")
    assert run("env").stdout == b"PATH=/usr/bin:/bin\nPASSWORD=before\nOTHER=1\n"


def test_it_is_static_and_the_same_each_time(built: bytes, tmp_path: Path) -> None:
    """For other machines: tests/release."""
    architecture = target_platform()[1]
    assert elf.parse(built) == elf.Elf(architecture, (), "")
    assert kubevault_exec(architecture, tmp_path) == built


def test_its_own_tests(built: bytes) -> None:
    """Of what is built: with other flags, Go would also compile its library again. `make lint` has the linters."""
    process = subprocess.run(
        ["go", "test", *BUILD_FLAGS, "./..."],
        cwd=SOURCE / "exec",
        env={**os.environ, "GOWORK": "off", "CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
