"""Google service accounts as identities for Vault's auth method ``gcp``, with roles of type ``iam``.

Needs the extra ``kubevault[gcp]``. Source: https://developer.hashicorp.com/vault/docs/auth/gcp
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigError
from ..servers.connection import LimitedConnection
from ..servers.http import shown
from ..servers.vault import Login, VaultClient

try:
    from google.auth.compute_engine import IDTokenCredentials
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.auth.jwt import Credentials as KeyCredentials
except ImportError as error:
    raise ConfigError("auth: gcp needs more packages; install kubevault[gcp]") from error

JWT_LIFE = 600
"""Lifetime of a token that a key file signs, in seconds; Vault's roles take 15 minutes unless they say less."""


METADATA_TIMEOUT = 10.0
"""Time that one request to Google's metadata server may take, in seconds, where google-auth names none."""

METADATA_ANSWER = 1024 * 1024
"""Size that its answer may have, in bytes; a token has a few thousand."""


class GoogleServiceAccount:
    """A Google service account.

    Args:
        jwt: returns a token of it for the role.
        role: role of Vault.
        mount: where Vault's gcp auth is mounted.
    """

    def __init__(self, jwt: Callable[[], str], role: str, mount: str) -> None:
        self._jwt = jwt
        self._role = role
        self._mount = mount

    def log_in(self, vault: VaultClient) -> Login:
        """Log in, as `methods.Method.log_in`."""
        return vault.login_gcp(self._role, self._jwt(), self._mount)


def from_key_file(path: str, role: str, mount: str) -> GoogleServiceAccount:
    """Return the service account of a JSON key file; its key signs the token here.

    Raises:
        ConfigError: the file is not a key file.
    """
    try:
        credentials = KeyCredentials.from_service_account_file(path, audience=audience(role), token_lifetime=JWT_LIFE)
    except OSError as error:
        raise ConfigError(f"gcp_credentials_file: {shown(path)}: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError, RecursionError, GoogleAuthError):
        # Not "from" the original, which may hold a part of the key.
        raise ConfigError(f"gcp_credentials_file: {path} is not a JSON key file of a Google service account") from None

    def jwt() -> str:
        credentials.refresh(None)
        return str(credentials.token, "ascii")

    return GoogleServiceAccount(jwt, role, mount)


def from_metadata_server(role: str, mount: str) -> GoogleServiceAccount:
    """Return the service account of this machine, pod or function; Google's metadata server signs the token.

    Such a token lives for an hour, so the role of Vault needs ``max_jwt_exp=60m``.
    """

    def jwt() -> str:
        try:
            credentials = IDTokenCredentials(ask_metadata_server, audience(role), use_metadata_identity_endpoint=True)
            credentials.refresh(ask_metadata_server)
        except GoogleAuthError as error:
            raise ConfigError(
                f"auth: Google's metadata server issues no token: {error}; on another machine name gcp_credentials_file"
            ) from error
        return str(credentials.token)

    return GoogleServiceAccount(jwt, role, mount)


def audience(role: str) -> str:
    """Return the audience of a token: Vault's role, as the gcp auth method requires."""
    return f"vault/{role}"


@dataclass(frozen=True)
class _Answer:
    """An answer, as google-auth's ``transport.Response``."""

    status: int
    headers: HTTPMessage
    data: bytes = field(repr=False)


def ask_metadata_server(
    url: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float | None = None,
    **_: Any,
) -> _Answer:
    """Send a request to the metadata server, as google-auth's ``transport.Request`` does, but within limits.

    Neither a proxy nor a redirect is followed: the metadata server is on the machine's own network.

    Raises:
        TransportError: there is no whole answer in time, or it is too large.
    """
    parts = urlsplit(url)
    if parts.scheme != "http":
        raise TransportError(f"{parts.scheme}://{parts.netloc} is not asked; the metadata server has plain HTTP")
    connection = LimitedConnection(parts.hostname or "", parts.port)
    connection.limits.begin(timeout or METADATA_TIMEOUT, METADATA_ANSWER)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body, dict(headers or {}))
        received = connection.getresponse()
        return _Answer(received.status, received.headers, received.whole())
    except (OSError, HTTPException, ValueError) as error:
        # An HTTPException may quote the answer.
        reason = type(error).__name__ if isinstance(error, HTTPException) else str(error)
    finally:
        connection.close()
    raise TransportError(f"{parts.netloc}: {reason}")
