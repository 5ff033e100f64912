"""A Vault token's life: logged in when needed, renewed while it may be, logged in again when it has ended."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from .errors import InvalidToken, PermissionDenied, VaultError
from .vault import Login, VaultClient

T = TypeVar("T")

log = logging.getLogger(__name__)

FRESH = 1.0
"""Age, in seconds, up to which a refusal is not blamed on the token's end."""


class VaultSession:
    """Gives a valid token to any number of threads, with one log-in at a time. It never looks a token up.

    The token's age is told by the monotonic clock from before the log-in was sent, so neither a skewed clock nor a slow
    answer makes it look younger than it is.

    Args:
        vault: the client.
        log_in: logs in anew.
    """

    def __init__(self, vault: VaultClient, log_in: Callable[[], Login]) -> None:
        self._vault = vault
        self._log_in = log_in
        self._lock = threading.Lock()
        self._login: Login | None = None
        self._since = 0.0

    def token(self) -> str:
        """Give a token that is valid now.

        Raises:
            LoginDenied, VaultError, KubernetesError: as the log-in.
        """
        if token := self._current():
            return token
        with self._lock:
            return self._current() or self._renewed() or self._fresh()

    def call(self, request: Callable[[str], T]) -> T:
        """Make a request with a valid token; where Vault refuses an aged token, log in once more and repeat it."""
        started = time.monotonic()
        token = self.token()
        try:
            return request(token)
        except (InvalidToken, PermissionDenied) as error:
            if self._since >= started - FRESH and not isinstance(error, InvalidToken):
                raise
            log.debug("Vault refused a token; logging in once more")
            self._drop(token)
        return request(self.token())

    def close(self) -> None:
        """Revoke the token. One that has ended already is as good as revoked."""
        with self._lock:
            login, self._login = self._login, None
            if login is None or login.is_batch or self._left(login) <= 0:
                return
            try:
                self._vault.revoke_self(token=login.client_token)
            except VaultError as error:
                # It ends by itself, within the seconds that it lives.
                log.debug("the token could not be revoked: %s", error)

    def _left(self, login: Login) -> float:
        """Give how long the token lives, in seconds."""
        if login.lease_duration == 0:
            return float("inf")
        return self._since + login.lease_duration - time.monotonic()

    def _current(self) -> str | None:
        """Give the token while it is worth using: renewable ones for two thirds of their life, others to the end."""
        login = self._login
        if login is None:
            return None
        margin = login.lease_duration / 3 if login.renewable else min(1.0, login.lease_duration / 10)
        return login.client_token if self._left(login) > margin else None

    def _renewed(self) -> str | None:
        login = self._login
        if login is None or not login.renewable or self._left(login) <= 0:
            return None
        since = time.monotonic()
        try:
            renewed = self._vault.renew_self(token=login.client_token)
        except (InvalidToken, PermissionDenied) as error:
            log.debug("the token may not be renewed: %s", error)
            return None
        longer = since + renewed.lease_duration > self._since + login.lease_duration + FRESH
        if not longer:
            return None  # it is at its maximum (token_max_ttl)
        self._login, self._since = renewed, since
        log.debug("the token was renewed; it lives %d s", renewed.lease_duration)
        return renewed.client_token

    def _fresh(self) -> str:
        since = time.monotonic()
        self._login, self._since = self._log_in(), since
        log.debug("logged in to Vault; the token lives %d s", self._login.lease_duration)
        return self._login.client_token

    def _drop(self, token: str) -> None:
        with self._lock:
            if self._login and self._login.client_token == token:
                self._login = None
