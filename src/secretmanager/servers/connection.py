"""Connections to a server: its address, a proxy on the way, and the TCP options by which a lost one is noticed."""

from __future__ import annotations

import base64
import contextlib
import errno
import select
import socket
import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPSConnection
from typing import Any, NamedTuple
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
    """Where a server, or a proxy, is; ``path`` comes before that of each request."""

    url: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str, option: str) -> Address:
        """Parse ``https://HOST[:PORT][/PATH]``.

        Raises:
            ConfigError: it has another form; names the option.
        """
        parts, port = _split(url, option, "https://HOST:PORT")
        if parts.scheme != "https" or not parts.hostname or parts.username:
            found = f"one with the scheme {parts.scheme!r}" if parts.scheme != "https" else "another form"
            raise ConfigError(f"{option}: found {found}; allowed is an address such as https://HOST:PORT")
        return cls(url.rstrip("/"), parts.hostname, port or 443, parts.path.rstrip("/"))


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
            found = f"one with the scheme {parts.scheme!r}" if parts.scheme != "http" else "another form"
            raise ConfigError(f"{option}: found {found}; allowed is http://HOST:PORT")
        headers = {}
        if parts.username:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["Proxy-Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
        return cls(parts.hostname, port, headers)

    @classmethod
    def find(cls, given: str | None, address: Address, option: str) -> Proxy | None:
        """Return the proxy for an address, if there is one.

        Args:
            given: the proxy's address; `ENVIRONMENT` for what ``HTTPS_PROXY`` and ``NO_PROXY`` say; None for no proxy.
            address: the server's address.
            option: name of the option, for errors.

        Raises:
            ConfigError: it cannot be used.
        """
        if given == ENVIRONMENT:
            from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined] # not in typeshed

            proxies = getproxies_environment()
            given = proxies.get("https")
            if not given or proxy_bypass_environment(f"{address.host}:{address.port}", proxies):
                return None
            option = "HTTPS_PROXY"
        return cls.parse(given, option) if given else None


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


class Connection(HTTPSConnection):
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
        super().__init__(via.host, via.port, context=context, timeout=min(CONNECT_TIMEOUT, timeout))
        if proxy:
            self.set_tunnel(address.host, address.port, dict(proxy.headers))
        self.address = address
        self.context = context
        self.used_at = float("-inf")
        self._server_name = server_name or address.host
        self._response_timeout = timeout

    def connect(self) -> None:
        """Connect; as the base class, but for the name in the certificate and options of TCP."""
        HTTPConnection.connect(self)
        self._keep_alive()
        self.sock = self.context.wrap_socket(self.sock, server_hostname=self._server_name)
        self.sock.settimeout(self._response_timeout)

    def putheader(self, header: str | bytes, *values: Any) -> None:
        """Send a header of `Headers`."""
        for value in values[0] if isinstance(values[0], list) else values:
            super().putheader(header, value)

    def is_open(self) -> bool:
        """Whether it is still open: if it is readable before a request, the server closed it, or it was lost."""
        if self.sock is None:
            return False
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)

    def _keep_alive(self) -> None:
        unacknowledged = int(min(CONNECT_TIMEOUT, self._response_timeout / 3) * 1000)  # milliseconds
        with contextlib.suppress(OSError):  # a system may know an option and refuse it
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (*_KEEPALIVE, ("TCP_USER_TIMEOUT", max(1, unacknowledged))):
                if hasattr(socket, name):
                    self.sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


LOST = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError, ConnectionError)
"""What is raised if the other side, or something between, has closed the connection."""


def is_lost(error: OSError) -> bool:
    """Whether the connection is gone; a response that takes too long is another matter."""
    return isinstance(error, LOST) or is_gone(error)


def is_gone(error: OSError) -> bool:
    """Whether TCP heard nothing of the other side any more, or knows no way to it."""
    return error.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)
