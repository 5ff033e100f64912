"""A token's life cycle by a clock that the test moves, with a scripted Vault, because a real one has its own clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from secretmanager.errors import InvalidToken, ManagerClosed, PermissionDenied, VaultUnavailable
from secretmanager.login import session
from secretmanager.login.session import VaultSession
from secretmanager.servers.vault import Login


class Vault:
    """Issues tokens "t1", "t2", ... and logs the requests; `renewals` are its responses, "down" means none."""

    def __init__(self, clock: list[float], lease: int = 10, *, renewable: bool = True) -> None:
        self.clock, self.lease, self.renewable = clock, lease, renewable
        self.asked: list[str] = []
        self.renewals: list[Any] = []
        self.down = False

    def log_in(self) -> Login:
        self._ask("log in")
        return Login(f"t{self.asked.count('log in')}", self.lease, self.renewable)

    def renew_self(self, *, token: str) -> Login:
        self._ask(f"renew {token}")
        answer = self.renewals.pop(0) if self.renewals else self.lease
        if isinstance(answer, Exception):
            raise answer
        return Login(token, answer, True)

    def revoke_self(self, *, token: str) -> None:
        self._ask(f"revoke {token}")

    def _ask(self, what: str) -> None:
        if self.down:
            raise VaultUnavailable("down")
        self.asked.append(what)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(session.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def vault(clock: list[float]) -> Vault:
    return Vault(clock)


@pytest.fixture
def one(vault: Vault) -> VaultSession:
    return VaultSession(vault, vault.log_in)  # type: ignore[arg-type]


def used(one: VaultSession) -> str:
    return one.call(lambda token: token)


def test_a_token_is_renewed_in_the_last_third_of_its_life(one: VaultSession, vault: Vault, clock: list[float]) -> None:
    assert used(one) == "t1"
    clock[0] += 6.6
    assert used(one) == "t1"
    assert vault.asked == ["log in"]
    clock[0] += 0.1
    assert used(one) == "t1"
    clock[0] += 6
    assert used(one) == "t1"
    assert vault.asked == ["log in", "renew t1"]


def test_one_that_cannot_be_renewed_is_replaced_in_the_last_tenth(
    one: VaultSession, vault: Vault, clock: list[float]
) -> None:
    vault.renewable = False
    used(one)
    clock[0] += 8.9
    assert used(one) == "t1"
    clock[0] += 0.2
    assert used(one) == "t2"
    assert vault.asked == ["log in", "log in"]


@pytest.mark.parametrize("answer", [3, 0, PermissionDenied("no", path="x"), InvalidToken("ended")])
def test_a_renewal_that_gains_nothing_is_not_asked_for_again(
    one: VaultSession, vault: Vault, clock: list[float], answer: object
) -> None:
    vault.renewals = [answer]
    used(one)
    clock[0] += 7
    assert used(one) == "t2"
    clock[0] += 7
    assert used(one) == "t2"
    clock[0] += 2.5
    assert used(one) == "t3"
    assert vault.asked == ["log in", "renew t1", "log in", "log in"]


def test_an_unused_token_ends_and_is_fetched_anew(one: VaultSession, vault: Vault, clock: list[float]) -> None:
    used(one)
    clock[0] += 1000
    assert used(one) == "t2"
    assert vault.asked == ["log in", "log in"]


def test_a_token_without_end_is_used_for_ever(one: VaultSession, vault: Vault, clock: list[float]) -> None:
    vault.lease = 0
    used(one)
    clock[0] += 1e9
    assert used(one) == "t1"
    assert vault.asked == ["log in"]


def test_a_token_goes_on_to_be_used_where_it_cannot_be_replaced(
    one: VaultSession, vault: Vault, clock: list[float]
) -> None:
    used(one)
    vault.down = True
    clock[0] += 9
    assert used(one) == "t1"
    clock[0] += 0.6
    with pytest.raises(VaultUnavailable):
        used(one)
    vault.down = False
    assert used(one) == "t2"


def failing(times: int, error: Callable[[], Exception]) -> tuple[Callable[[str], str], list[str]]:
    tokens: list[str] = []

    def request(token: str) -> str:
        tokens.append(token)
        if len(tokens) <= times:
            raise error()
        return token

    return request, tokens


def test_a_token_that_dies_in_the_middle_is_replaced_once(one: VaultSession) -> None:
    request, tokens = failing(1, lambda: InvalidToken("ended"))
    assert one.call(request) == "t2"
    request, tokens = failing(9, lambda: InvalidToken("ended"))
    with pytest.raises(InvalidToken):
        one.call(request)
    assert tokens == ["t2", "t3"]


def test_a_refusal_of_a_fresh_token_is_believed_and_of_an_aged_one_checked(
    one: VaultSession, clock: list[float]
) -> None:
    request, tokens = failing(9, lambda: PermissionDenied("no", path="x"))
    with pytest.raises(PermissionDenied):
        one.call(request)
    assert tokens == ["t1"]
    clock[0] += session.FRESH
    with pytest.raises(PermissionDenied):
        one.call(request)
    assert tokens == ["t1", "t1", "t2"]


def test_closing_revokes_a_token_that_lives(one: VaultSession, vault: Vault, clock: list[float]) -> None:
    used(one)
    one.close()
    one.close()
    assert vault.asked == ["log in", "revoke t1"]
    with pytest.raises(ManagerClosed):
        used(one)


def test_closing_leaves_a_token_alone_that_has_ended(one: VaultSession, vault: Vault, clock: list[float]) -> None:
    used(one)
    clock[0] += 10
    one.close()
    assert vault.asked == ["log in"]


def test_closing_does_not_fail_where_vault_is_down(
    one: VaultSession, vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    used(one)
    vault.down = True
    one.close()
    assert "was not revoked" in caplog.text
