"""Downloads from a mirror on loopback, and builds with the real Go of a project that builds in a second.

Run as a program with the arguments CACHE TOOLS MIRROR KIND, this file provides the programs of that project.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kubevault_lab import releases
from kubevault_lab.binaries import Provider, run
from kubevault_lab.cache import Cache, target_platform
from kubevault_lab.errors import LabError
from kubevault_lab.progress import Progress
from kubevault_lab.projects import PROGRAMS, PROJECTS, SERVER_PROGRAMS, Project, Release

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 60.0
"""Seconds to wait for what should come at once; a test fails after them."""


def project(kind: str) -> Project:
    """Two programs, "one" and "two", version 1.2.3; a release is an archive of this kind, or the program (kind "")."""

    def release(program: str, version: str, system: str, architecture: str) -> Release:
        url = f"https://releases.example.org/{version}/{program}{kind}"
        return Release(url, f"{url}.sha256", f"folder/{program}" if kind else "")

    packages = {program: f"example.org/tiny/cmd/{program}" for program in ("one", "two")}
    return Project("tiny", "example.org/tiny", packages, "--version", release, lambda v: f"-X main.version={v}")


def archive(kind: str, program: str, content: bytes) -> bytes:
    if not kind:
        return content
    out = io.BytesIO()
    if kind == ".zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as files:
            files.writestr("LICENSE", "free")
            files.writestr(f"folder/{program}", content)
    else:
        with tarfile.open(fileobj=out, mode="w:gz") as files:
            member = tarfile.TarInfo(f"folder/{program}")
            member.size = len(content)
            files.addfile(member, io.BytesIO(content))
    return out.getvalue()


class Mirror(ThreadingHTTPServer):
    """Serves `files`, by path.

    Attributes:
        requests: paths of all requests so far.
        broken: paths whose body is truncated: "cut" with its full Content-Length, "unknown" with none.
        redirects: locations to which paths redirect.
        hold: paths that pause in the middle until `released` is set; `holding` is set meanwhile.
    """

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.server_address[1]}"
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.broken: dict[str, str] = {}
        self.redirects: dict[str, str] = {}
        self.hold: set[str] = set()
        self.holding, self.released = threading.Event(), threading.Event()
        threading.Thread(target=self.serve_forever, args=[0.01], daemon=True).start()

    def publish(self, release: Release, body: bytes, checksum: str | None = None) -> str:
        """Serve a release and its checksum; return the release's path."""
        path, sums = (url.removeprefix("https:/") for url in (release.url, release.checksums_url))
        self.files[path] = body
        line = f"{checksum or hashlib.sha256(body).hexdigest()}  {path.rpartition('/')[2]}\n"
        self.files[sums] = self.files.get(sums, b"") + line.encode()
        return path

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away, or a TLS handshake that it ends, is what some tests are about."""

    def close(self) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if target := self.server.redirects.get(self.path):
            self.send_response(302)
            self.send_header("Location", target)
            self.end_headers()
            return
        body = self.server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        broken = self.server.broken.get(self.path)
        if broken != "unknown":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        half = len(body) // 2
        self.wfile.write(body[:half])
        if self.path in self.server.hold:
            self.server.holding.set()
            self.server.released.wait(PATIENCE)
        if not broken:
            self.wfile.write(body[half:])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    server = Mirror()
    yield server
    server.close()


GO_MOD = (
    "module kubevault.lab/tiny\n\ngo 1.21\n\nrequire example.org/tiny v1.2.3\n\nreplace example.org/tiny => ./src\n"
)


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of Go modules with one whose programs say their version and a number that no build has seen before."""
    module = tmp_path / "tools/tiny"
    files = {
        "go.mod": GO_MOD,
        "src/go.mod": "module example.org/tiny\n\ngo 1.21\n",
        "src/lib/lib.go": f'package lib\n\nconst Number = "{uuid.uuid4()}"\n',
    }
    for program in ("one", "two"):
        files[f"src/cmd/{program}/main.go"] = (
            'package main\n\nimport (\n\t"os"\n\n\t"example.org/tiny/lib"\n)\n\nvar version string\n\n'
            f'func main() {{ os.Stdout.WriteString("{program} " + version + " " + lib.Number + "\\n") }}\n'
        )
    for name, text in files.items():
        (module / name).parent.mkdir(parents=True, exist_ok=True)
        (module / name).write_text(text)
    return tmp_path / "tools"


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def provider(tmp_path: Path, tools: Path, mirror: Mirror, said: io.StringIO) -> Provider:
    return Provider(Cache(tmp_path / "cache"), {}, mirror.url, tools, (project(""),), Progress(said))


def release(program: str = "one", kind: str = "") -> Release:
    return project(kind).release(program, "1.2.3", *target_platform())


def programs(cache: Path) -> list[str]:
    """Return the names of the files in the cache, except the lock file."""
    return sorted(file.name for file in cache.iterdir() if file.name != ".tiny.lock")


def name(program: str) -> str:
    """Return the name of a program in the cache."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tiny").mkdir()
        (Path(folder) / "tiny/go.mod").write_text(GO_MOD)
        return Cache(Path()).path(program, project("").cache_key(Path(folder))).name


def runs(path: Path, program: str) -> bool:
    """Return whether a built program prints its name and version."""
    output = subprocess.run([path], capture_output=True, text=True, check=True).stdout
    return output.startswith(f"{program} 1.2.3 ")


def until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.01)


# Downloads


@pytest.mark.parametrize("kind", ["", ".tar.gz", ".zip"])
def test_the_right_checksum_is_installed(
    provider: Provider, mirror: Mirror, tools: Path, said: io.StringIO, kind: str
) -> None:
    content = os.urandom(1_000_000)
    mirror.publish(release(kind=kind), archive(kind, "one", content))
    provider = Provider(provider.cache, {}, mirror.url, tools, (project(kind),), Progress(said))
    path = provider.provide(["one"])["one"]
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o755
    assert programs(provider.cache.folder) == [name("one")]
    assert "one 1.2.3: downloaded, checksum verified" in said.getvalue()
    mirror.requests.clear()
    assert provider.provide(["one"]) == {"one": path}
    assert not mirror.requests


def test_a_wrong_checksum_is_refused_and_the_build_follows(
    provider: Provider, mirror: Mirror, said: io.StringIO
) -> None:
    mirror.publish(release(), b"evil", checksum="0" * 64)
    path = provider.provide(["one"])["one"]
    assert "WARNING: one 1.2.3: not downloaded: checksum does not match: refused." in said.getvalue()
    assert f"has SHA-256 {hashlib.sha256(b'evil').hexdigest()}; published is {'0' * 64}" in said.getvalue()
    assert "one 1.2.3: building with Go" in said.getvalue()
    assert runs(path, "one")
    assert programs(provider.cache.folder) == [name("one")]


@pytest.mark.parametrize("kind", ["", ".tar.gz", ".zip"])
def test_a_wrong_checksum_installs_nothing(
    provider: Provider,
    mirror: Mirror,
    tools: Path,
    tmp_path: Path,
    said: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    mirror.publish(release(kind=kind), archive(kind, "one", b"evil"), checksum="0" * 64)
    provider = Provider(provider.cache, {}, mirror.url, tools, (project(kind),), Progress(said))
    with pytest.raises(LabError, match="checksum does not match: refused"):
        provider.provide(["one"])
    assert programs(provider.cache.folder) == []


@pytest.mark.parametrize(("broken", "reason"), [("cut", "incomplete"), ("unknown", "checksum does not match: refused")])
def test_a_truncated_file_falls_through_to_the_build(
    provider: Provider, mirror: Mirror, said: io.StringIO, broken: str, reason: str
) -> None:
    path = mirror.publish(release(), os.urandom(1_000_000))
    mirror.broken[path] = broken
    built = provider.provide(["one"])["one"]
    assert re.search(rf"one 1\.2\.3: not downloaded: .*{reason}", said.getvalue())
    assert runs(built, "one")


def test_a_refused_connection_falls_through_to_the_build_and_is_not_tried_again(
    provider: Provider, mirror: Mirror, said: io.StringIO
) -> None:
    mirror.close()
    built = provider.provide()
    assert re.search(r"one 1\.2\.3: not downloaded: .*Connection refused", said.getvalue())
    host = mirror.url.removeprefix("http://")
    assert f"two 1.2.3: not downloaded: {host} was unreachable a moment ago" in said.getvalue()
    assert "one and two 1.2.3: building with Go" in said.getvalue()
    assert all(runs(path, program) for program, path in built.items())


def test_a_host_that_does_not_answer_is_given_up(
    provider: Provider, tools: Path, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "ANSWER_TIMEOUT", 0.1)
    # The kernel accepts connections, and nothing reads them.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        provider = Provider(provider.cache, {}, url, tools, (project(""),), Progress(said))
        built = provider.provide()
    assert "no response within" in said.getvalue()
    assert "two 1.2.3: not downloaded: 127.0.0.1:" in said.getvalue()
    assert all(runs(path, program) for program, path in built.items())


def test_a_download_that_stops_is_given_up(
    provider: Provider, mirror: Mirror, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine too, the mirror has sent the checksum and half of the body by then.
    monkeypatch.setattr(releases, "READ_TIMEOUT", 2)
    mirror.hold.add(mirror.publish(release(), os.urandom(1_000_000)))
    assert runs(provider.provide(["one"])["one"], "one")
    assert "incomplete: Read timed out" in said.getvalue()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda files, path: files.pop(path), "/one.zip: HTTP 404"),
        (lambda files, path: files.pop(f"{path}.sha256"), "/one.zip.sha256: HTTP 404"),
        (lambda files, path: files.update({f"{path}.sha256": b"<html>"}), "has no SHA-256 of this file"),
    ],
    ids=["no release", "no checksum", "no checksum of it"],
)
def test_what_a_mirror_lacks_is_built(
    provider: Provider,
    mirror: Mirror,
    tools: Path,
    said: io.StringIO,
    change: Callable[[dict[str, bytes], str], object],
    reason: str,
) -> None:
    path = mirror.publish(release(kind=".zip"), archive(".zip", "one", b"x"))
    change(mirror.files, path)
    provider = Provider(provider.cache, {}, mirror.url, tools, (project(".zip"),), Progress(said))
    assert runs(provider.provide(["one"])["one"], "one")
    assert reason in said.getvalue()


@pytest.mark.parametrize("kind", [".tar.gz", ".zip"])
@pytest.mark.parametrize("body", [b"no archive", None], ids=["no archive", "without the program"])
def test_an_archive_without_the_program_is_not_used(
    provider: Provider, mirror: Mirror, tools: Path, said: io.StringIO, kind: str, body: bytes | None
) -> None:
    mirror.publish(release(kind=kind), body or archive(kind, "other", b"x"))
    provider = Provider(provider.cache, {}, mirror.url, tools, (project(kind),), Progress(said))
    assert runs(provider.provide(["one"])["one"], "one")
    assert "folder/one cannot be extracted" in said.getvalue()


def certificate(folder: Path) -> ssl.SSLContext:
    """Return a server's context for 127.0.0.1; its CA is folder/ca.crt."""
    from support.servers import Authority  # here, since the process that `start` starts runs this file without pytest

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(folder).issue("mirror"))
    return context


@pytest.fixture
def https(tmp_path: Path) -> Iterator[Mirror]:
    server = Mirror(certificate(tmp_path))
    yield server
    server.close()


@pytest.mark.parametrize(
    ("trusted", "redirect", "reason"),
    [
        (True, False, "downloaded, checksum verified"),
        (False, False, "certificate verify failed"),
        (True, True, "redirects to plain HTTP: refused"),
    ],
)
def test_an_https_mirror_is_verified(
    provider: Provider,
    mirror: Mirror,
    https: Mirror,
    tools: Path,
    tmp_path: Path,
    said: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
    trusted: bool,
    redirect: bool,
    reason: str,
) -> None:
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
    path = https.publish(release(), b"x")
    mirror.publish(release(), b"x")
    if redirect:
        https.redirects[f"{path}.sha256"] = f"{mirror.url}{path}.sha256"
    provider = Provider(provider.cache, {}, https.url, tools, (project(""),), Progress(said))
    provider.provide(["one"])
    assert reason in said.getvalue()


# Builds


def test_the_programs_of_a_project_are_built_together(
    provider: Provider, said: io.StringIO, tmp_path: Path, gate: Gate
) -> None:
    gate.open()
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in gate.environment.items():
            patch.setenv(variable, value)
        built = provider.provide()
    assert all(runs(path, program) for program, path in built.items())
    assert programs(provider.cache.folder) == [name("one"), name("two")]
    assert gate.compiled() == 1
    assert re.search(r"one and two 1\.2\.3: built in \d+ s", said.getvalue())


def test_a_build_that_fails_says_why_and_what_to_do(provider: Provider, tools: Path) -> None:
    (tools / "tiny/src/lib/lib.go").write_text("package lib\n\nconst Number = missing\n")
    with pytest.raises(LabError) as caught:
        provider.provide()
    assert "one and two 1.2.3 cannot be provided." in str(caught.value)
    assert re.search(r"download of two: .*HTTP 404", str(caught.value))
    assert "lib.go:3:16: undefined: missing" in str(caught.value)
    assert programs(provider.cache.folder) == []


def test_with_no_way_left_the_error_says_what_to_do(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError) as caught:
        provider.provide(["one"])
    text = str(caught.value)
    assert "build: Go is not installed" in text
    assert "install Go 1.21 or newer" in text
    assert "set KUBEVAULT_ONE to the path of one 1.2.3" in text
    assert "set KUBEVAULT_MIRROR to" in text
    assert programs(provider.cache.folder) == []


def test_a_module_that_go_sum_does_not_vouch_for_is_not_built(provider: Provider, tools: Path) -> None:
    """go.mod names a version: without its hash in go.sum, Go must refuse it, not add one."""
    with (tools / "tiny/go.mod").open("a") as go_mod:
        go_mod.write("\nrequire golang.org/x/text v0.14.0\n")
    (tools / "tiny/src/lib/more.go").write_text('package lib\n\nimport _ "golang.org/x/text/width"\n')
    with pytest.raises(LabError, match=r"golang\.org/x/text"):
        provider.provide()
    assert not (tools / "tiny/go.sum").exists()


def test_a_cache_that_cannot_be_written_is_an_error(provider: Provider, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder is needed")
    with pytest.raises(LabError, match=r"the cache .*/cache cannot be used: .*set KUBEVAULT_CACHE"):
        provider.provide()


# Interruptions and concurrent runs


class Gate:
    """Suspends builds by Go before it compiles tiny/lib, until the gate opens."""

    def __init__(self, folder: Path) -> None:
        self._lock = (folder / "gate").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._log = folder / "compiled"
        tool = folder / "toolexec"
        tool.write_text(
            f'#!/bin/sh\ncase "$*" in\n*-V=full*) ;;\n*" -p example.org/tiny/lib "*)\n'
            f'echo >>"{self._log}"\nflock "{folder}/gate" true ;;\nesac\nexec "$@"\n'
        )
        tool.chmod(0o755)
        self.environment = {"GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -toolexec={tool}".strip()}

    def compiled(self) -> int:
        """Number of times that Go reached the gate."""
        return self._log.read_text().count("\n") if self._log.exists() else 0

    def open(self) -> None:
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        self._lock.close()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    found = Gate(tmp_path)
    yield found
    found.close()


@pytest.fixture
def start(tmp_path: Path, tools: Path, mirror: Mirror, gate: Gate) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts another run, whose errors go to the file `err` of the returned process."""
    processes: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        err = tmp_path / f"err-{len(processes)}"
        with err.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, __file__, tmp_path / "cache", tools, mirror.url, ""],
                env={**os.environ, **gate.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            )
        process.err = err  # type: ignore[attr-defined]
        processes.append(process)
        return process

    yield begin
    gate.open()
    for process in processes:
        with process:
            process.kill()


Start = Callable[[], subprocess.Popen[str]]


def nobody_is_at_work(provider: Provider) -> None:
    def waiting() -> None:
        pytest.fail("the lock is still held: something of the run that ended is left")

    with provider.cache.exclusive("tiny", waiting):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_nothing(
    provider: Provider, start: Start, gate: Gate, number: signal.Signals
) -> None:
    process = start()
    until(gate.compiled, process)
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    nobody_is_at_work(provider)
    assert programs(provider.cache.folder) == []


def test_a_killed_build_leaves_no_program_and_the_next_run_builds(provider: Provider, start: Start, gate: Gate) -> None:
    killed = start()
    until(gate.compiled, killed)
    killed.kill()
    killed.communicate()
    assert not set(programs(provider.cache.folder)) & {name("one"), name("two")}
    # Go is still running: the next run waits for it before it uses the folder for unfinished files.
    process = start()
    until(lambda: "tiny: another run is providing it; waiting" in process.err.read_text(), process)
    gate.open()
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, process.err.read_text()
    assert all(runs(Path(path), program) for program, path in json.loads(out).items())
    assert programs(provider.cache.folder) == [name("one"), name("two")]


def test_two_at_once_build_once(provider: Provider, start: Start, gate: Gate) -> None:
    first = start()
    until(gate.compiled, first)
    second = start()
    until(lambda: "tiny: another run is providing it; waiting" in second.err.read_text(), second)
    gate.open()
    outs = [process.communicate(timeout=PATIENCE)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], second.err.read_text()
    assert outs[0] == outs[1]
    assert gate.compiled() == 1
    assert "built in" in first.err.read_text()
    assert "building" not in second.err.read_text()


def test_two_that_both_want_to_build_build_once(start: Start, gate: Gate, tmp_path: Path) -> None:
    # Go prints its version slowly, so that both find no release before either builds.
    asked = tmp_path / "asked"
    asked.touch()
    (tmp_path / "bin").mkdir()
    slow = tmp_path / "bin/go"
    slow.write_text(
        f'#!/bin/sh\n[ "$1" != version ] || {{ echo >>"{asked}"; flock -s "{tmp_path}/gate" true; }}\n'
        f'exec "{shutil.which("go")}" "$@"\n'
    )
    slow.chmod(0o755)
    gate.environment["PATH"] = f"{slow.parent}:{os.environ['PATH']}"
    processes = [start(), start()]
    for process in processes:
        until(lambda: asked.read_text().count("\n") == 2, process)
    gate.open()
    outs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    said = "".join(process.err.read_text() for process in processes)
    assert [process.returncode for process in processes] == [0, 0], said
    assert outs[0] == outs[1]
    assert said.count("not downloaded") == 4
    assert said.count("built in") == 1


def test_a_build_says_how_far_it_is(start: Start, gate: Gate) -> None:
    process = start()
    pattern = r"one and two 1\.2\.3: building, package (\d+) of (\d+) \((\d+) %\), \d+ s"
    until(gate.compiled, process)
    until(lambda: re.search(pattern, process.err.read_text()), process)
    done, total, percent = map(int, re.findall(pattern, process.err.read_text())[-1])
    # At the gate, neither program is built yet.
    assert done <= total - 2
    assert percent == 100 * done // total


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_download_leaves_no_program(
    provider: Provider, mirror: Mirror, start: Start, said: io.StringIO, number: signal.Signals
) -> None:
    content = os.urandom(1_000_000)
    for program in ("one", "two"):
        path = mirror.publish(release(program), content)
    mirror.hold.add(path)
    process = start()
    assert mirror.holding.wait(PATIENCE)
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    nobody_is_at_work(provider)
    # The first program was complete.
    assert programs(provider.cache.folder) == [name("one")]
    mirror.released.set()
    assert provider.provide()["two"].read_bytes() == content
    assert programs(provider.cache.folder) == [name("one"), name("two")]


# The command line and the role, with the programs of the lab


@pytest.fixture
def lab_mirror(mirror: Mirror) -> Mirror:
    """A mirror with a stand-in for each program of the lab, in the versions that tools/ pins.

    They are fakes: their content does not matter here, and the real ones have 200 MB.
    """
    for found in PROJECTS:
        for program in found.packages:
            version = found.version(REPOSITORY / "tools")
            upstream = found.release(program, version, *target_platform())
            content, out = program.encode(), io.BytesIO()
            if upstream.url.endswith(".zip"):
                with zipfile.ZipFile(out, "w") as files:
                    files.writestr(upstream.member, content)
            elif upstream.url.endswith(".tar.gz"):
                with tarfile.open(fileobj=out, mode="w:gz") as files:
                    member = tarfile.TarInfo(upstream.member)
                    member.size = len(content)
                    files.addfile(member, io.BytesIO(content))
            mirror.publish(upstream, out.getvalue() or content)
    return mirror


@pytest.fixture
def environment(tmp_path: Path, lab_mirror: Mirror) -> dict[str, str]:
    """The environment with the mirror, an empty cache, and a PATH without Go and without programs of the lab."""
    (tmp_path / "bin").mkdir()
    mine = {"HOME", "LANG", "LC_ALL", "TMPDIR"}
    return {
        **{variable: value for variable, value in os.environ.items() if variable in mine},
        "PATH": str(tmp_path / "bin"),
        "KUBEVAULT_CACHE": str(tmp_path / "cache"),
        "KUBEVAULT_MIRROR": lab_mirror.url,
    }


def test_the_command_line_writes_the_paths(environment: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kubevault_lab.binaries"]
    first = subprocess.run([*command, "--output", "json"], env=environment, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    paths = json.loads(first.stdout)
    assert list(paths) == list(SERVER_PROGRAMS)
    assert {program: Path(path).read_text() for program, path in paths.items()} == {p: p for p in paths}
    second = subprocess.run([*command, "vault"], env=environment, capture_output=True, text=True, check=False)
    assert (second.returncode, second.stdout, second.stderr) == (0, f"vault: {paths['vault']}\n", "")


def test_the_command_line_says_what_to_do(environment: dict[str, str], mirror: Mirror, tmp_path: Path) -> None:
    mirror.files.clear()
    found = subprocess.run(
        [sys.executable, "-m", "kubevault_lab.binaries"], env=environment, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (1, "")
    assert "error: etcd 3" in found.stderr
    assert "set KUBEVAULT_ETCD to the path of etcd" in found.stderr


def play(environment: dict[str, str], tmp_path: Path, *options: str) -> str:
    """Run the role, and check the paths that it returns."""
    expected = {
        program: str(Cache(tmp_path / "cache").path(program, found.cache_key(REPOSITORY / "tools")))
        for found in PROJECTS
        for program in found.packages
        if program in SERVER_PROGRAMS
    }
    check = {"ansible.builtin.assert": {"that": f"lab_binaries_paths == {json.dumps(expected)}"}}
    playbook = tmp_path / "play.yml"
    playbook.write_text(
        json.dumps([{"hosts": "localhost", "gather_facts": False, "roles": ["lab-binaries"], "post_tasks": [check]}])
    )
    found = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), playbook, *options],
        env={**environment, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_HOME": str(tmp_path / "home")},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout + found.stderr


def test_the_role_fills_the_cache_once(environment: dict[str, str], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    planned = play(environment, tmp_path, "--check", "--diff")
    assert "changed=1 " in planned
    assert "failed=0" in planned, planned
    assert f"+{cache}/vault-" in planned
    assert not cache.exists()
    for changed in (1, 0):
        done = play(environment, tmp_path)
        assert f"changed={changed} " in done, done
        assert "failed=0" in done
    assert next(cache.glob("vault-*")).read_text() == "vault"
    again = play(environment, tmp_path, "--check")
    assert "changed=0 " in again
    assert "failed=0" in again, again


def test_the_role_refuses_a_wrong_checksum(environment: dict[str, str], mirror: Mirror, tmp_path: Path) -> None:
    for path in mirror.files:
        if path.endswith("kube-apiserver"):
            mirror.files[path] = b"evil"
    failed = play(environment, tmp_path)
    assert "failed=1" in failed
    assert "WARNING" in failed
    assert "checksum does not match: refused" in failed
    assert not [file for file in (tmp_path / "cache").iterdir() if file.name.startswith("kube-apiserver")]


def test_a_node_needs_more_programs(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "kubevault_lab.binaries", "--node", "--output", "json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)) == list(PROGRAMS)


if __name__ == "__main__":
    _, folder, modules, url, archives = sys.argv
    sys.exit(
        run(
            Provider(
                Cache(Path(folder)), {}, url, Path(modules), (project(archives),), Progress(sys.stderr, interval=0.02)
            ),
            None,
            "json",
        )
    )
