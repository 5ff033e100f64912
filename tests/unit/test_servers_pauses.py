"""How long a request pauses before it is sent again."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from secretmanager.servers.http import MAX_PAUSE, _backoff


@pytest.mark.parametrize(("attempt", "longest"), [(0, 0.1), (1, 0.2), (3, 0.8), (20, MAX_PAUSE)])
def test_pauses_grow_with_jitter_up_to_a_bound(attempt: int, longest: float) -> None:
    pauses = {_backoff(attempt, None) for _ in range(50)}
    assert longest / 2 <= min(pauses) < max(pauses) <= longest


@pytest.mark.parametrize(("said", "pause"), [("2", 2), ("0", 0), ("3600", MAX_PAUSE)])
def test_a_server_s_word_is_taken(said: str, pause: float) -> None:
    assert _backoff(0, said) == pause


def test_a_server_s_date_is_taken() -> None:
    assert _backoff(0, formatdate(time.time() + 3600)) == MAX_PAUSE
    assert _backoff(0, formatdate(time.time() - 3600)) == 0


@pytest.mark.parametrize("said", ["soon", "-1", "1.5"])
def test_another_word_is_not(said: str) -> None:
    assert 0 < _backoff(0, said) <= 0.1
