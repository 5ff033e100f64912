"""One server's JSON API over kept-alive HTTPS connections.

The clients of Vault and Kubernetes share it. It builds on the standard library for two reasons:

- Security: it uses no proxies, no redirects and no ``~/.netrc``. Only the options say where a request and its token go.
- A cold start: ``make bench-read`` measures a read in a new process, about 0.1 s. After ssl and http.client, importing
  urllib3 2.8 would add 0.03 s, requests 0.06 s and the whole Kubernetes client 0.19 s (``python -X importtime``,
  CPython 3.11, files in the page cache; slower on a busy machine).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse, HTTPSConnection, InvalidURL
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigError, TLSError

CONNECT_TIMEOUT = 10.0
"""Time that connecting may take, in seconds; a response may take longer."""

MAX_PAUSE = 10.0
"""Longest pause between two attempts, in seconds, whatever a server's Retry-After says."""

_FIRST_PAUSE = 0.1  # seconds; each further pause is twice as long

# A repeated request may succeed: Vault's eventual consistency (412), rate limits, a server that starts, is sealed or
# changes its leader. Vault: https://developer.hashicorp.com/vault/api-docs#http-status-codes
RETRYABLE_STATUSES = frozenset((412, 429, 500, 502, 503, 504))

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


class ConnectionFailed(Exception):
    """There is no connection, or no response in time; the clients translate it into an exception of their own."""


@dataclass(frozen=True)
class Response:
    """A server's response. The body is not part of repr(): it may hold a secret."""

    status: int
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the request succeeded."""
        return 200 <= self.status < 300

    def json(self) -> dict[str, Any]:
        """Return the JSON object in the body; an empty one if it is something else, such as a proxy's error page."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def credential(text: str, option: str) -> str:
    """Return a token or another value of a header, without the white space around it.

    Args:
        text: the value; it is never shown.
        option: name of the option, variable or file that it comes from, for errors.

    Raises:
        ConfigError: it is empty, or holds white space or a character that a token cannot have (RFC 6750 section 2.1).
    """
    stripped = text.strip()
    if not stripped:
        raise ConfigError(f"{option}: is empty; it should hold a token")
    if not all("!" <= character <= "~" for character in stripped):
        raise ConfigError(
            f"{option}: holds white space or a character that no token has", remedy="copy it again, on one line"
        )
    return stripped


NO_PATH = r"\n|^\s*\{|^-----BEGIN|(^|/)(hv[sbr]\.|s\.\w{24}$|eyJ)"
"""Matches what is not a path but may be a secret: several lines, JSON, PEM, a JWT, a token of Vault. The prefixes of
tokens are those of https://developer.hashicorp.com/vault/docs/concepts/tokens#token-prefixes"""


def shown(path: object) -> str:
    """Return a path as errors show it, unless it seems to be the content of the file instead."""
    return "found something else than a path" if re.search(NO_PATH, str(path)) else str(path)


def tls_context(ca_cert: bool | str = True, *, ca_pem: str | None = None, option: str = "ca_cert") -> ssl.SSLContext:
    """Return a context that verifies the server's certificate and host name.

    Args:
        ca_cert: path of the CA's PEM file; True for the system's own CAs.
        ca_pem: the CA's PEM text, instead of a file.
        option: name of the option that the CA comes from, for errors.

    Raises:
        ConfigError: the CA cannot be read, or ``ca_cert`` is False: verification cannot be turned off.
    """
    if ca_cert is False:
        raise ConfigError(f"{option}: found False; certificates are always verified; give a CA file, or True")
    if ca_pem is None and ca_cert is True:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=None if ca_pem else str(ca_cert), cadata=ca_pem)
    except (OSError, ssl.SSLError, ValueError) as error:
        found = "the CA given" if ca_pem else shown(ca_cert)
        reason = getattr(error, "strerror", None) or "it contains no PEM certificate"
        raise ConfigError(f"{option}: {found} cannot be used: {reason}; give a PEM file") from error


def tls_error(error: ssl.SSLError, place: str) -> TLSError:
    """Translate an error of the TLS library.

    Args:
        error: the original error.
        place: the server's address.
    """
    code = getattr(error, "verify_code", None)
    reason = _TLS_REASONS.get(code, "other") if code else "other"
    detail = getattr(error, "verify_message", None) or error.reason or str(error)
    return TLSError(
        f"certificate verification failed: {reason}: {detail}" if code else f"no secure connection: {detail}",
        reason=reason,
        place=place,
        remedy=_TLS_REMEDIES[reason],
    )


def load_client_cert(context: ssl.SSLContext, cert: str | bytes, key: str | bytes) -> None:
    """Have a context present a client certificate.

    Args:
        context: the context.
        cert: path of a PEM file, or its bytes.
        key: path of the private key's PEM file, or its bytes.

    Raises:
        ConfigError: certificate or key cannot be read, or they do not match.
    """
    with contextlib.ExitStack() as stack:
        try:
            context.load_cert_chain(*(stack.enter_context(_path_of(item)) for item in (cert, key)))
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or "they are not a certificate and its key in PEM"
            raise ConfigError(f"client certificate and key cannot be used: {reason}") from error


@contextlib.contextmanager
def _path_of(item: str | bytes) -> Iterator[str]:
    """Yield the path of a file, or of a file in memory (memfd_create(2)) that holds bytes: OpenSSL reads only files.

    Where memfd_create is missing, it is a temporary file of mode 0600, which is deleted afterwards.
    """
    if isinstance(item, str):
        yield item
    elif hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("kubevault", os.MFD_CLOEXEC), "wb", buffering=0) as file:
            file.write(item)
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        import tempfile

        with tempfile.NamedTemporaryFile() as file:
            file.write(item)
            file.flush()
            yield file.name


class JsonApi:
    """A server's JSON API. Threads may share it, and a forked process opens connections of its own.

    Args:
        url: the server's address, ``https://HOST[:PORT][/PATH]``.
        option: name of the option that the address comes from, for errors.
        context: verifies the server's certificate.
        timeout: time that one response may take, in seconds; no further attempt starts after it.
        connections: how many are kept alive; further threads wait.
        retries: how often a request is repeated after one of RETRYABLE_STATUSES or a lost connection, after a pause
            with jitter or as long as Retry-After says (RFC 9110 section 10.2.3).

    Raises:
        ConfigError: the address is not an HTTPS URL.
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
            # Neither the URL nor the original error: they may hold a password.
            raise ConfigError(f"{option}: found no URL; allowed is an address such as https://HOST:PORT") from None
        if parts.scheme != "https" or not parts.hostname or parts.username:
            found = f"one with the scheme {parts.scheme!r}" if parts.scheme != "https" else "another form"
            raise ConfigError(f"{option}: found {found}; allowed is an address such as https://HOST:PORT")
        self.url = url.rstrip("/")
        self._host, self._port, self._path = parts.hostname, port or 443, parts.path.rstrip("/")
        self._context = context
        self._timeout = timeout
        self._retries = retries
        self._slots = threading.BoundedSemaphore(connections)
        self._idle: list[HTTPSConnection] = []
        self._owner = os.getpid()
        self._closed = False

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        idempotent: bool = True,
    ) -> Response:
        """Send one request.

        Args:
            method: HTTP method.
            path: path and query, beginning with a slash.
            body: JSON object to send.
            headers: further headers, besides those for JSON.
            idempotent: False if sending the request twice differs from sending it once; it is then not repeated.

        Raises:
            TLSError: verification of the server's certificate failed.
            ConnectionFailed: there is no connection, or no response in time.
        """
        payload = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        sent = {"Accept": "application/json", "Content-Type": "application/json", **(headers or {})}
        retries = self._retries if idempotent else 0
        deadline = time.monotonic() + self._timeout
        for attempt in range(retries + 1):
            outcome, retry_after = self._send_once(method, self._path + path, payload, sent)
            if isinstance(outcome, Response) and outcome.status not in RETRYABLE_STATUSES:
                return outcome
            pause = _backoff(attempt, retry_after)
            if attempt == retries or time.monotonic() + pause > deadline:
                break
            time.sleep(pause)
        if isinstance(outcome, ConnectionFailed):
            raise outcome
        return outcome

    def stream(self, path: str, *, headers: Mapping[str, str], timeout: float) -> Stream:
        """Send one GET whose response arrives line by line, such as a watch; it has a connection of its own.

        Args:
            path: path and query, beginning with a slash.
            headers: further headers, besides those for JSON.
            timeout: time that the next line may take, in seconds.

        Raises:
            TLSError, ConnectionFailed: as `request`.
        """
        connection = HTTPSConnection(self._host, self._port, context=self._context, timeout=CONNECT_TIMEOUT)
        try:
            self._connect(connection, timeout)
            connection.request("GET", self._path + path, headers={"Accept": "application/json", **headers})
            return Stream(self, connection, connection.getresponse())
        except (OSError, HTTPException, ValueError) as error:
            connection.close()
            failure = self._translated(error)
            raise failure from failure.__cause__

    def close(self) -> None:
        """Close all connections, those in use after their request. A further request opens a new one."""
        self._closed = True
        with contextlib.suppress(IndexError):  # the list is empty, perhaps because another thread closes too
            while True:
                self._idle.pop().close()

    def _send_once(
        self, method: str, path: str, payload: bytes | None, headers: dict[str, str]
    ) -> tuple[Response | ConnectionFailed, str | None]:
        """Send a request once; return the response or the failure, and the header Retry-After.

        Raises:
            TLSError: as `request`; repeating it would not help.
            ConfigError: HTTP cannot carry a header or the path.
        """
        with self._slots:
            connection = None
            try:
                connection = self._checkout()
                connection.request(method, path, payload, headers)
                received = connection.getresponse()
                response = Response(received.status, received.read())
            except (OSError, HTTPException, ValueError) as error:
                if connection:
                    connection.close()
                failure = self._translated(error)
                if isinstance(failure, ConnectionFailed):
                    return failure, None
                raise failure from failure.__cause__
            if not received.will_close:
                self._idle.append(connection)
                if self._closed:  # by another thread, during this request
                    self.close()
        return response, received.headers["Retry-After"]

    def _checkout(self) -> HTTPSConnection:
        """Return the connection that was used last, if it is still open, or a new one."""
        if self._owner != os.getpid():
            # This process was forked: the connections belong to its parent.
            self._idle, self._owner = [], os.getpid()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if _is_open(connection):
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

    def _translated(self, error: OSError | HTTPException | ValueError) -> TLSError | ConnectionFailed | ConfigError:
        """Return what to raise instead; its cause is the original, unless that quotes the path or a header."""
        if isinstance(error, InvalidURL) or not isinstance(error, OSError | HTTPException):
            return ConfigError(
                "a name, a token or a namespace holds a character that HTTP does not allow, such as a line break",
                place=self.url,
            )
        failure = self._lost_or_untrusted(error)
        failure.__cause__ = error
        return failure

    def _lost_or_untrusted(self, error: OSError | HTTPException) -> TLSError | ConnectionFailed:
        lost = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
        if isinstance(error, ssl.SSLError) and not isinstance(error, lost):
            return tls_error(error, self.url)
        if isinstance(error, TimeoutError):
            return ConnectionFailed(f"timed out after {self._timeout:g} s")
        if isinstance(error, HTTPException) and not isinstance(error, OSError):
            return ConnectionFailed("the server did not answer with HTTP")  # its text may quote the response
        return ConnectionFailed(error.strerror or str(error))


class Stream:
    """The lines of a response that stays open; iteration ends when the server or `close` ends it."""

    def __init__(self, api: JsonApi, connection: HTTPSConnection, response: HTTPResponse) -> None:
        self._api = api
        self._connection = connection
        self._response = response
        self._closed = False
        self.status = response.status

    def read(self) -> bytes:
        """Return the rest of the body, for example of an error response.

        Raises:
            ConnectionFailed: the connection was lost.
        """
        return b"".join(self)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines.

        Raises:
            ConnectionFailed: the connection was lost, or the next line took too long.
        """
        try:
            yield from self._response
        except (OSError, HTTPException, ValueError, AttributeError) as error:
            if self._closed:
                return  # a thread that was waiting for the next line fails in one of these ways
            if not isinstance(error, OSError | HTTPException):
                raise
            raise self._api._lost_or_untrusted(error) from error

    def close(self) -> None:
        """End the stream; a thread that waits for a line stops waiting."""
        self._closed = True
        sock = self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):  # if it is closed already
                sock.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def _is_open(connection: HTTPSConnection) -> bool:
    """Whether a kept-alive connection is still open: if it is readable before a request, the server closed it."""
    if connection.sock is None:
        return False
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return not poll.poll(0)


def _backoff(attempt: int, retry_after: str | None) -> float:
    """Return the pause before the next attempt, in seconds."""
    import random

    if retry_after is not None and (wanted := _seconds(retry_after)) is not None:
        return min(MAX_PAUSE, wanted)
    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - no secret
    return min(MAX_PAUSE, _FIRST_PAUSE * 2.0**attempt) * jitter


def _seconds(retry_after: str) -> float | None:
    """Parse Retry-After, in seconds or as a date; return seconds, or None if it is neither."""
    if retry_after.isdecimal():
        return float(retry_after)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None
