"""Google service accounts as identities for Vault's auth method ``gcp``, with roles of type ``iam``.

Needs the extra ``kubevault[gcp]``. Source: https://developer.hashicorp.com/vault/docs/auth/gcp
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import ConfigError
from ..servers.http import shown
from ..servers.vault import Login, VaultClient

try:
    import google.auth.transport.urllib3
    import urllib3
    from google.auth.compute_engine import IDTokenCredentials
    from google.auth.exceptions import GoogleAuthError
    from google.auth.jwt import Credentials as KeyCredentials
except ImportError as error:
    raise ConfigError("auth: gcp needs more packages; install kubevault[gcp]") from error

JWT_LIFE = 600
"""Lifetime of a token that a key file signs, in seconds; Vault's roles take 15 minutes unless they say less."""


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
        request = google.auth.transport.urllib3.Request(urllib3.PoolManager())
        try:
            credentials = IDTokenCredentials(request, audience(role), use_metadata_identity_endpoint=True)
            credentials.refresh(request)
        except GoogleAuthError as error:
            raise ConfigError(
                f"auth: Google's metadata server issues no token: {error}; on another machine name gcp_credentials_file"
            ) from error
        return str(credentials.token)

    return GoogleServiceAccount(jwt, role, mount)


def audience(role: str) -> str:
    """Return the audience of a token: Vault's role, as the gcp auth method requires."""
    return f"vault/{role}"
