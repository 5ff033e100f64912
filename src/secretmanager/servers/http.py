"""One server's JSON API over kept-alive HTTPS connections.

The clients of Vault and Kubernetes share it. It uses no proxies, no redirects and no ``~/.netrc``: only the options say
where a request and its token go. Why it builds on the standard library: docs/decisions/0001-own-clients.md.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from http.client import (
    HTTPException,
    HTTPMessage,
    IncompleteRead,
    InvalidURL,
)
from itertools import count
from typing import Any, NamedTuple, TypeVar

from ..errors import ConfigError, TLSError
from .connection import (
    CONNECT_TIMEOUT,
    LOST,
    Address,
    Ambiguous,
    Connection,
    Headers,
    LimitedAnswer,
    Proxy,
    TooLarge,
    is_gone,
    is_lost,
)
from .forking import renewed_in_children, unforked

log = logging.getLogger(__name__)

ELECTION_TIMEOUT = 20.0
"""How long a request is repeated while a server has no leader, in seconds.

An election takes Vault's Raft up to 15 s (``performance_multiplier`` 5, the default) and etcd a few seconds.
"""

MAX_TIMEOUT = 1e9
"""Longest timeout, in seconds; Python cannot wait for much longer."""

ANSWER = 8 * 1024 * 1024
"""Size that an answer may have unless a request says otherwise, in bytes: that of a token, a key, one object.

An object that etcd stores has 1.5 MiB; as JSON it is larger, and at the very most, with all escaped, six times so.
"""

MAX_PAUSE = 10.0
"""Longest pause between two attempts, in seconds, whatever a server's Retry-After says."""

_FIRST_PAUSE = 0.1  # seconds; each further pause is twice as long
_ELECTION_PAUSE = 2.0  # seconds; longest pause while a server has no leader

_LEADER_COMES = 2  # rank of a response that says so; see JsonApi._send_to_any
_AWAY = 30.0  # seconds for which a node that was lost is not asked while others elect a leader

_RECENT = 5.0
"""How long ago a connection was last used, in seconds, for a request that must not be sent twice."""

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
    # What RFC 5280 wants and Python 3.13 and newer verify (ssl.VERIFY_X509_STRICT), such as keyUsage of a CA.
    **dict.fromkeys(range(79, 95), "extensions"),
}
_TLS_REMEDIES = {
    "unknown authority": "name the CA that signed it, and check that this is the server you mean",
    "expired": "have the server's certificate renewed",
    "wrong host name": "use a name or address that is in the certificate",
    "client certificate": "name a client certificate, and its key, that the server's CA for clients has signed",
    "no TLS": "check address and port: plain HTTP, or another protocol, may be served there",
    "extensions": "have this certificate, of the server or its CA, issued again as RFC 5280 says: Python 3.13 and newer"
    " insist on it; for the CA of an older MicroK8s: microk8s refresh-certs --cert ca.crt",
    "other": "check the address, and the certificate's chain and extensions",
}

# OpenSSL's reasons if the first bytes of the other side are no TLS record.
_NO_TLS = frozenset(("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"))

Parsed = TypeVar("Parsed")

_waits: ContextVar[bool] = ContextVar("waits for elections", default=True)
_LEAST = 0.001  # seconds; a socket takes a timeout of 0 for none at all
_ends: ContextVar[float] = ContextVar("the end of all requests, by the monotonic clock", default=float("inf"))


class ConnectionFailed(Exception):
    """There is no connection, or no response in time; the clients translate it into an exception of their own.

    Attributes:
        sent: whether the server may have received the request.
        remedy: what to do about it, if that is known.
    """

    def __init__(self, message: str, *, sent: bool = True, remedy: str | None = None) -> None:
        super().__init__(message)
        self.sent = sent
        self.remedy = remedy


class AnswerTooLarge(ConnectionFailed):
    """What came in answer is larger than its limit. Sending the request again would bring as much again."""


@dataclass(frozen=True)
class Response:
    """A server's response. Body and headers are not part of repr(): they may hold a secret."""

    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str] | HTTPMessage = field(default_factory=dict, repr=False)

    @property
    def ok(self) -> bool:
        """Whether the request succeeded."""
        return 200 <= self.status < 300

    @property
    def is_object(self) -> bool:
        """Whether the body is a JSON object."""
        return self._object is not None

    def json(self) -> dict[str, Any]:
        """Return the JSON object in the body; an empty one if it is something else, such as a proxy's error page."""
        return self._object or {}

    def foreign(self, server: str) -> tuple[str, str]:
        """Describe a response that is not one of a server's API.

        Args:
            server: the server that should have answered, such as "Vault".

        Returns:
            Message and remedy, each on one line. Of the body they quote nothing: it may hold a secret.
        """
        content = _shown(self.headers.get("Content-Type", "").partition(";")[0]) if self.body else "no content"
        parts = [f"HTTP status {self.status}", content or "content of no type"]
        if name := _shown(self.headers.get("Server", "")):
            parts.append(f"from {name}")
        remedy = _FOREIGN_REMEDIES.get(self.status, "check the address, and what is in front of {0}, such as a proxy")
        if 300 <= self.status < 400:
            remedy = "give the address of {0} itself: redirects are not followed, since the token would go along"
        return f"this is not an answer of {server}: {', '.join(parts)}", remedy.format(server)

    @cached_property
    def _object(self) -> dict[str, Any] | None:
        try:
            body = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return body if isinstance(body, dict) else None


def understood(parse: Callable[[], Parsed], foreign: Callable[[], Exception]) -> Parsed:
    """Return what a function takes from a response; raise another error if the response has another form.

    Args:
        parse: takes the response apart.
        foreign: returns the error. What was raised instead is not its context: it may hold what is in the response.
    """
    try:
        return parse()
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        pass
    raise foreign()


_IN_FRONT = "check the load balancer or proxy in front of {0}, and that {0} is running behind it"
_FOREIGN_REMEDIES = {
    407: "check the user and password of the proxy",
    413: "raise the limit of what is in front of {0} (nginx: client_max_body_size)",
    502: _IN_FRONT,
    503: _IN_FRONT,
    504: _IN_FRONT,
}


def _shown(text: str) -> str:
    """Return the beginning of a header of an unknown server, on one line."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())[:60]


@contextlib.contextmanager
def without_waiting() -> Iterator[None]:
    """Within it, requests do not wait for an election: the caller has something else to use."""
    before = _waits.set(False)
    try:
        yield
    finally:
        _waits.reset(before)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Within it, requests take no longer than this altogether, with their repetitions and pauses.

    Args:
        seconds: the time that they have, in seconds; a client's own limits count, too.
    """
    before = _ends.set(min(_ends.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _ends.reset(before)


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


def tls_context(
    ca_cert: bool | str = True, *, ca_pem: str | None = None, ca_path: str | None = None, option: str = "ca_cert"
) -> ssl.SSLContext:
    """Return a context that verifies the server's certificate and host name.

    Args:
        ca_cert: path of the CA's PEM file; True for ``ca_path``, or without one the system's own CAs.
        ca_pem: the CA's PEM text, instead of a file.
        ca_path: folder of the CAs' PEM files, all of which count, as for Vault's own command.
        option: name of the option that the CA comes from, for errors.

    Raises:
        ConfigError: the CA cannot be read, or ``ca_cert`` is False: verification cannot be turned off.
    """
    if ca_cert is False:
        raise ConfigError(f"{option}: found False; certificates are always verified; give a CA file, or True")
    ca_file = "the CA given" if ca_pem else str(ca_cert)
    try:
        with unforked():
            if ca_pem is None and ca_cert is True and ca_path:
                ca_file = ca_path
                ca_file, *further = sorted(entry.path for entry in os.scandir(ca_path) if entry.is_file())
                context = ssl.create_default_context(cafile=ca_file)
                for ca_file in further:
                    context.load_verify_locations(ca_file)
                return context
            return ssl.create_default_context(cafile=None if ca_pem or ca_cert is True else ca_file, cadata=ca_pem)
    except (OSError, ssl.SSLError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it contains no PEM certificate"
        raise ConfigError(f"{option}: {shown(ca_file)} cannot be used: {reason}; give a PEM file") from error


def tls_error(error: ssl.SSLError, place: str, ca_option: str | None = None) -> TLSError:
    """Translate an error of the TLS library.

    Args:
        error: the original error.
        place: the server's address.
        ca_option: name of the option that names the CA, for the remedy; None if there is none.
    """
    reason_code = error.reason or str(error)
    if code := getattr(error, "verify_code", None):
        reason = _TLS_REASONS.get(code, "other")
        message = f"certificate verification failed: {reason}: {getattr(error, 'verify_message', None) or reason_code}"
    else:
        alerts = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
        alert = "_ALERT_" in reason_code and any(word in reason_code for word in alerts)
        reason = "client certificate" if alert else "no TLS" if reason_code in _NO_TLS else "other"
        message = f"no secure connection: {reason_code}"
    remedy = _TLS_REMEDIES[reason]
    if ca_option and reason == "unknown authority":
        remedy = f"name the CA that signed it by {ca_option}, and check that this is the server you mean"
    return TLSError(message, reason=reason, place=place, remedy=remedy)


def load_client_cert(
    context: ssl.SSLContext,
    cert: str | bytes | None,
    key: str | bytes | None,
    names: tuple[str, str] = ("client_cert", "client_key"),
) -> bool:
    """Have a context present a client certificate, if one is given; return whether one is.

    Args:
        context: the context.
        cert: path of a PEM file, or its bytes.
        key: path of the private key's PEM file, or its bytes.
        names: names of the options or fields that they come from, for errors.

    Raises:
        ConfigError: one is given without the other, they cannot be read or do not match, or the key is encrypted.
    """
    if not cert and not key:
        return False
    if not cert or not key:
        present, missing = names if cert else names[::-1]
        raise ConfigError(f"{present} is given and {missing} is not; give both, or neither")

    def refuse() -> str:  # without a password, OpenSSL asks for it on the terminal
        raise ConfigError(f"{names[1]}: the key is encrypted", remedy="decrypt it: openssl pkey -in KEY -out FILE")

    with contextlib.ExitStack() as stack:
        try:
            cert_path, key_path = (stack.enter_context(_path_of(item)) for item in (cert, key))
            with unforked():
                context.load_cert_chain(cert_path, key_path, refuse)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError(f"{' and '.join(names)} are not a certificate and its key in PEM") from error
        except OSError as error:
            raise ConfigError(f"{' and '.join(names)} cannot be read: {error.strerror}") from error
    return True


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
        url: the server's address, ``https://HOST[:PORT][/PATH]``; or those of its nodes, which are tried in turn.
        option: name of the option that the address comes from, for errors.
        context: verifies the server's certificate, and presents the client's.
        renewed: returns a new context, from files that may have been renewed; called once after a refusal.
        timeout: time that one attempt may take, from connecting to the answer's last byte, in seconds; no further one
            starts after it. Of a body that is sent in parts, each part has as much.
        connections: how many are kept alive; further threads wait.
        retries: how often a request is repeated after one of RETRYABLE_STATUSES or a lost connection, after a pause
            with jitter or as long as Retry-After says (RFC 9110 section 10.2.3); with 0 nothing is repeated.
        election_timeout: how long a request is repeated if the server ``recovers``, in seconds.
        recovers: whether a response says that the server will soon be there again, as after an election.
        elsewhere: whether a response says that this node did nothing, and another one may.
        proxy: as `Proxy.find` takes it.
        proxy_option: name of the option that the proxy comes from, for errors.
        server_name: name that the server's certificate must hold; None for the address's.
        ca_option: as of `tls_error`.
        plain: whether ``http://`` is allowed for addresses of loopback, as of `Address.parse`.
        plain_option: name of the option that allows it, for errors; None if there is none.

    Raises:
        ConfigError: the timeout or an address is not allowed, or the proxy cannot be used.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        option: str,
        context: ssl.SSLContext,
        renewed: Callable[[], ssl.SSLContext],
        timeout: float = 30.0,
        connections: int = 10,
        retries: int = 4,
        election_timeout: float = ELECTION_TIMEOUT,
        recovers: Callable[[Response], bool] = lambda response: False,
        elsewhere: Callable[[Response], bool] = lambda response: False,
        proxy: str | None = None,
        proxy_option: str = "proxy",
        server_name: str | None = None,
        ca_option: str | None = None,
        plain: bool = False,
        plain_option: str | None = None,
    ) -> None:
        urls = [url] if isinstance(url, str) else url
        # The one in use is the first.
        self._addresses = tuple(Address.parse(item, option, plain_option, plain=plain) for item in urls)
        self._lost_at: dict[Address, float] = {}
        self._proxies = {
            address: None if address.plain else Proxy.find(proxy, address, proxy_option) for address in self._addresses
        }
        self._ca_option = ca_option
        self._context = context
        self._renewed = renewed
        if not 0 < timeout <= MAX_TIMEOUT:
            raise ConfigError(f"timeout: found {timeout:g}; allowed is more than 0 and at most {MAX_TIMEOUT:g} seconds")
        self._timeout = timeout
        self._retries = retries
        self._election_timeout = election_timeout
        self._recovers = recovers
        self._elsewhere = elsewhere
        self._server_name = server_name
        self._connections = connections
        self._in_child()
        renewed_in_children(self)
        self._closed = False

    def _in_child(self) -> None:
        """As `forking.Shared._in_child`."""
        self._slots = threading.BoundedSemaphore(self._connections)
        self._lock = threading.Lock()
        self._idle: list[Connection] = []

    @property
    def url(self) -> str:
        """Address of the node that is in use."""
        return self._addresses[0].url

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | Iterable[bytes] | None = None,
        *,
        headers: Headers | None = None,
        idempotent: bool = True,
        size: int = ANSWER,
    ) -> Response:
        """Send one request.

        Args:
            method: HTTP method.
            path: path and query, beginning with a slash.
            body: JSON object to send; or the parts of a binary body, iterated over for each time that it is sent.
            headers: further headers, besides those for JSON.
            idempotent: False if sending the request twice differs from sending it once; it is then repeated only while
                the server says that it did nothing and has no leader.
            size: size that the answer may have, in bytes.

        Raises:
            TLSError: verification of the server's certificate failed, or the server refused the client's.
            ConnectionFailed: there is no connection, or no whole response in time.
            AnswerTooLarge: the response is larger than its limit.
            ConfigError: HTTP cannot carry a header or the path.
        """
        payload = json.dumps(body, separators=(",", ":")).encode() if isinstance(body, Mapping) else body
        all_headers = {"Accept": "application/json", "Content-Type": "application/json", **(headers or {})}
        request = _Request(method, path, payload, all_headers, idempotent, size)
        start = time.monotonic()
        for attempt in count():
            outcome = self._send_to_any(request)
            repeatable = idempotent or self._awaits_leader(outcome)
            pause = self._pause(outcome, attempt, time.monotonic() - start) if repeatable else None
            if pause is None:
                break
            time.sleep(pause)
        if isinstance(outcome, ConnectionFailed):
            raise outcome
        return outcome

    def stream(self, path: str, *, headers: Headers, timeout: float) -> Stream:
        """Send one GET whose response arrives line by line, such as a watch; it has a connection of its own.

        Args:
            path: path and query, beginning with a slash.
            headers: further headers, besides those for JSON.
            timeout: time that all lines together may take, in seconds; the response begins as soon as that of a
                request, and each line may be as large as an answer.

        Raises:
            TLSError, ConnectionFailed, ConfigError: as `request`.
        """
        context = self._context
        try:
            return self._stream(context, path, headers, timeout)
        except TLSError:
            return self._stream(self.renew(context), path, headers, timeout)

    def renew(self, refused: ssl.SSLContext) -> ssl.SSLContext:
        """Return a context from the files as they are now, and use it for all further connections.

        Args:
            refused: the context in use until now; if another thread has replaced it, this one's is returned.

        Raises:
            ConfigError: a file cannot be used.
        """
        with self._lock:
            if self._context is refused:
                log.debug("%s: reading certificates and credentials again", self.url)
                self._context = self._renewed()
            return self._context

    def close(self) -> None:
        """Close all connections, those in use after their request. A further request opens a new one."""
        self._closed = True
        with contextlib.suppress(IndexError):  # the list is empty, perhaps because another thread closes too
            while True:
                self._idle.pop().close()

    def _pause(self, outcome: Response | ConnectionFailed, attempt: int, passed: float) -> float | None:
        """Return how long to wait before the next attempt, in seconds; None if there is none."""
        if isinstance(outcome, AnswerTooLarge):
            return None
        answer = outcome if isinstance(outcome, Response) else None
        recovers = answer is not None and self._recovers(answer)
        if not self._retries or (answer and answer.status not in RETRYABLE_STATUSES and not recovers):
            return None
        retry_after = answer.headers.get("Retry-After") if answer else None
        pause = _backoff(attempt, retry_after)
        if time.monotonic() + pause >= _ends.get():
            return None
        if recovers and _waits.get():
            pause = pause if retry_after else min(pause, _ELECTION_PAUSE)
            if passed + pause <= min(self._election_timeout, self._seconds()):
                if attempt == self._retries:
                    log.warning("%s has no leader; waiting for up to %g s", self.url, self._election_timeout)
                return pause
        return pause if attempt < self._retries and passed + pause <= self._seconds() else None

    def _seconds(self) -> float:
        """Return the time that a request may take now, which is more than 0."""
        return max(min(self._timeout, _ends.get() - time.monotonic()), _LEAST)

    def _awaits_leader(self, outcome: Response | ConnectionFailed) -> bool:
        """Whether nothing was done, and will be once there is a leader."""
        return isinstance(outcome, Response) and self._elsewhere(outcome) and self._recovers(outcome)

    def _send_to_any(self, request: _Request) -> Response | ConnectionFailed:
        """Send a request to the node in use; if it cannot serve it, to the others in turn.

        Returns:
            The response of the one that served it. If none did, what promises most, and its node is in use: a response
            that says that there will be a leader, any other response, a lost connection.
        """
        best: tuple[int, Address, Response | ConnectionFailed] | None = None
        for _ in self._addresses:
            address = self._addresses[0]
            # While others elect a leader, one that is away does not become it.
            if not (best and best[0] == _LEADER_COMES and self._is_away(address)):
                outcome = self._send(address, request)
                if isinstance(outcome, ConnectionFailed):
                    self._lost_at[address] = time.monotonic()
                    if outcome.sent and not request.idempotent:
                        return outcome
                elif not self._elsewhere(outcome):
                    return outcome
                promise = self._promise(outcome)
                if best is None or promise > best[0]:
                    best = promise, address, outcome
            if self._addresses[0] is address:  # no other thread has left it
                self._addresses = (*self._addresses[1:], address)
        assert best  # noqa: S101 - there is an address
        self._use(best[1])
        return best[2]

    def _promise(self, outcome: Response | ConnectionFailed) -> int:
        if isinstance(outcome, ConnectionFailed):
            return 0
        return _LEADER_COMES if self._recovers(outcome) else 1

    def _is_away(self, address: Address) -> bool:
        return time.monotonic() - self._lost_at.get(address, float("-inf")) < _AWAY

    def _use(self, address: Address) -> None:
        addresses = self._addresses
        index = addresses.index(address)
        self._addresses = (*addresses[index:], *addresses[:index])

    def _send(self, address: Address, request: _Request) -> Response | ConnectionFailed:
        """Send a request once, and once more if certificates that were renewed meanwhile help.

        Raises:
            TLSError, ConfigError: as `request`; repeating it would not help.
        """
        context = self._context
        try:
            return self._send_once(address, context, request)
        except TLSError:
            return self._send_once(address, self.renew(context), request)

    def _send_once(self, address: Address, context: ssl.SSLContext, request: _Request) -> Response | ConnectionFailed:
        limit = self._seconds()
        try:
            with self._slot(address, limit):
                if connection := self._checkout(address, context, request):
                    try:
                        connection.limits.begin(self._seconds(), request.size)
                        return self._exchange(connection, request)
                    except OSError as error:
                        # To a host that is gone, another connection would take long, too.
                        host_is_gone = is_gone(error) and len(self._addresses) > 1
                        if not request.idempotent or not is_lost(error) or host_is_gone:
                            raise
                return self._exchange(self._opened(address, context, request.size), request)
        except ConnectionFailed as error:
            return error
        except (OSError, HTTPException, ValueError) as error:
            failure = self._translated(error, limit)
        if isinstance(failure, ConnectionFailed):
            return failure
        raise failure  # here, so that the original, which may quote the request, is not its context

    @contextlib.contextmanager
    def _slot(self, address: Address, limit: float) -> Iterator[None]:
        """Hold one of the connections that there may be.

        Raises:
            ConnectionFailed: none is free within a limit, in seconds, that is shorter than a request's own.
        """
        if not self._slots.acquire(timeout=limit if limit < self._timeout else None):
            raise ConnectionFailed(f"{address.url}: all connections are in use", sent=False)
        try:
            yield
        finally:
            self._slots.release()

    def _exchange(self, connection: Connection, request: _Request) -> Response:
        """Send a request over a connection; keep the connection if it can be used again."""
        whole = True
        try:
            try:
                payload = request.payload
                if payload is not None and not isinstance(payload, bytes):
                    payload = self._parts(connection, payload, request.size)
                connection.request(request.method, connection.address.path + request.path, payload, request.headers)
            except LOST:
                whole = False  # the server may have answered before it read everything, as with status 413
            received = connection.getresponse()
            response = Response(received.status, received.whole(), received.headers)
        except BaseException:
            connection.close()
            raise
        if received.will_close or not whole:
            connection.close()
        else:
            connection.used_at = time.monotonic()
            self._idle.append(connection)
            if self._closed:  # by another thread, during this request
                self.close()
        return response

    def _parts(self, connection: Connection, payload: Iterable[bytes], size: int) -> Iterator[bytes]:
        """Yield the parts of a body; each, and the answer to the last one, has the time of a request."""
        for part in payload:
            connection.limits.begin(self._seconds(), size)
            yield part
        connection.limits.begin(self._seconds(), size)

    def _checkout(self, address: Address, context: ssl.SSLContext, request: _Request) -> Connection | None:
        """Return the connection that was used last, if a request may be sent over it; None if there is none."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            recent = request.idempotent or time.monotonic() - connection.used_at < _RECENT
            if recent and connection.address is address and connection.context is context and connection.is_open():
                return connection
            connection.close()

    def _opened(self, address: Address, context: ssl.SSLContext, size: int) -> Connection:
        """Return a new connection, in which the time of a request, and the size of its answer, have begun.

        Raises:
            TLSError, ConnectionFailed, ConfigError: as `request`.
        """
        proxy = self._proxies[address]
        connection = Connection(address, context, proxy, self._server_name, self._timeout)
        seconds = self._seconds()
        connection.limits.begin(seconds, size)
        try:
            connection.connect()
        except (OSError, HTTPException, ValueError) as error:
            connection.close()
            failure = self._translated(error, min(CONNECT_TIMEOUT, seconds))
        else:
            return connection
        if isinstance(failure, ConnectionFailed):
            failure.sent = False
            if proxy:
                failure.args = (f"proxy {proxy.host}:{proxy.port}: {failure}",)
        raise failure

    def _stream(self, context: ssl.SSLContext, path: str, headers: Headers, timeout: float) -> Stream:
        address = self._addresses[0]
        connection = self._opened(address, context, ANSWER)
        try:
            connection.request("GET", address.path + path, headers={"Accept": "application/json", **headers})
            response = connection.getresponse()
            connection.limits.begin(timeout, ANSWER)
        except (OSError, HTTPException, ValueError) as error:
            connection.close()
            failure = self._translated(error, self._timeout)
        else:
            return Stream(self, connection, response, timeout)
        raise failure  # here, so that the original, which may quote the response, is not its context

    def _translated(
        self, error: OSError | HTTPException | ValueError, seconds: float
    ) -> TLSError | ConnectionFailed | ConfigError:
        """Return what to raise instead; its cause is the original, unless that quotes the path or a header.

        Args:
            error: the original.
            seconds: the time limit that counted, in seconds.
        """
        if isinstance(error, InvalidURL) or not isinstance(error, OSError | HTTPException):
            return ConfigError(
                "a name, a token or a namespace holds a character that HTTP does not allow, such as a line break",
                place=self.url,
            )
        failure = self._lost_or_untrusted(error, seconds)
        failure.__cause__ = error if isinstance(error, OSError) else None
        return failure

    def _lost_or_untrusted(self, error: OSError | HTTPException, seconds: float) -> TLSError | ConnectionFailed:
        if isinstance(error, ssl.SSLError) and not isinstance(error, LOST):
            return tls_error(error, self.url, self._ca_option)
        if isinstance(error, TimeoutError) and not is_lost(error):
            return ConnectionFailed(
                f"timed out after {round(seconds, 2):g} s, before there was a whole answer",
                remedy="check the address, and that the server is running; if it is only slow, raise the timeout",
            )
        if isinstance(error, TooLarge):
            return AnswerTooLarge(
                f"what came is larger than {error.size:,} bytes, the limit of this answer, and was not read further",
                remedy="check the address, and what is in front of the server, such as a proxy",
            )
        if isinstance(error, Ambiguous):
            return ConnectionFailed("the answer gives its length twice, so something in front of the server is broken")
        if isinstance(error, IncompleteRead):
            return ConnectionFailed("the answer is cut short")
        if isinstance(error, HTTPException) and not isinstance(error, OSError):
            return ConnectionFailed("the server did not answer with HTTP")  # its text may quote the response
        return ConnectionFailed(error.strerror or _shown(str(error)))


class _Request(NamedTuple):
    """What is sent, as of `JsonApi.request`."""

    method: str
    path: str
    payload: bytes | Iterable[bytes] | None
    headers: Headers
    idempotent: bool
    size: int


class Stream:
    """The lines of a response that stays open; iteration ends when the server or `close` ends it."""

    def __init__(self, api: JsonApi, connection: Connection, response: LimitedAnswer, timeout: float) -> None:
        self._api = api
        self._timeout = timeout
        self._connection = connection
        self._response = response
        self._closed = False
        self.status = response.status
        self.is_json = "json" in response.headers.get("Content-Type", "")

    def read(self) -> Response:
        """Return the response with the rest of the body, for example a refusal.

        Raises:
            ConnectionFailed: the connection was lost, it took too long, or is too large.
        """
        return self.response(self._reading(self._response.whole))

    def response(self, line: bytes) -> Response:
        """Return the response with one line as its body."""
        return Response(self.status, line, self._response.headers)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines.

        Raises:
            ConnectionFailed: the connection was lost, the time of the stream has passed, or a line is too large.
        """
        while line := self._reading(self._response.readline):
            yield line
            self._connection.limits.renew_size()

    def _reading(self, read: Callable[[], bytes]) -> bytes:
        """Return what a function reads; nothing if another thread closes the stream meanwhile."""
        try:
            return read()
        except (OSError, HTTPException, ValueError, AttributeError) as error:
            if self._closed:
                return b""  # a thread that was waiting for the next line fails in one of these ways
            if isinstance(error, AttributeError):
                raise
            # ValueError: a chunk without a size.
            original = error if isinstance(error, OSError | HTTPException) else HTTPException()
            failure = self._api._translated(original, self._timeout)
        raise failure

    def close(self) -> None:
        """End the stream; a thread that waits for a line stops waiting."""
        self._closed = True
        sock = self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):  # if it is closed already
                sock.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def _backoff(attempt: int, retry_after: str | None) -> float:
    """Return the pause before the next attempt, in seconds."""
    import random

    if retry_after is not None and (seconds := _seconds(retry_after)) is not None:
        return min(MAX_PAUSE, seconds)
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
