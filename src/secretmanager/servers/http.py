"""One server's JSON API over kept-alive HTTPS connections.

The clients of Vault and Kubernetes share it. It builds on the standard library: a read of a secret takes about
0.1 s in a new process; to import urllib3 would take 0.04 s more, the whole Kubernetes client 0.5 s.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigError, TLSError

CONNECT_TIMEOUT = 10.0
"""Time that a connection may take, in seconds; an answer may take longer."""

MAX_PAUSE = 10.0
"""Longest pause between two attempts, in seconds, whatever a server's Retry-After says."""

_FIRST_PAUSE = 0.1  # seconds; each further pause is twice as long

# What may go well a moment later: Vault's eventual consistency (412), rate limits, a server that starts, is sealed
# or changes its leader. Vault: https://developer.hashicorp.com/vault/api-docs#http-status-codes
_PASSING = frozenset((412, 429, 500, 502, 503, 504))

_TLS_REASONS = {
    # OpenSSL's X509_V_ERR_* (openssl-verification-options(1), "DIAGNOSTICS")
    10: "expired",
    18: "unknown authority",
    19: "unknown authority",
    20: "unknown authority",
    21: "unknown authority",
    62: "wrong host name",
    64: "wrong host name",
}
_TLS_REMEDIES = {
    "unknown authority": "name the CA that signed it, and check that this is the server you mean",
    "expired": "have the server's certificate renewed",
    "wrong host name": "use a name or address that is in the certificate",
    "other": "check the address, and the certificate's chain and extensions",
}


class NoAnswer(Exception):
    """No connection, or no answer in time; the clients translate it into an exception of their own."""


@dataclass(frozen=True)
class Answer:
    """A server's answer. The body stays out of repr(): it may hold a secret."""

    status: int
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the request succeeded."""
        return 200 <= self.status < 300

    def json(self) -> dict[str, Any]:
        """Give the JSON object of the body; an empty one where it is none, as a proxy's error page is."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def tls_context(ca_cert: bool | str = True, *, ca_pem: str | None = None, option: str = "ca_cert") -> ssl.SSLContext:
    """Give a context that verifies the server's certificate and host name.

    Args:
        ca_cert: path of the CA's PEM file; True for the system's own CAs.
        ca_pem: the CA's PEM text, instead of a file.
        option: name of the option that the CA comes from, for errors.

    Raises:
        ConfigError: the CA cannot be read, or verification is asked to be off.
    """
    if ca_cert is False:
        raise ConfigError(f"{option}: found False; certificates are always verified, so give a CA file, or True")
    if ca_pem is None and ca_cert is True:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=None if ca_pem else str(ca_cert), cadata=ca_pem)
    except (OSError, ssl.SSLError, ValueError) as error:
        found = "the CA given" if ca_pem else str(ca_cert)
        reason = getattr(error, "strerror", None) or "it holds no certificate in PEM"
        raise ConfigError(f"{option}: {found} cannot be used: {reason}; give a PEM file") from error


def tls_error(error: ssl.SSLError, place: str) -> TLSError:
    """Translate what the TLS library says of a server.

    Args:
        error: the original.
        place: the server's address.
    """
    code = getattr(error, "verify_code", None)
    reason = _TLS_REASONS.get(code, "other") if code else "other"
    said = getattr(error, "verify_message", None) or error.reason or str(error)
    return TLSError(
        f"its certificate is not to be trusted: {reason}: {said}" if code else f"no secure connection: {said}",
        reason=reason,
        place=place,
        remedy=_TLS_REMEDIES[reason],
    )


def load_client_cert(context: ssl.SSLContext, cert: str | bytes, key: str | bytes) -> None:
    """Have a context show a client certificate.

    Args:
        context: the context.
        cert: path of a PEM file, or its bytes.
        key: likewise, of the private key. Given as bytes, it goes through a file in memory (memfd_create(2)) where
            there is one, since OpenSSL reads files alone.

    Raises:
        ConfigError: certificate or key cannot be read, or they do not fit.
    """
    files = [_in_memory(item) if isinstance(item, bytes) else None for item in (cert, key)]
    try:
        paths = [file.name if file else item for file, item in zip(files, (str(cert), str(key)), strict=True)]
        context.load_cert_chain(*paths)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or "no certificate and key in PEM that fit"
        raise ConfigError(f"client certificate and key cannot be used: {reason}") from error
    finally:
        for file in files:
            if file:
                file.close()


class _MemoryFile:
    def __init__(self, content: bytes) -> None:
        self._fd = os.memfd_create("kubevault", os.MFD_CLOEXEC)
        os.write(self._fd, content)
        self.name = f"/proc/self/fd/{self._fd}"

    def close(self) -> None:
        os.close(self._fd)


def _in_memory(content: bytes) -> Any:
    if hasattr(os, "memfd_create"):
        return _MemoryFile(content)
    import tempfile

    file = tempfile.NamedTemporaryFile()  # noqa: SIM115 - closed, and so deleted, by the caller; mode 0600
    file.write(content)
    file.flush()
    return file


class JsonApi:
    """A server's JSON API. Threads may share it, and a forked process makes connections of its own.

    Args:
        url: the server's address, ``https://HOST[:PORT][/PATH]``.
        option: name of the option that the address comes from, for errors.
        context: verifies the server's certificate.
        timeout: time that one answer may take, in seconds; no further attempt begins after it.
        connections: how many are kept alive; more threads than that wait for one another.
        retries: how often a request is sent again after a status that may pass (412, 429, 5xx) or a lost
            connection, after a pause with jitter or as long as Retry-After says (RFC 9110 section 10.2.3).

    Raises:
        ConfigError: the address is no HTTPS URL.
    """

    def __init__(
        self,
        url: str,
        *,
        option: str,
        context: ssl.SSLContext,
        timeout: float = 30.0,
        connections: int = 10,
        retries: int = 4,
    ) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            # Neither it nor the original: they may hold a password.
            raise ConfigError(f"{option}: found no URL; allowed is an address as https://HOST:PORT") from None
        if parts.scheme != "https" or not parts.hostname or parts.username:
            found = f"one with the scheme {parts.scheme!r}" if parts.scheme != "https" else "another form"
            raise ConfigError(f"{option}: found {found}; allowed is an address as https://HOST:PORT")
        self.url = url.rstrip("/")
        self._host, self._port, self._path = parts.hostname, port or 443, parts.path.rstrip("/")
        self._context = context
        self._timeout = timeout
        self._retries = retries
        self._slots = threading.BoundedSemaphore(connections)
        self._idle: list[HTTPSConnection] = []
        self._owner = os.getpid()

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
    ) -> Answer:
        """Send one request.

        Args:
            method: HTTP method.
            path: path and query, beginning with a slash.
            body: JSON object to send.
            headers: besides those for JSON.
            repeatable: False where sending it twice is not the same as once; then it is sent once.

        Raises:
            TLSError: the server's certificate is not to be trusted.
            NoAnswer: no connection, or no answer in time.
        """
        payload = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        sent = {"Accept": "application/json", "Content-Type": "application/json", **(headers or {})}
        retries = self._retries if repeatable else 0
        deadline = time.monotonic() + self._timeout
        for attempt in range(retries + 1):
            outcome, retry_after = self._try(method, self._path + path, payload, sent)
            if isinstance(outcome, Answer) and outcome.status not in _PASSING:
                return outcome
            pause = _pause(attempt, retry_after)
            if attempt == retries or time.monotonic() + pause > deadline:
                break
            time.sleep(pause)
        if isinstance(outcome, NoAnswer):
            raise outcome
        return outcome

    def stream(self, path: str, *, headers: Mapping[str, str], timeout: float) -> Stream:
        """Send one GET whose answer comes line by line, as a watch's; it has a connection of its own.

        Args:
            path: path and query, beginning with a slash.
            headers: besides those for JSON.
            timeout: time that the next line may take, in seconds.

        Raises:
            TLSError, NoAnswer: as `request`.
        """
        connection = HTTPSConnection(self._host, self._port, context=self._context, timeout=CONNECT_TIMEOUT)
        try:
            self._connect(connection, timeout)
            connection.request("GET", self._path + path, headers={"Accept": "application/json", **headers})
            return Stream(self, connection, connection.getresponse())
        except (OSError, HTTPException) as error:
            connection.close()
            raise self._translated(error) from error

    def close(self) -> None:
        """Close all connections that are not in use."""
        while self._idle:
            self._idle.pop().close()

    def _try(
        self, method: str, path: str, payload: bytes | None, headers: dict[str, str]
    ) -> tuple[Answer | NoAnswer, str | None]:
        """Send a request once; give what came of it, and the answer's Retry-After.

        Raises:
            TLSError: as `request`; trying again would not help.
        """
        with self._slots:
            connection = None
            try:
                connection = self._connection()
                connection.request(method, path, payload, headers)
                response = connection.getresponse()
                answer = Answer(response.status, response.read())
            except (OSError, HTTPException) as error:
                if connection:
                    connection.close()
                failure = self._translated(error)
                if isinstance(failure, TLSError):
                    raise failure from error
                failure.__cause__ = error
                return failure, None
            if not response.will_close:
                self._idle.append(connection)
        return answer, response.headers["Retry-After"]

    def _connection(self) -> HTTPSConnection:
        """Give the connection that was used last, if it still stands, or a new one."""
        if self._owner != os.getpid():
            # This process was forked: the connections are its parent's.
            self._idle, self._owner = [], os.getpid()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if _stands(connection):
                return connection
            connection.close()
        connection = HTTPSConnection(self._host, self._port, context=self._context)
        self._connect(connection, self._timeout)
        return connection

    def _connect(self, connection: HTTPSConnection, timeout: float) -> None:
        connection.timeout = min(CONNECT_TIMEOUT, timeout)
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        connection.sock.settimeout(timeout)

    def _translated(self, error: OSError | HTTPException) -> TLSError | NoAnswer:
        lost = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
        if isinstance(error, ssl.SSLError) and not isinstance(error, lost):
            return tls_error(error, self.url)
        if isinstance(error, TimeoutError):
            return NoAnswer(f"none within {self._timeout:g} s")
        if isinstance(error, HTTPException) and not isinstance(error, OSError):
            return NoAnswer("what came was no HTTP")  # not the text itself: it may be anything
        return NoAnswer(error.strerror or str(error))


class Stream:
    """The lines of an answer that goes on; iterating ends where the server ends it, or `close` does."""

    def __init__(self, api: JsonApi, connection: HTTPSConnection, response: HTTPResponse) -> None:
        self._api = api
        self._connection = connection
        self._response = response
        self._closed = False
        self.status = response.status

    def read(self) -> bytes:
        """Give all that is left, as of an answer that refuses.

        Raises:
            NoAnswer: the connection was lost.
        """
        return b"".join(self)

    def __iter__(self) -> Iterator[bytes]:
        """Give line by line.

        Raises:
            NoAnswer: the connection was lost, or the next line took too long.
        """
        try:
            yield from self._response
        except (OSError, HTTPException, ValueError, AttributeError) as error:
            if self._closed:
                return  # and what was waiting for the next line broke, in one of these ways
            if not isinstance(error, OSError | HTTPException):
                raise
            raise self._api._translated(error) from error

    def close(self) -> None:
        """End it; another thread that waits for a line stops waiting."""
        self._closed = True
        sock = self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):  # where it is closed already
                sock.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def _stands(connection: HTTPSConnection) -> bool:
    """Whether a kept-alive connection is still open: what is readable before a request is its end."""
    if connection.sock is None:
        return False
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return not poll.poll(0)


def _pause(attempt: int, retry_after: str | None) -> float:
    """Give the pause before the next attempt, in seconds."""
    import random

    if retry_after is not None and (wanted := _seconds(retry_after)) is not None:
        return min(MAX_PAUSE, wanted)
    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - no secret
    return min(MAX_PAUSE, _FIRST_PAUSE * 2.0**attempt) * jitter


def _seconds(retry_after: str) -> float | None:
    """Read Retry-After: seconds, or a date. None where it is neither."""
    if retry_after.isdecimal():
        return float(retry_after)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None
