"""Connections to a server: its address, a proxy on the way, the limits of an answer, and how a lost one is noticed."""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import ipaddress
import math
import select
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import IO, Any, NamedTuple, cast
from urllib.parse import SplitResult, unquote, urlsplit

from ..errors import ConfigError

CONNECT_TIMEOUT = 10.0
"""Time that connecting may take, in seconds; a response may take longer."""

ENVIRONMENT = "environment"
"""In place of a proxy's address: use what ``HTTPS_PROXY`` and ``NO_PROXY`` say."""

# After 5 s without traffic, TCP asks every 5 s whether the other side is there. So firewalls and NAT do not forget the
# connection, and one that is lost is noticed within 20 s (tcp(7); a system has some of these options).
_KEEPALIVE = (("TCP_KEEPIDLE", 5), ("TCP_KEEPALIVE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))


class Address(NamedTuple):
    """Where a server, or a proxy, is; ``path`` comes before that of each request.

    With ``plain``, requests are sent without TLS, and only to this machine's loopback.
    """

    url: str
    host: str
    port: int
    path: str
    plain: bool = False

    @classmethod
    def parse(cls, url: str, option: str, plain_option: str | None = None, *, plain: bool = False) -> Address:
        """Parse ``https://HOST[:PORT][/PATH]``.

        Args:
            url: the address.
            option: name of the option that it comes from, for errors.
            plain_option: name of the option that allows ``http://`` for loopback; None if there is none.
            plain: whether that option is set.

        Raises:
            ConfigError: it has another form, or is not one of loopback; names the option.
        """
        parts, port = _split(url, option, "https://HOST:PORT")
        here = parts.scheme == "http" and bool(parts.hostname) and is_loopback(parts.hostname or "") and plain
        if not (parts.scheme == "https" or here) or not parts.hostname or parts.username:
            form = f"one with the scheme {parts.scheme!r}" if parts.scheme != "https" else "another form"
            allowed = "an address such as https://HOST:PORT"
            if parts.scheme == "http" and plain_option:
                allowed += (
                    f", and with {plain_option} http:// for a Vault Agent or Proxy on 127.0.0.1, ::1 or localhost"
                )
            raise ConfigError(f"{option}: found {form}; allowed is {allowed}")
        return cls(url.rstrip("/"), parts.hostname, port or (80 if here else 443), parts.path.rstrip("/"), here)


def is_loopback(host: str) -> bool:
    """Whether a host is an address of loopback, or ``localhost``, which has to resolve to one."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


class Proxy(NamedTuple):
    """An HTTP proxy that connects to any server (CONNECT, RFC 9110 section 9.3.6)."""

    host: str
    port: int
    headers: Mapping[str, str]

    @classmethod
    def parse(cls, url: str, option: str) -> Proxy:
        """Parse ``http://[USER:PASSWORD@]HOST:PORT``.

        Raises:
            ConfigError: it has another form; names the option, and not what was found, which may hold a password.
        """
        parts, port = _split(url, option, "http://HOST:PORT")
        if parts.scheme != "http" or not parts.hostname or not port:
            form = f"one with the scheme {parts.scheme!r}" if parts.scheme != "http" else "another form"
            raise ConfigError(f"{option}: found {form}; allowed is http://HOST:PORT")
        headers = {}
        if parts.username:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["Proxy-Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
        return cls(parts.hostname, port, headers)

    @classmethod
    def find(cls, proxy: str | None, address: Address, option: str) -> Proxy | None:
        """Return the proxy for an address, if there is one.

        Args:
            proxy: the proxy's address; `ENVIRONMENT` for what ``HTTPS_PROXY`` and ``NO_PROXY`` say; None for no proxy.
            address: the server's address.
            option: name of the option, for errors.

        Raises:
            ConfigError: it cannot be used.
        """
        if proxy == ENVIRONMENT:
            from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined] # not in typeshed

            proxies = getproxies_environment()
            proxy = proxies.get("https")
            if not proxy or proxy_bypass_environment(f"{address.host}:{address.port}", proxies):
                return None
            option = "HTTPS_PROXY"
        return cls.parse(proxy, option) if proxy else None


def _split(url: str, option: str, allowed: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # Neither the URL nor the original error: they may hold a password.
        raise ConfigError(f"{option}: found no URL; allowed is an address such as {allowed}") from None
    return parts, port


Headers = Mapping[str, Any]
"""Headers of a request, each text, or a list of bytes: it is then sent once for each (RFC 9110 section 5.3)."""


class Ambiguous(HTTPException):
    """A response with two lengths, which is no valid HTTP (RFC 9112 section 6.3)."""


class TooLarge(HTTPException):
    """An answer is larger than its limit; it was not read further.

    Attributes:
        size: the limit, in bytes.
    """

    def __init__(self, size: int) -> None:
        super().__init__(f"more than {size} bytes")
        self.size = size


class Limits:
    """The time and the size that one answer may have. Every wait for the other side asks for the time that is left.

    A time limit of the socket alone would begin again with each byte that the other side sends.
    """

    def __init__(self) -> None:
        self._ends = self._size = self._unread = 0.0

    def begin(self, seconds: float, size: int) -> None:
        """Begin a request.

        Args:
            seconds: time for all of it, from connecting to the answer's last byte.
            size: size of the answer with its headers, and with those of interim ones, in bytes.
        """
        self._ends = time.monotonic() + seconds
        self._size = self._unread = size

    def renew_size(self) -> None:
        """Begin the next part of a stream; its time goes on."""
        self._unread = self._size

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Within it, the time is not longer than a number of seconds."""
        ends = self._ends
        self._ends = min(ends, time.monotonic() + seconds)
        try:
            yield
        finally:
            self._ends = ends

    def seconds(self) -> float:
        """Return the time that is left, in seconds, for `socket.socket.settimeout`.

        Raises:
            TimeoutError: there is none left.
        """
        remaining = self._ends - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("timed out")
        return remaining

    def count(self, number: int) -> None:
        """Count bytes that came.

        Raises:
            TooLarge: they are too many.
        """
        self._unread -= number
        if self._unread < 0:
            raise TooLarge(int(self._size))

    def check(self, length: int) -> None:
        """Raise TooLarge if an answer says that it is too long: before memory is taken for it."""
        if length > self._size:
            raise TooLarge(int(self._size))


class _Reader(io.RawIOBase):
    """Reads a socket within limits."""

    def __init__(self, sock: socket.socket, raw: socket.SocketIO, limits: Limits) -> None:
        self._sock, self._raw, self._limits = sock, raw, limits

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._limits.seconds())
        number: int | None = self._raw.readinto(buffer)
        self._limits.count(number or 0)
        return number

    def close(self) -> None:
        self._raw.close()
        super().close()


class LimitedAnswer(HTTPResponse):
    """A response that is read within limits."""

    def __init__(self, limits: Limits, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._limits = limits
        self.fp = io.BufferedReader(_Reader(sock, cast(socket.SocketIO, self.fp.detach()), limits))

    def whole(self) -> bytes:
        """Return the body.

        Raises:
            TooLarge: it is larger than its limit, or says so.
            Ambiguous: it has two lengths.
            HTTPException: it is cut short, or not in the form that its headers say.
            OSError: the connection was lost, or the time has passed.
        """
        if len(set(self.headers.get_all("Content-Length", ()))) > 1:
            raise Ambiguous
        try:
            if self.chunked:
                return b"".join(iter(partial(self.read, _BLOCK), b""))
            self._limits.check(self.length or 0)
            return self.read()
        except ValueError as error:
            raise HTTPException("a chunk without a size") from error


_BLOCK = 64 * 1024  # bytes; of a chunk that says that it is larger, memory is taken for so much at a time


class LimitedConnection(HTTPConnection):
    """A connection of plain HTTP whose requests have `Limits`; call ``limits.begin`` before each.

    Args:
        host: host name or address.
        port: port.
        options: further arguments of the base class.
    """

    def __init__(self, host: str, port: int | None = None, **options: Any) -> None:
        super().__init__(host, port, **options)
        self.limits = Limits()
        self.response_class = partial(LimitedAnswer, self.limits)  # type: ignore[assignment] # it is called
        self._create_connection = self._dial

    def getresponse(self) -> LimitedAnswer:
        """Return the response, of which the headers were read."""
        response = super().getresponse()
        assert isinstance(response, LimitedAnswer)  # noqa: S101 - for the type checker
        return response

    def send(self, data: Any) -> None:
        """Send bytes, in the time that is left."""
        if self.sock is None:
            self.connect()
        self.sock.settimeout(self.limits.seconds())
        super().send(data)

    def _dial(self, address: tuple[str, int], *_: object) -> socket.socket:
        """Connect as socket.create_connection, whose time limit is that of each of the host's addresses."""
        places = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        for index, (family, kind, protocol, _name, place) in enumerate(places, 1):
            sock = socket.socket(family, kind, protocol)
            try:
                # The last may use all that is left.
                sock.settimeout(self.limits.seconds() / (len(places) - index + 1))
                sock.connect(place)
            except OSError:
                sock.close()
                if index == len(places):
                    raise
            else:
                return sock
        raise OSError("the name has no address")


class Connection(LimitedConnection, HTTPSConnection):
    """A connection to one address, directly or through a proxy, which notices when it is lost.

    Args:
        address: the server's address.
        context: verifies its certificate.
        proxy: the proxy, if there is one.
        server_name: name that the certificate must hold; None for the address's.
        timeout: time that a response may take, in seconds.
    """

    def __init__(
        self, address: Address, context: ssl.SSLContext, proxy: Proxy | None, server_name: str | None, timeout: float
    ) -> None:
        via = proxy or address
        super().__init__(via.host, via.port, context=context)
        if proxy:
            self.set_tunnel(address.host, address.port, dict(proxy.headers))
        self.address = address
        self.context = context
        self.used_at = float("-inf")
        self._server_name = server_name or address.host
        self._response_timeout = timeout

    def connect(self) -> None:
        """Connect; as the base class, but for the name in the certificate and options of TCP."""
        with self.limits.within(CONNECT_TIMEOUT):
            HTTPConnection.connect(self)
            self._keep_alive()
            self.sock.settimeout(self.limits.seconds())
            if self.address.plain:
                # What a name resolves to counts, and before anything is sent.
                if not is_loopback(self.sock.getpeername()[0]):
                    self.close()
                    raise ConfigError(f"{self.address.url}: is not this machine, and http:// is used to no other")
                return
            self.sock = self.context.wrap_socket(self.sock, server_hostname=self._server_name)

    def putheader(self, header: str | bytes, *values: Any) -> None:
        """Send a header of `Headers`."""
        for value in values[0] if isinstance(values[0], list) else values:
            super().putheader(header, value)

    def is_open(self) -> bool:
        """Whether it is still open: if it is readable before a request, the server closed it, or it was lost."""
        if self.sock is None:
            return False
        return not readable(self.sock, 0)

    def _keep_alive(self) -> None:
        unacknowledged = int(min(CONNECT_TIMEOUT, self._response_timeout / 3) * 1000)  # milliseconds
        with contextlib.suppress(OSError):  # a system may know an option and refuse it
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (*_KEEPALIVE, ("TCP_USER_TIMEOUT", max(1, unacknowledged))):
                if hasattr(socket, name):
                    self.sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def readable(source: socket.socket | IO[bytes], seconds: float | None) -> bool:
    """Wait until there is something to read, or the end; return whether there is.

    Args:
        source: what is read.
        seconds: how long to wait at most; None for ever.
    """
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(source, select.POLLIN)
        return bool(poll.poll(None if seconds is None else math.ceil(seconds * 1000)))
    # eventlet takes it away, and its own select waits for any number of a file descriptor.
    return bool(select.select([source], [], [], seconds)[0])


LOST = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError, ConnectionError)
"""What is raised if the other side, or something between, has closed the connection."""


def is_lost(error: OSError) -> bool:
    """Whether the connection is gone; a response that takes too long is another matter."""
    return isinstance(error, LOST) or is_gone(error)


def is_gone(error: OSError) -> bool:
    """Whether TCP heard nothing of the other side any more, or knows no way to it."""
    return error.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)
