"""An answer has a time and a size, whatever the server does; `support.hostile` stands in for such a server."""

from __future__ import annotations

import json
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from google.auth.compute_engine import _metadata
from support.client import refused
from support.hostile import LIFE, Serve, dripping, flooding, hostile

from secretmanager.delivery import notify
from secretmanager.errors import ConfigError, KubernetesUnavailable, NoticeError, VaultUnavailable
from secretmanager.login import gcp
from secretmanager.notices.redis import Notice, Notices
from secretmanager.servers import connection, execplugin, http, kubernetes
from secretmanager.servers.connection import LimitedConnection
from secretmanager.servers.kubernetes import KubernetesClient
from secretmanager.servers.vault import TransitItem, VaultClient

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BODY = b'{"data": {}}'
LENGTH = b"Content-Length: %d\r\n\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
MANY = 24 * 1024 * 1024  # bytes; more than an answer may have
BLOCK = b" " * 64 * 1024
TIMEOUT = 0.5  # seconds
PATIENCE = 60.0  # seconds

SLOW: dict[str, Serve] = {
    "the status line": dripping(b" ", before=b"HTTP/1.1 200 O", after=b"\r\n" + LENGTH + BODY),
    "interim responses": dripping(b"HTTP/1.1 100 Continue\r\n\r\n", after=OK + LENGTH + BODY),
    "headers": dripping(b" ", before=OK + b"X:", after=b"\r\n" + LENGTH + BODY),
    "the body": dripping(b" ", before=OK + b"Connection: close\r\n\r\n" + BODY),
    "the body of a length": dripping(
        b" ", before=OK + b"Content-Length: 1000000\r\n\r\n", after=BODY.ljust(1_000_000, b" ")
    ),
    "chunks": dripping(b"1\r\n \r\n", before=OK + CHUNKED, after=b"c\r\n" + BODY + b"\r\n" + LAST),
    "trailers": dripping(b"X: y\r\n", before=OK + CHUNKED + b"c\r\n" + BODY + b"\r\n0\r\n", after=b"\r\n"),
}

LARGE: dict[str, Serve] = {
    "interim responses": flooding(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, MANY, after=OK + LENGTH + BODY),
    "a body that says it": flooding(BLOCK, MANY, before=OK + b"Content-Length: %d\r\n\r\n" % MANY),
    "a body of more bytes than there is memory": flooding(
        BODY, 1, before=OK + b"Content-Length: 99999999999999\r\n\r\n"
    ),
    "a body without an end": flooding(BLOCK, MANY, before=OK + b"Connection: close\r\n\r\n" + BODY),
    "chunks": flooding(
        b"10000\r\n" + BLOCK + b"\r\n", MANY, before=OK + CHUNKED + b"c\r\n" + BODY + b"\r\n", after=LAST
    ),
    "a chunk larger than memory": flooding(BLOCK, MANY, before=OK + CHUNKED + b"fffffffffff\r\n"),
    "trailers": flooding(b"X: y\r\n" * 1000, MANY, before=OK + CHUNKED + b"c\r\n" + BODY + b"\r\n0\r\n", after=b"\r\n"),
}


@pytest.mark.parametrize("serve", SLOW.values(), ids=SLOW)
def test_time_is_that_of_the_whole_answer(tmp_path: Path, serve: Serve) -> None:
    with hostile(tmp_path, serve) as server:
        vault = VaultClient(server.url, ca_cert=server.ca, timeout=TIMEOUT)
        with refused(
            VaultUnavailable, "timed out after 0.5 s.*; if it is only slow, raise the timeout", place=server.url
        ):
            vault.request("GET", "sys/mounts")
        assert server.connections == 1


@pytest.mark.parametrize("serve", LARGE.values(), ids=LARGE)
def test_an_answer_has_a_size(tmp_path: Path, serve: Serve) -> None:
    with hostile(tmp_path, serve) as server:
        vault = VaultClient(server.url, ca_cert=server.ca)
        said = r"is larger than 8,388,608 bytes, the limit.*; check the address, and what is in front of the server"
        with refused(VaultUnavailable, said, place=server.url):
            vault.request("GET", "sys/mounts")
        assert server.connections == 1  # it would bring as much again


@pytest.mark.parametrize("size", [b"-5", b"-1", b"PLAIN-x", b""])
def test_a_chunk_without_a_size(tmp_path: Path, size: bytes) -> None:
    with hostile(tmp_path, flooding(OK + CHUNKED + size + b"\r\n" + BODY + b"\r\n" + LAST, 1)) as server:
        vault = VaultClient(server.url, ca_cert=server.ca, retries=0)
        with refused(VaultUnavailable, "did not answer with HTTP|cut short", place=server.url):
            vault.request("GET", "sys/mounts")


def test_the_size_of_a_batch_is_larger(tmp_path: Path) -> None:
    text = "x" * 8 * 1024 * 1024
    body = json.dumps({"data": {"batch_results": [{"ciphertext": text}]}}).encode()
    serve = flooding(body, 1, before=OK + b"Content-Length: %d\r\n\r\n" % len(body))
    with hostile(tmp_path, serve) as server:
        assert VaultClient(server.url, ca_cert=server.ca).encrypt("key", [TransitItem(b"a")]) == [text]


def test_a_handshake_has_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT", TIMEOUT)
    monkeypatch.setattr(http, "CONNECT_TIMEOUT", TIMEOUT)
    record = b"\x16\x03\x03\x40\x00"  # the head of a handshake's record of 16 KiB
    with hostile(tmp_path, dripping(b"\x02", before=record), tls=False, head=b"\x16") as server:
        vault = VaultClient(server.url.replace("http:", "https:"), ca_cert=server.ca, timeout=5, retries=0)
        with refused(VaultUnavailable, "timed out after 0.5 s"):
            vault.request("GET", "sys/mounts")


def test_what_a_server_takes_slowly(tmp_path: Path) -> None:
    def slow(connection: Any) -> None:
        until = time.monotonic() + LIFE
        while time.monotonic() < until:
            connection.recv(65536)
            time.sleep(0.02)
        left = len(body["a"])
        while left > 2**20:  # about; a client without a limit is done by then
            left -= len(connection.recv(2**20)) or left
        connection.sendall(OK + LENGTH + BODY)

    body = {"a": "x" * 20 * 1024 * 1024}
    with hostile(tmp_path, slow) as server:
        vault = VaultClient(server.url, ca_cert=server.ca, timeout=TIMEOUT)
        with refused(VaultUnavailable, "timed out after 0.5 s", place=server.url):
            vault.request("POST", "sys/mounts", body, idempotent=False)
        assert server.connections == 1


def test_a_body_in_parts_has_the_time_for_each(tmp_path: Path) -> None:
    """As that of a snapshot, which takes longer than other requests."""

    def parts() -> Iterator[bytes]:
        for _ in range(4):
            time.sleep(TIMEOUT / 2)
            yield b"x" * 1000

    def serve(connection: Any) -> None:
        received = b""
        while LAST not in received:
            received += connection.recv(65536)
        sizes.append(received.count(b"x"))
        connection.sendall(OK + LENGTH + BODY)

    sizes: list[int] = []
    with hostile(tmp_path, serve) as server:
        vault = VaultClient(server.url, ca_cert=server.ca, timeout=TIMEOUT)
        assert vault.request("POST", "sys/storage/raft/snapshot-force", parts(), idempotent=False).ok
    assert sizes == [4000]
    with hostile(tmp_path, dripping(b" ", before=OK + b"X:", after=b"\r\n" + LENGTH + BODY)) as server:
        vault = VaultClient(server.url, ca_cert=server.ca, timeout=TIMEOUT)
        with refused(VaultUnavailable, "timed out after 0.5 s"):
            vault.request("POST", "sys/storage/raft/snapshot-force", [b"x"], idempotent=False)


@pytest.mark.parametrize(
    ("serve", "said"),
    [
        (dripping(b"X: y\r\n", before=b"HTTP/1.0 200 OK\r\n", after=b"\r\n"), "timed out after 0.5 s"),
        (flooding(b"X: %s\r\n" % (b"y" * 1000), MANY, before=b"HTTP/1.0 200 OK\r\n", after=b"\r\n"), "8,388,608|HTTP"),
    ],
)
def test_a_proxy_has_them_too(tmp_path: Path, serve: Serve, said: str) -> None:
    with hostile(tmp_path, serve, tls=False) as server:
        timeout = TIMEOUT if "timed out" in said else PATIENCE
        vault = VaultClient("https://192.0.2.1:8200", ca_cert=server.ca, proxy=server.url, timeout=timeout, retries=0)
        with refused(VaultUnavailable, f"proxy 127.0.0.1:{server.port}: .*({said})", place="https://192.0.2.1:8200"):
            vault.request("GET", "sys/mounts")


def test_a_name_of_many_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gets a part of the time, and the last all that is left."""
    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{n}", 1)) for n in range(1, 4)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    tried: list[tuple[str, float]] = []

    def connect(self: Any, place: tuple[str, int]) -> None:
        tried.append((place[0], self.gettimeout()))
        raise TimeoutError

    monkeypatch.setattr(socket.socket, "connect", connect)
    one = LimitedConnection("many", 1)
    one.limits.begin(90, 1)
    with pytest.raises(TimeoutError):
        one.connect()
    assert [(address, round(seconds / 10)) for address, seconds in tried] == [
        ("192.0.2.1", 3),
        ("192.0.2.2", 4),
        ("192.0.2.3", 9),
    ]


# Kubernetes


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Any:
    def write(server: Any, **user: Any) -> str:
        content = {
            "clusters": [{"name": "it", "cluster": {"server": server.url, "certificate-authority": server.ca}}],
            "users": [{"name": "it", "user": user or {"token": "a"}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "current-context": "it",
        }
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return write


EVENT = b'{"type": "MODIFIED", "object": {"a": 1}}\n'


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


def test_the_size_of_an_event(tmp_path: Path, kubeconfig: Any) -> None:
    serve = flooding(chunk(BLOCK), MANY, before=OK + CHUNKED + chunk(EVENT), after=chunk(EVENT) + LAST)
    with hostile(tmp_path, serve) as server:
        watch = iter(KubernetesClient.from_kubeconfig(kubeconfig(server)).watch("secrets", "a", "b"))
        assert next(watch) == ("MODIFIED", {"a": 1})
        with refused(KubernetesUnavailable, "larger than 8,388,608 bytes", place=server.url):
            next(watch)


def test_many_events_are_larger_together(tmp_path: Path, kubeconfig: Any) -> None:
    event = EVENT.replace(b" ", b" " * 2**20)
    with hostile(tmp_path, flooding(chunk(event), MANY, before=OK + CHUNKED, after=LAST)) as server:
        events = list(KubernetesClient.from_kubeconfig(kubeconfig(server)).watch("secrets", "a", "b"))
    assert len(events) * len(event) >= MANY


def test_the_time_of_a_watch(tmp_path: Path, kubeconfig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "STREAM_GRACE", -0.5)
    with hostile(tmp_path, dripping(b"1\r\n \r\n", before=OK + CHUNKED, after=chunk(EVENT) + LAST)) as server:
        watch = KubernetesClient.from_kubeconfig(kubeconfig(server)).watch("secrets", "a", "b", seconds=1)
        with refused(KubernetesUnavailable, "timed out after 0.5 s", place=server.url):
            list(watch)


def test_the_size_of_a_watchs_refusal(tmp_path: Path, kubeconfig: Any) -> None:
    lines = flooding(b"x" * 1000 + b"\n", MANY, before=OK.replace(b"200", b"403") + b"Connection: close\r\n\r\n")
    with hostile(tmp_path, lines) as server:
        client = KubernetesClient.from_kubeconfig(kubeconfig(server))
        with refused(KubernetesUnavailable, "larger than 8,388,608 bytes", place=server.url):
            client.watch("secrets", "a", "b")


def test_of_a_page_that_is_too_large_fewer_are_asked_for(
    tmp_path: Path, kubeconfig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of 500 Secrets of 1 MiB each."""
    monkeypatch.setattr(kubernetes, "PAGE", 4)
    monkeypatch.setattr(kubernetes, "PAGE_BYTES", 100_000)
    secrets = [{"metadata": {"namespace": "a", "name": str(n)}, "x": "x" * 40_000} for n in range(5)]
    limits: list[int] = []
    monkeypatch.setattr(KubernetesClient, "_as_known", lambda self, send: send({}))
    original = http.JsonApi.request

    def request(self: http.JsonApi, method: str, path: str, *args: Any, **options: Any) -> http.Response:
        query = dict(item.split("=") for item in path.partition("?")[2].split("&"))
        limits.append(limit := int(query["limit"]))
        start = int(query.get("continue", 0))
        metadata = {"continue": str(start + limit)} if start + limit < len(secrets) else {}
        pages.append(json.dumps({"items": secrets[start : start + limit], "metadata": metadata}).encode())
        return original(self, method, path, *args, **options)

    def serve(connection: Any) -> None:
        connection.sendall(OK + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(pages[-1]) + pages[-1])

    pages: list[bytes] = []
    monkeypatch.setattr(http.JsonApi, "request", request)
    with hostile(tmp_path, serve) as server:
        client = KubernetesClient.from_kubeconfig(kubeconfig(server))
        assert list(client.list_secrets()) == secrets
        assert limits == [4, 1, 1, 1, 1, 1]
        monkeypatch.setattr(kubernetes, "ANSWER", 20_000)
        with refused(KubernetesUnavailable, "larger than 20,000 bytes", place=server.url):
            list(client.list_secrets())


# An exec plugin


def plugin(folder: Path, script: str) -> dict[str, Any]:
    program = folder / "plugin"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"exec": {"apiVersion": execplugin.API_VERSIONS[0], "command": str(program), "interactiveMode": "Never"}}


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("head -c 3000000 /dev/zero", "plugin: writes more than 1,048,576 bytes; check that it is the program"),
        ("sleep 10", "plugin: did not end within 0 s"),
        ("exec >&-; sleep 10", "plugin: did not end within 0 s"),
        ("for n in 1 2 3 4 5 6 7 8 9; do echo PLAIN-x; sleep 0.2; done", "plugin: did not end within 0 s"),
    ],
)
def test_what_a_plugin_writes_and_how_long(
    tmp_path: Path, kubeconfig: Any, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    if "sleep" in script:
        monkeypatch.setattr(execplugin, "_TIMEOUT", 0.3)
    with hostile(tmp_path, flooding(OK + LENGTH + BODY, 1)) as server:
        client = KubernetesClient.from_kubeconfig(kubeconfig(server, **plugin(tmp_path, script)))
        with refused(ConfigError, said):
            client.get_secret("a", "b")
        assert server.connections == 0


# Redis, Google, a program of the pod


@pytest.mark.parametrize(
    ("serve", "said"),
    [
        (dripping(b"x", before=b"+OK", after=b"\r\n:1\r\n" * 9), "Timeout"),
        (flooding(b"x" * 65536, 3 * 2**20, before=b"$3145728\r\n", after=b"\r\n" + b":1\r\n" * 9), "1,048,576 bytes"),
        (flooding(b"x" * 65536, 3 * 2**20, before=b"+", after=b"\r\n" + b":1\r\n" * 9), "1,048,576 bytes"),
        (flooding(b"$1000\r\n" + b"x" * 1000 + b"\r\n", 3 * 2**20, before=b"*999999999\r\n"), "1,048,576 bytes"),
        (flooding(b"*1\r\n" * 16384, 2**17, after=b":1\r\n" * 9), "recursion"),
    ],
)
def test_redis(tmp_path: Path, serve: Serve, said: str) -> None:
    (tmp_path / "password").write_text("a")
    with hostile(tmp_path, serve, head=b"AUTH") as server:
        url = server.url.replace("https", "rediss")
        timeout = TIMEOUT if said == "Timeout" else PATIENCE
        notices = Notices(url, password_file=str(tmp_path / "password"), ca_cert=server.ca, timeout=timeout)
        with notices, refused(NoticeError, said, place=url):
            notices.publish(Notice("a", "b"))


@pytest.mark.parametrize(
    ("serve", "said"),
    [
        (dripping(b" ", before=OK + b"X:", after=b"\r\n" + LENGTH + BODY), "timed out"),
        (flooding(BLOCK, MANY, before=OK + b"Connection: close\r\n\r\n"), "TooLarge"),
        (flooding(BODY, 1, before=b"HTTP/1.1 302 x\r\nLocation: http://192.0.2.1/\r\n" + LENGTH), "Status: 302"),
    ],
)
def test_googles_metadata_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve, said: str) -> None:
    original = gcp.LimitedConnection

    class Impatient(original):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            begin = self.limits.begin
            self.limits.begin = lambda seconds, size: begin(TIMEOUT, size)  # type: ignore[method-assign]

    monkeypatch.setattr(gcp, "LimitedConnection", Impatient)
    monkeypatch.setattr("google.auth._exponential_backoff.time", SimpleNamespace(sleep=lambda seconds: None))
    with hostile(tmp_path, serve, tls=False) as server:
        monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", f"127.0.0.1:{server.port}")
        account = gcp.from_metadata_server("reader", "gcp")
        with refused(ConfigError, f"metadata server issues no token: .*{said}"):
            account.log_in(VaultClient("https://127.0.0.1:1"))


def test_a_program_that_is_notified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "TIMEOUT", TIMEOUT)
    monkeypatch.setattr(notify, "ATTEMPTS", 1)
    slow = dripping(b"HTTP/1.1 100 Continue\r\n\r\n", after=b"HTTP/1.1 204 x\r\n\r\n")
    with hostile(tmp_path, slow, tls=False) as server, pytest.raises(notify.NotNotified, match="TimeoutError"):
        notify.by_request(f"{server.url}/x")()
