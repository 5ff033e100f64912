"""Build programs from the Go modules in tools/; go.sum holds the checksums of the sources."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from .cache import Work
from .errors import BuildError
from .progress import Progress
from .projects import BUILD_FLAGS

# The reason that `go list` gives for a program that only needs linking.
_LINK_ALONE = "not installed but available in build cache"

_PACKAGE = re.compile(r"[^\s:]+")


def required_go(module: Path) -> str:
    """Return the oldest version of Go that a module builds with, such as "1.26.0".

    Args:
        module: folder of its go.mod.

    Raises:
        BuildError: the go.mod states none.
    """
    go_mod = module / "go.mod"
    found = re.search(r"^go (\d\S*)", go_mod.read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise BuildError(f"{go_mod}: has no line with its version of Go")
    return found[1]


def check_go(module: Path) -> None:
    """Check that Go is installed and can build a module, before time is spent on it.

    Args:
        module: folder of its go.mod.

    Raises:
        BuildError: Go is missing, or older than the module needs and not able or allowed to fetch a newer one.
    """
    needed = required_go(module)
    if not shutil.which("go"):
        raise BuildError(f"Go is not installed (no go on PATH); {module}/go.mod needs Go {needed} or newer")
    # In the module's folder, to ask the toolchain that would build it (https://go.dev/doc/toolchain).
    result = subprocess.run(
        ["go", "version"],  # noqa: S607 - the user's own Go
        cwd=module,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.match(r"go version (?:devel )?go(\d\S*)", result.stdout)
    if result.returncode or not found or _numbers(found[1]) < _numbers(needed):
        what = f"Go {found[1]}" if found else (result.stderr.strip() or result.stdout.strip())
        raise BuildError(f"{module}/go.mod needs Go {needed} or newer; found: {what}")


def build(
    module: Path, packages: Sequence[str], ldflags: str, work: Work, progress: Progress, title: str
) -> dict[str, Path]:
    """Build programs by one command, so that common packages are compiled once.

    Args:
        module: folder of the go.mod.
        packages: Go packages of the programs.
        ldflags: the linker's flags.
        work: folder for the programs and Go's temporary files; Go inherits its lock.
        progress: reports the progress of the build.
        title: names of the programs, for progress.

    Returns:
        The file of each package.

    Raises:
        BuildError: the build failed; holds the end of Go's output.
    """
    out = work.folder / "bin"
    out.mkdir()
    listing = work.folder / "packages"
    downloads = 0
    started = 0

    def downloading(line: str) -> bool:
        nonlocal downloads
        found = line.startswith("go: downloading ")
        downloads += found
        return found

    def compiling(line: str) -> bool:
        nonlocal started
        # `go build -v` names each package when it starts to compile it.
        if _PACKAGE.fullmatch(line):
            started += 1
            return True
        return downloading(line)

    flags = [*BUILD_FLAGS, f"-ldflags={ldflags}"]
    with (
        progress.task(f"{title}: fetching sources", lambda: f"{downloads} modules" if downloads else ""),
        listing.open("w", encoding="utf-8") as packages_needed,
    ):
        template = "{{.Stale}} {{.StaleReason}}"
        _go(["list", "-deps", "-f", template, *flags, *packages], module, work, downloading, packages_needed)
    stale = _stale(listing.read_text(encoding="utf-8").splitlines())

    def state() -> str:
        total = max(stale, started)
        if started >= total:
            return "linking"
        return f"package {started} of {total} ({100 * started // total} %)"

    with progress.task(f"{title}: building", state):
        _go(["build", "-v", "-o", f"{out}/", *flags, *packages], module, work, compiling)
    return {package: out / executable_name(package) for package in packages}


def executable_name(package: str) -> str:
    """Return the name that `go build` gives a program: the last element that is not a major version.

    Args:
        package: its import path (https://pkg.go.dev/cmd/go#hdr-Compile_packages_and_dependencies).
    """
    return re.sub(r"/v\d+$", "", package).rpartition("/")[2]


def _stale(lines: Iterable[str]) -> int:
    """Return the number of packages to compile: go build -v does not name those in Go's own cache."""
    return sum(line.startswith("true") and not line.endswith(_LINK_ALONE) for line in lines)


def _numbers(version: str) -> tuple[int, ...]:
    """Return a Go version's numbers: 1.27rc1 counts as 1.27, which is close enough."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def _environment(**more: str) -> dict[str, str]:
    # A go.work in a parent folder would replace the module.
    return {**os.environ, "GOWORK": "off", **more}


def _go(
    arguments: Sequence[str],
    module: Path,
    work: Work,
    understood: Callable[[str], bool],
    stdout: IO[str] | int = subprocess.DEVNULL,
) -> None:
    """Run Go; if this function is interrupted, kill it with all its children.

    If this process is killed, Go ends when it writes its next line, and holds the lock until then.

    Args:
        arguments: of go.
        module: folder to run it in.
        work: folder for Go's temporary files.
        understood: called with a line of standard error; returns False if the line may explain a failure.
        stdout: file for standard output.

    Raises:
        BuildError: Go failed.
    """
    output: deque[str] = deque(maxlen=30)
    with subprocess.Popen(  # noqa: S603 - arguments of our own
        ["go", *arguments],  # noqa: S607 - the user's own Go
        cwd=module,
        env=_environment(GOTMPDIR=str(work.folder)),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        pass_fds=[work.lock],
        start_new_session=True,
    ) as process:
        try:
            for line in process.stderr or ():
                if not understood(line.rstrip("\n")):
                    output.append(line)
            process.wait()
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        reason = "".join(output).strip() or f"exit status {process.returncode}"
        raise BuildError(f"go {arguments[0]} failed in {module}:\n{reason}")
