"""A hostile server on loopback, which stands in for one that was taken over: no real server drips bytes or never ends.

What it does lasts for some seconds and then ends in a good answer, so that a client without limits fails a test by
taking that answer, and not by waiting for ever.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.servers import Authority

Serve = Callable[[Any], None]
"""Serves one connection, once the request's head was read."""

LIFE = 10.0
"""How long a server drips, in seconds."""

_PAUSE = 0.05  # seconds


class Hostile:
    """The server.

    Attributes:
        port: its port.
        url: its address.
        ca: file of the CA of its certificate.
        connections: how many there were.
    """

    def __init__(self, folder: Path, serve: Serve, *, tls: bool = True, head: bytes = b"\r\n\r\n") -> None:
        authority = Authority(folder, "hostile-ca")
        self.ca = str(authority.file)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*authority.issue("hostile"))
        self._serve, self._tls, self._head = serve, tls, head
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # what it does not read, a sender keeps
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port = self._listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # when the listener is closed
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._connection, args=[client], daemon=True).start()

    def _connection(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:  # the client goes away
            connection = self._context.wrap_socket(client, server_side=True) if self._tls else client
            with connection:
                received = b""
                while self._head not in received:
                    received += connection.recv(4096)
                self._serve(connection)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # or what was sent last might be lost
                    pass


@contextmanager
def hostile(folder: Path, serve: Serve, **options: Any) -> Iterator[Hostile]:
    """Run a hostile server; options as of the class."""
    server = Hostile(folder, serve, **options)
    try:
        yield server
    finally:
        server.close()


def dripping(part: bytes, *, before: bytes = b"", after: bytes = b"") -> Serve:
    """Return what sends a part again and again, with pauses that are no reason to give up, between two others."""

    def serve(connection: Any) -> None:
        connection.sendall(before)
        until = time.monotonic() + LIFE
        while time.monotonic() < until:
            connection.sendall(part)
            time.sleep(_PAUSE)
        connection.sendall(after)

    return serve


def flooding(part: bytes, size: int, *, before: bytes = b"", after: bytes = b"") -> Serve:
    """Return what sends a part at once, as often as it takes for a number of bytes, between two others."""

    def serve(connection: Any) -> None:
        connection.sendall(before)
        for _ in range(-(-size // len(part))):
            connection.sendall(part)
        connection.sendall(after)

    return serve
