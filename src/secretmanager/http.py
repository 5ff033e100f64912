"""One server's JSON API over kept-alive HTTPS connections, by urllib3.

The clients of Vault and Kubernetes share it. The package needs a few paths of either API, and the whole
Kubernetes client takes longer to import (about 0.5 s) than a whole read of a secret (about 0.1 s).
"""

from __future__ import annotations

import json
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, SSLError
from urllib3.util import Retry, Timeout

from .errors import ConfigError, TLSError

CONNECT_TIMEOUT = 10.0
"""Time that a connection may take, in seconds; an answer may take longer."""

# What may go well a moment later: Vault's eventual consistency (412), rate limits, a server that starts, is sealed
# or changes its leader. Vault: https://developer.hashicorp.com/vault/api-docs#http-status-codes
_PASSING = (412, 429, 500, 502, 503, 504)

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


def tls_context(ca_cert: bool | str = True, *, ca_pem: str | None = None) -> ssl.SSLContext:
    """Give a context that verifies the server's certificate and host name.

    Args:
        ca_cert: path of the CA's PEM file; True for the system's own CAs.
        ca_pem: the CA's PEM text, instead of a file.

    Raises:
        ConfigError: the CA cannot be read, or verification is asked to be off.
    """
    if ca_cert is False:
        raise ConfigError("ca_cert: found False; certificates are always verified, so give a CA file, or True")
    if ca_pem is None and ca_cert is True:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=None if ca_pem else str(ca_cert), cadata=ca_pem)
    except (OSError, ssl.SSLError, ValueError) as error:
        found = "the CA given" if ca_pem else str(ca_cert)
        reason = getattr(error, "strerror", None) or "it holds no certificate in PEM"
        raise ConfigError(f"ca_cert: {found} cannot be used: {reason}; give a PEM file") from error


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
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115 - closed, and so deleted, by the caller; mode 0600
    file.write(content)
    file.flush()
    return file


class JsonApi:
    """A server's JSON API.

    Args:
        url: the server's address, ``https://HOST[:PORT][/PATH]``.
        option: name of the option that the address comes from, for errors.
        context: verifies the server's certificate.
        timeout: time that one answer may take, in seconds.
        connections: how many are kept alive; more threads than that wait for one another.
        retries: how often a request is sent again after a status that may pass (412, 429, 5xx) or a lost
            connection, with jitter and honouring Retry-After (RFC 9110 section 10.2.3), at most 10 s each time.

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
        except ValueError as error:
            raise ConfigError(f"{option}: found {url!r}, which is no URL: {error}") from error
        if parts.scheme != "https" or not parts.hostname or parts.username:
            # Not the URL itself: it may hold a password.
            found = f"one with the scheme {parts.scheme!r}" if parts.scheme != "https" else "another form"
            raise ConfigError(f"{option}: found {found}; allowed is an address as https://HOST:PORT")
        self.url = url.rstrip("/")
        self._path = parts.path.rstrip("/")
        self._retry = Retry(
            total=retries,
            other=0,
            redirect=False,
            allowed_methods=None,
            status_forcelist=_PASSING,
            backoff_factor=0.1,
            backoff_jitter=0.1,
            backoff_max=5.0,
            retry_after_max=10,
            raise_on_status=False,
        )
        self._pool = urllib3.HTTPSConnectionPool(
            parts.hostname,
            port or 443,
            timeout=Timeout(connect=min(CONNECT_TIMEOUT, timeout), read=timeout),
            maxsize=connections,
            block=True,
            ssl_context=context,
        )

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
        try:
            response = self._pool.urlopen(
                method,
                self._path + path,
                body=None if body is None else json.dumps(body, separators=(",", ":")).encode(),
                headers={"Accept": "application/json", "Content-Type": "application/json", **(headers or {})},
                retries=self._retry if repeatable else False,
                redirect=False,
            )
        except HTTPError as error:
            raise self._translated(error) from error
        return Answer(response.status, response.data)

    def stream(self, path: str, *, headers: Mapping[str, str], timeout: float) -> urllib3.BaseHTTPResponse:
        """Send one GET whose answer comes in pieces, as a watch's; to be closed by the caller.

        Raises:
            TLSError, NoAnswer: as `request`.
        """
        try:
            return self._pool.urlopen(
                "GET",
                self._path + path,
                headers={"Accept": "application/json", **headers},
                retries=False,
                redirect=False,
                preload_content=False,
                timeout=Timeout(connect=CONNECT_TIMEOUT, read=timeout),
            )
        except HTTPError as error:
            raise self._translated(error) from error

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    def _translated(self, error: HTTPError) -> Exception:
        cause: BaseException | None = error.reason if isinstance(error, MaxRetryError) else error
        if isinstance(cause, SSLError):
            inner = cause.args[0] if cause.args else cause
            code = getattr(inner, "verify_code", None)
            reason = _TLS_REASONS.get(code, "other") if code else "other"
            said = getattr(inner, "verify_message", None) or getattr(inner, "reason", None) or str(inner)
            return TLSError(
                f"its certificate is not to be trusted: {reason}: {said}",
                reason=reason,
                place=self.url,
                remedy=_TLS_REMEDIES[reason],
            )
        return NoAnswer(str(cause).split(": ", 1)[-1])
