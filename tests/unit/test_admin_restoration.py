"""The end of a restoration whose leader changed; all of it: tests/integration/test_vault_cluster.py."""

from __future__ import annotations

from typing import Any, cast

import pytest

from secretmanager.admin.connection import Vault
from secretmanager.admin.restoration import _knows
from secretmanager.errors import InvalidToken, VaultUnavailable


class Standby:
    """Answers as a standby that cannot forward requests at first."""

    url = "https://vault.example.org:8200"

    def __init__(self, *, known: bool) -> None:
        self.known = known
        self.requests = 0

    def request(self, method: str, path: str) -> dict[str, Any]:
        assert (method, path) == ("GET", "auth/token/lookup-self")
        self.requests += 1
        if self.requests < 3:
            raise VaultUnavailable("HTTP status 307")
        if not self.known:
            raise InvalidToken("invalid token")
        return {}


@pytest.mark.parametrize("known", [True, False])
def test_whether_a_token_is_known_is_asked_until_the_standby_forwards(known: bool) -> None:
    standby = Standby(known=known)
    assert _knows(cast(Vault, standby), 60) is known
    assert standby.requests == 3


def test_a_standby_that_never_forwards_is_an_error_of_its_own() -> None:
    with pytest.raises(VaultUnavailable, match="Vault does not serve: HTTP status 307"):
        _knows(cast(Vault, Standby(known=True)), 0)
