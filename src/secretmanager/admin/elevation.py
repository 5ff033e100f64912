"""A privileged token for the few writes that the operator's own token may not make.

Unseal keys, or recovery keys, make a root token, which makes a token that ends within minutes and is then revoked. Only
that token is used, in this process, and it is revoked however the use ends. No file ever holds one of them.

Source: https://developer.hashicorp.com/vault/api-docs/system/generate-root
"""

from __future__ import annotations

import base64
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from ..errors import ConfigError, SecretManagerError, VaultError, VaultUnavailable
from .cluster import wait_for
from .connection import Vault

LIFETIME = "5m"
"""How long a privileged token lives if its process is killed before it revoked it."""

_REVOCATION = 30.0  # seconds for which a revocation is repeated while Vault is unavailable

_ATTEMPT = "sys/generate-root/attempt"
_TOKEN_FILE = "or put a privileged token into the file of such a token, and run this again"


def required_keys(vault: Vault) -> int:
    """Return how many unseal keys, or recovery keys, make a root token.

    Args:
        vault: connection without a token.

    Raises:
        VaultError: Vault does not say, or is unavailable.
    """
    return int(vault.request("GET", _ATTEMPT)["required"])


@contextlib.contextmanager
def elevated(connect: Callable[[str], Vault], keys: Sequence[str]) -> Iterator[str]:
    """Make a privileged token, and revoke it at the end, also after an exception, SIGINT, SIGTERM or SIGHUP.

    Args:
        connect: returns a connection that uses a token; an empty one for none.
        keys: unseal keys, or recovery keys, in base64 or hexadecimal; the needed number of them, or more.

    Yields:
        The token, which has the policy ``root``.

    Raises:
        ConfigError: there are too few keys, they are not those of this Vault, or somebody else is making a root token.
        VaultError: Vault refused, or the token was not revoked; the message names its accessor.
    """
    with _ended_by_signals():
        root = connect(_root_token(connect(""), keys))
        with _revoked(root):
            response = root.request(
                "POST",
                "auth/token/create",
                {
                    "policies": ["root"],
                    "ttl": LIFETIME,
                    "explicit_max_ttl": LIFETIME,
                    "no_parent": True,
                    "renewable": False,
                    "display_name": "kubevault-privileged",
                },
            )
        token = str(response["auth"]["client_token"])
        with _revoked(connect(token)):
            yield token


def _root_token(vault: Vault, keys: Sequence[str]) -> str:
    """Return a new root token. What was begun is cancelled if it does not succeed; what others began never is."""
    try:
        attempt = vault.request("POST", _ATTEMPT, {})
    except VaultUnavailable:
        raise
    except VaultError as error:
        if "already in progress" in str(error):
            remedy = f"wait for its end, or cancel it by `vault operator generate-root -cancel`, {_TOKEN_FILE}"
            raise ConfigError(f"{vault.url}: somebody is making a root token already", remedy=remedy) from error
        error.remedy = f"this server makes no root token by keys alone: {_TOKEN_FILE.removeprefix('or ')}"
        raise
    encoded = ""
    try:
        if len(keys) < (required := int(attempt["required"])):
            raise ConfigError(f"unseal keys: found {len(keys)}; {vault.url} needs {required} of them")
        encoded = _encoded_token(vault, keys, str(attempt["nonce"]))
    finally:
        if not encoded:
            with contextlib.suppress(SecretManagerError):  # the first failure is the one to tell
                vault.request("DELETE", _ATTEMPT)
    if not encoded:
        raise ConfigError(f"unseal keys: {vault.url} needs more of them than these {len(keys)}, which may be the same")
    return _decoded(encoded, str(attempt["otp"]))


def _encoded_token(vault: Vault, keys: Sequence[str], nonce: str) -> str:
    """Enter the keys; return the root token as Vault encodes it, empty if it needs more keys."""
    for key in keys:
        try:
            progress: dict[str, Any] = vault.request("POST", "sys/generate-root/update", {"key": key, "nonce": nonce})
        except VaultUnavailable:
            raise
        except VaultError as error:
            # No exception is its context whose request holds a key.
            raise ConfigError(
                f"unseal keys: {vault.url} refused them: {'; '.join(error.errors) or error}",
                remedy="give the unseal keys, or the recovery keys, of this Vault, not encrypted",
            ) from None
        if progress.get("complete"):
            return str(progress["encoded_token"])
    return ""


def _decoded(encoded: str, otp: str) -> str:
    """Return the token of an encoded one: base64 without padding of its bytes XOR those of the one-time password."""
    data = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
    return bytes(one ^ other for one, other in zip(data, otp.encode(), strict=True)).decode()


@contextlib.contextmanager
def _revoked(vault: Vault) -> Iterator[None]:
    """Revoke the token of a connection at the end."""
    try:
        yield
    finally:
        # Vault may be electing a leader. The token would outlive the run.
        wait_for(lambda: _revoke(vault), f"{vault.url}: a privileged token was not revoked", _REVOCATION)


def _revoke(vault: Vault) -> bool:
    try:
        vault.request("POST", "auth/token/revoke-self")
    except VaultError as error:
        # A request whose response was lost: it is revoked.
        if error.status != 403:
            raise
    return True


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise SystemExit, as SIGINT raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.signal(number, _exit) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _exit(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)
