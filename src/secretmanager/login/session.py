"""The lifetime of a Vault token: logged in when needed, renewed while allowed, logged in again before it ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from ..errors import InvalidToken, ManagerClosed, PermissionDenied, SecretManagerError, VaultError, VaultUnavailable
from ..servers.forking import renewed_in_children
from ..servers.http import within
from ..servers.vault import Login, VaultClient

T = TypeVar("T")

log = logging.getLogger(__name__)

CLOSING = 2.0
"""Time that the revocation of a token may take, in seconds. Kubernetes lets a program that is to end live for 30."""

FRESH = 1.0
"""Age, in seconds, up to which a refusal means that the token lacks a policy, and not that it has expired."""

CLOSING = 2.0
"""Time that revoking a token in the end may take, in seconds: it also expires by itself."""

_WORTH = 1.0  # seconds; a renewal that gains less is not worth a request
_LAST = 0.05  # part of its life, but no more than 2 s, for which a token is not used: a request takes time


@dataclass(frozen=True)
class _Held:
    """A token and its times, by the monotonic clock, in seconds."""

    login: Login
    born: float
    since: float

    @property
    def end(self) -> float:
        return self.since + self.login.lease_duration if self.login.lease_duration else float("inf")

    @property
    def usable(self) -> bool:
        return time.monotonic() < self.end - min(2.0, _LAST * self.login.lease_duration)


@contextmanager
def logged_in(
    vault: VaultClient, log_in: Callable[[VaultClient], Login], warn: Callable[[str], None]
) -> Iterator[VaultClient]:
    """Log in for some requests, however long they take, and revoke in the end a token that was issued for them.

    Args:
        vault: the client; it always has a valid token, and is closed in the end.
        log_in: logs in, as `methods.Method.log_in`.
        warn: as of `VaultSession.close`.

    Raises:
        LoginDenied: Vault refused.
        VaultUnavailable, TLSError: Vault is unreachable, or its certificate is not trusted.
    """
    session = VaultSession(vault, partial(log_in, vault))
    try:
        vault.token = session.token()
        vault.token_source = session.token
        try:
            yield vault
        finally:
            session.close(warn)
    finally:
        vault.close()


class VaultSession:
    """Provides a valid token to any number of threads, with one log-in at a time. It never looks a token up.

    A token that may be renewed is renewed in the last third of its life, another is replaced in the last tenth, each
    by one thread, while the others go on with it. They wait only if no token is usable. Nothing happens
    in the background: an unused token ends.

    Times are those of the monotonic clock from before the request was sent. So neither a clock that is wrong nor a slow
    answer makes a token look younger than it is.

    Args:
        vault: the client.
        log_in: logs in again; called by one thread at a time.
    """

    def __init__(self, vault: VaultClient, log_in: Callable[[], Login]) -> None:
        self._vault = vault
        self._log_in = log_in
        self._lock = threading.Lock()
        renewed_in_children(self)
        self._held: _Held | None = None
        self._longest = float("inf")  # life that no renewal extends (token_max_ttl), once one was refused
        self._closed = False

    def _in_child(self) -> None:
        """As `forking.Shared._in_child`; the token stays the parent's, which revokes it."""
        self._lock = threading.Lock()
        if token := self._held:
            self._held = replace(token, login=replace(token.login, given=True))

    def call(self, request: Callable[[str], T]) -> T:
        """Make a request with a valid token; if Vault refuses an old one, log in once more and repeat it.

        Raises:
            ManagerClosed: the session was closed.
            LoginDenied, VaultError, KubernetesError: as the log-in, and as the request.
        """
        token = self._token()
        try:
            return request(token.login.client_token)
        except (InvalidToken, PermissionDenied) as error:
            if isinstance(error, PermissionDenied) and time.monotonic() - token.born < FRESH:
                raise
            log.debug("Vault refused a token: %s; logging in once more", type(error).__name__)
        with self._lock:
            if self._held is token:
                self._held = None
        return request(self.token())

    def token(self) -> str:
        """Return a valid token.

        Raises:
            ManagerClosed, LoginDenied, VaultError, KubernetesError: as `call`.
        """
        return self._token().login.client_token

    def close(self, warn: Callable[[str], None] = log.warning) -> None:
        """Revoke the token, in `CLOSING` seconds. A token that has expired, or expires by itself, is left alone.

        Args:
            warn: called if it cannot be revoked; what was done counts all the same.
        """
        # A thread that logs in meanwhile may wait for Vault much longer; its token ends by itself.
        locked = self._lock.acquire(timeout=CLOSING)
        token, self._held, self._closed = self._held, None, True
        if locked:
            self._lock.release()
        if token is None or not token.login.revocable or not token.usable:
            return
        try:
            with within(min(CLOSING, token.end - time.monotonic())):
                self._vault.revoke_self(token=token.login.client_token)
            log.debug("the token is revoked")
        except VaultError as error:
            warn(f"the Vault token was not revoked; it expires by itself: {error}")

    def _token(self) -> _Held:
        token = self._held
        if token is None or not token.usable:
            with self._lock:
                # Another thread may have logged in meanwhile.
                token = self._held
                return token if token and token.usable else self._fresh()
        if time.monotonic() >= self._due(token) and self._lock.acquire(blocking=False):
            try:
                if self._held is token:
                    token = self._replaced(token)
            finally:
                self._lock.release()
        return token

    def _due(self, token: _Held) -> float:
        """Return when a token is to be replaced."""
        lease = token.login.lease_duration
        return token.end - lease / (3 if self._may_renew(token) else 10)

    def _may_renew(self, token: _Held) -> bool:
        return token.login.renewable and token.end + _WORTH < token.born + self._longest

    def _replaced(self, token: _Held) -> _Held:
        try:
            return (self._renewed(token) if self._may_renew(token) else None) or self._fresh()
        except SecretManagerError as error:
            # It is still usable. The next caller tries again.
            log.warning("the Vault token was not replaced in time: %s", error)
            return token

    def _renewed(self, token: _Held) -> _Held | None:
        since = time.monotonic()
        try:
            login = self._vault.renew_self(token=token.login.client_token)
        except VaultUnavailable:
            raise
        except VaultError as error:
            log.debug("the token may not be renewed: %s", error)
            self._longest = token.login.lease_duration
            return None
        renewed = _Held(replace(login, given=token.login.given), token.born, since)
        log.debug("the token is renewed, for %d s", login.lease_duration)
        # At its end a renewed token's lease is 0, which at a log-in would mean that it never ends.
        if not login.lease_duration or renewed.end < token.end + _WORTH:
            self._longest = token.end - token.born
            log.debug("it has reached its maximum lifetime, %.0f s", self._longest)
            return None
        self._held = renewed
        return renewed

    def _fresh(self) -> _Held:
        if self._closed:
            raise ManagerClosed("the manager was closed", remedy="make a new one")
        since = time.monotonic()
        login = self._log_in()
        self._held = _Held(login, since, since)
        log.debug("logged in to Vault; the token lives %d s", login.lease_duration)
        return self._held
