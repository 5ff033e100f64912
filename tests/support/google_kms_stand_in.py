"""A stand-in for Google's Cloud KMS on loopback: what Vault's seal "gcpckms" asks of it.

Google itself cannot be used here: a test would need an account of Google Cloud. The tested parts are real: Vault, its
seal and its gRPC client, which reaches the stand-in under Google's name by HTTPS_PROXY and verifies its certificate.

- Methods: https://docs.cloud.google.com/kms/docs/reference/rpc/google.cloud.kms.v1
- gRPC over HTTP/2: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
- Encoding of messages: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from pathlib import Path

import h2.config
import h2.connection
import h2.events
from cryptography.fernet import Fernet

NAME = "cloudkms.googleapis.com"
"""The name that clients know it by."""


class GoogleKmsStandIn(socketserver.ThreadingTCPServer):
    """A proxy that answers each connection to `NAME` by itself, with one key. To be closed.

    Args:
        certificate: files of a certificate for `NAME` and its key.

    Attributes:
        url: address of the proxy, for HTTPS_PROXY.
        key: resource name of the key: projects/P/locations/L/keyRings/R/cryptoKeys/K.
        called: names of the methods that were called so far, in order.
    """

    daemon_threads = True

    def __init__(self, certificate: tuple[Path, Path], key: str) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.key = key
        self.called: list[str] = []
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(*certificate)
        self.tls.set_alpn_protocols(["h2"])
        self._cipher = Fernet(Fernet.generate_key())
        threading.Thread(target=self.serve_forever, args=[0.01], daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def call(self, method: str, request: bytes) -> bytes | None:
        """Return the response to a request, as messages' bytes; None if there is no such method or key."""
        asked = fields(request)
        self.called.append(method)
        if asked[1] != self.key.encode():
            return None
        version = field(1, f"{self.key}/cryptoKeyVersions/1".encode())
        if method == "GetCryptoKey":
            return field(1, asked[1]) + field(2, version)
        if method == "TestIamPermissions":
            return field(1, b"cloudkms.cryptoKeyVersions.useToEncrypt")
        if method == "Encrypt":
            return version + field(2, self._cipher.encrypt(asked[2]))
        if method == "Decrypt":
            return field(1, self._cipher.decrypt(asked[2]))
        return None


class _Connection(socketserver.BaseRequestHandler):
    server: GoogleKmsStandIn

    def handle(self) -> None:
        wanted = b""
        while not wanted.endswith(b"\r\n\r\n"):
            wanted += self.request.recv(1)
        if wanted.split()[:2] != [b"CONNECT", f"{NAME}:443".encode()]:
            self.request.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            return
        self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with self.server.tls.wrap_socket(self.request, server_side=True) as connection:
            self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        http.initiate_connection()
        connection.sendall(http.data_to_send())
        paths: dict[int, str] = {}
        bodies: dict[int, bytes] = {}
        while received := connection.recv(65536):
            for event in http.receive_data(received):
                if isinstance(event, h2.events.RequestReceived):
                    paths[event.stream_id] = dict(event.headers)[":path"]
                elif isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                    http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    # A message follows one byte for its compression and four for its length.
                    method, request = paths[event.stream_id].rpartition("/")[2], bodies[event.stream_id][5:]
                    self._answer(http, event.stream_id, self.server.call(method, request))
            connection.sendall(http.data_to_send())

    @staticmethod
    def _answer(http: h2.connection.H2Connection, stream: int, message: bytes | None) -> None:
        http.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        if message is not None:
            http.send_data(stream, b"\0" + len(message).to_bytes(4, "big") + message)
        status = (
            [("grpc-status", "0")] if message is not None else [("grpc-status", "5"), ("grpc-message", "not found")]
        )
        http.send_headers(stream, status, end_stream=True)


def field(number: int, value: bytes) -> bytes:
    """Encode a message's field of type string, bytes or message."""
    length, encoded = len(value), bytes([number << 3 | 2])
    while length > 127:
        encoded += bytes([length & 127 | 128])
        length >>= 7
    return encoded + bytes([length]) + value


def fields(message: bytes) -> dict[int, bytes]:
    """Decode a message: the last value of each field of type string, bytes or message, by its number."""
    found: dict[int, bytes] = {}
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while position < len(message):
        tag = varint()
        length = varint()  # of a number, the number itself
        if tag & 7 == 2:
            found[tag >> 3] = message[position : position + length]
            position += length
    return found
