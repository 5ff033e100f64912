"""What stands between a client and a server in the field: load balancers, ingresses, proxies. To be closed."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Callable
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubevault_lab.ports import free_port
from secretmanager.servers.http import tls_context

Answer = Callable[[str], bytes | None]
"""Returns the raw response to a request for a path; None lets the request pass to the server."""


class Intermediary:
    """Ends TLS in front of a server by a certificate of its own, and may answer in the server's place.

    Args:
        url: the server's address.
        ca: file of the CA of the server's certificate.
        certificate: files of the certificate and its key.
        port: port to listen on; by default a free one, which stays its own when it is closed.

    Attributes:
        url: its address.
        answer: its own answers, as bytes of HTTP.
        after: called with the path after a request was passed, before the server's response is.
        limit: how long a request's body may be, in bytes; a longer one is refused before it is read.
        paths: the paths of all requests so far, in order.
    """

    def __init__(self, url: str, ca: str, certificate: tuple[Path, Path], port: int | None = None) -> None:
        self._server, self._ca = urlsplit(url), ca
        self.answer: Answer = lambda path: None
        self.after: Callable[[str], None] = lambda path: None
        self.limit = float("inf")
        self.paths: list[str] = []
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*certificate)
        self.port = port or free_port()
        self._listener = _Listener(("127.0.0.1", self.port), _handler(self), tls)
        self.url = f"https://127.0.0.1:{self.port}"
        threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown()
        self._listener.cut_all()
        self._listener.server_close()

    def forward(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Any:
        """Send a request to the server; return the response, whose body is not read."""
        host, port = self._server.hostname or "", self._server.port
        connection = HTTPSConnection(host, port, context=tls_context(self._ca), timeout=60)
        connection.request(method, path, body, headers)
        return connection.getresponse()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._open: list[ssl.SSLSocket] = []
        super().__init__(address, handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands in the connection's own thread."""
        # What the client does not accept is seen there.
        with contextlib.suppress(OSError), self._tls.wrap_socket(request, server_side=True) as connection:
            self._open.append(connection)
            super().finish_request(connection, client_address)

    def cut_all(self) -> None:
        for connection in self._open:
            with contextlib.suppress(OSError):  # it is closed
                connection.shutdown(socket.SHUT_RDWR)


def _handler(owner: Intermediary) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def _handle(self) -> None:
            owner.paths.append(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            if length > owner.limit:
                self._send(page(413))
                self.rfile.read(length)  # as nginx does (lingering_close), or the answer might be lost
                return
            body = self._chunks() if "Transfer-Encoding" in self.headers else self.rfile.read(length)
            answer = owner.answer(self.path)
            if answer is not None:
                self._send(answer)
                return
            headers = {name: value for name, value in self.headers.items() if name not in ("Host", "Transfer-Encoding")}
            response = owner.forward(self.command, self.path, body, headers)
            owner.after(self.path)
            self.send_response_only(response.status)
            for name, value in response.headers.items():
                if name not in ("Transfer-Encoding", "Connection"):
                    self.send_header(name, value)
            self.close_connection = response.length is None
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            while data := response.read1():
                self.wfile.write(data)
                self.wfile.flush()

        def _chunks(self) -> bytes:
            """Return a body of unknown length (RFC 9112 section 7.1), as that of a snapshot."""
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _handle

        def _send(self, answer: bytes) -> None:
            self.wfile.write(answer)
            self.wfile.flush()
            self.close_connection = True

    return Handler


def page(status: int, body: bytes = b"<html>PLAIN-x</html>", kind: str = "text/html", *headers: str) -> bytes:
    """Return a raw response as of something that is not the API."""
    lines = [f"HTTP/1.1 {status} x", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


class HttpProxy:
    """An HTTP proxy on loopback that connects to any server (CONNECT).

    Args:
        user: ``USER:PASSWORD`` that it wants; None if it wants none.

    Attributes:
        address: its host and port.
        targets: the servers that it connected to, as ``HOST:PORT``.
    """

    def __init__(self, user: str | None = None) -> None:
        self._wanted = f"Basic {base64.b64encode(user.encode()).decode()}" if user else None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.targets: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # when the listener is closed
            while True:
                threading.Thread(target=self._serve, args=self._listener.accept()[:1], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            first, *lines = head.decode().split("\r\n")
            target = first.split()[1]
            if self._wanted and f"Proxy-Authorization: {self._wanted}" not in lines:
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                return
            self.targets.append(target)
            host, _, port = target.rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                other = {client: server, server: client}
                while True:
                    for source in select.select(other, [], [])[0]:
                        if not (data := source.recv(65536)):
                            return
                        other[source].sendall(data)
