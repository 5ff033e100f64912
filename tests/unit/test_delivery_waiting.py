"""Waiting at the start of a pod, the reason that is left, and notices to programs: without servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.servers import free_port

from secretmanager.delivery import notify, waiting
from secretmanager.delivery.notify import NotNotified, by_request, by_signal
from secretmanager.delivery.waiting import TERMINATION_VARIABLE, backoff, leave_reason, patiently
from secretmanager.errors import (
    ConfigError,
    DecryptionFailed,
    Forbidden,
    SecretFormatError,
    SecretManagerError,
    VaultSealed,
    VaultUnavailable,
)


def failing(*errors: SecretManagerError) -> tuple[Callable[[], str], list[SecretManagerError]]:
    """Return what raises one error after the other and then succeeds, and the errors that are left."""
    left = list(errors)

    def attempt() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return attempt, left


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    monkeypatch.setattr(waiting, "backoff", lambda attempt: 0.001)
    monkeypatch.setenv(TERMINATION_VARIABLE, str(tmp_path / "log"))
    return []


def test_what_waiting_mends(said: list[str]) -> None:
    attempt, _ = failing(VaultSealed("sealed"), VaultUnavailable("away"), Forbidden("not yet"), VaultSealed("again"))
    assert patiently(attempt, 60, said.append) == "done"
    assert [line.rpartition(": ")[2] for line in said] == ["sealed", "away", "not yet", "again"]


@pytest.mark.parametrize("error", [ConfigError("x"), SecretFormatError("x"), DecryptionFailed("x")])
def test_what_waiting_does_not_mend(said: list[str], error: SecretManagerError) -> None:
    attempt, left = failing(error, VaultSealed("never"))
    with pytest.raises(type(error)):
        patiently(attempt, 60, said.append)
    assert (len(left), said) == (1, [])


def test_no_waiting(said: list[str]) -> None:
    attempt, left = failing(VaultSealed("once"), VaultSealed("twice"))
    with pytest.raises(VaultSealed, match="once"):
        patiently(attempt, 0, said.append)
    assert (len(left), said) == (1, [])


def test_a_refusal_is_waited_for_less_long(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "REFUSED_FOR", 0.0)
    attempt, left = failing(VaultSealed("sealed"), Forbidden("no"), VaultSealed("never"))
    with pytest.raises(Forbidden):
        patiently(attempt, 60, said.append)
    assert (len(left), len(said)) == (1, 1)


def test_pauses_grow_to_a_limit_and_differ() -> None:
    for attempt in range(2000):
        assert 0.5 <= backoff(attempt) <= waiting.MAX_PAUSE
    assert backoff(1000) >= waiting.MAX_PAUSE / 2
    assert len({backoff(3) for _ in range(10)}) > 1


def test_the_reason_is_one_line_and_short(said: list[str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    leave_reason("two\nlines")
    assert log.read_text() == "two lines"
    leave_reason("ä" * 5000)
    assert log.stat().st_size <= 4096


def test_the_reason_is_left_while_it_waits(said: list[str], tmp_path: Path) -> None:
    log, left = tmp_path / "log", []

    def attempt() -> None:
        left.append(log.exists() and log.read_text())
        if len(left) == 1:
            raise VaultSealed("sealed")

    patiently(attempt, 60, said.append)
    assert left == [False, "sealed"]
    assert log.read_text() == ""


PROGRAM = "a-program-of-the-tests"


@contextmanager
def program(name: str = PROGRAM) -> Iterator[subprocess.Popen[str]]:
    """Run a parent and its child of one name, which say which signal they got."""
    code = (
        "import os, signal\n"
        "who = b'parent\\n' if os.fork() else b'child\\n'\n"
        "signal.signal(signal.SIGHUP, lambda *_: (os.write(1, who), os._exit(0)))\n"
        "os.write(1, b'ready\\n')\n"
        "while True: signal.pause()\n"
    )
    with subprocess.Popen(
        [f"/somewhere/{name}", "-c", code],
        executable=sys.executable,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        try:
            assert process.stdout
            assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_signal_goes_to_the_parent() -> None:
    with program() as process:
        assert process.stdout
        by_signal("HUP", PROGRAM)()
        assert process.stdout.readline() == "parent\n"


def test_no_process_and_no_signal() -> None:
    with pytest.raises(NotNotified, match="there is no process nosuch; the pod needs shareProcessNamespace"):
        by_signal("sighup", "nosuch")()
    for name in ("NOSUCH", "_BLOCK", ""):
        with pytest.raises(ConfigError, match=f"signal: found '{name}'"):
            by_signal(name, "x")


@contextmanager
def answering(*statuses: int) -> Iterator[tuple[str, list[str]]]:
    """Serve on loopback, with one status after the other; yield the address and the requests so far."""
    left, seen = list(statuses), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.path)
            self.send_response(left.pop(0))
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/-/reload?x=y", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_request_is_repeated_until_it_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "_PAUSE", 0.001)
    with answering(503, 500, 204) as (url, seen):
        by_request(url)()
        assert seen == ["/-/reload?x=y"] * 3


def test_a_request_is_not_repeated_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "_PAUSE", 0.001)
    with answering(*[503] * notify.ATTEMPTS) as (url, seen):
        with pytest.raises(NotNotified, match="does not take the notice: status 503"):
            by_request(url)()
        assert len(seen) == notify.ATTEMPTS
    with pytest.raises(NotNotified, match="ConnectionRefusedError"):
        by_request(f"http://localhost:{free_port()}")()


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.1/x", "http://example.org/", "https://127.0.0.1/", "http://u:p@127.0.0.1/", "file:///etc", ""],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="allowed is http:// and a loopback address"):
        by_request(url)
