"""Entries of a cache, and that removed plaintext is overwritten."""

from __future__ import annotations

import pytest

from secretmanager.reading import cache
from secretmanager.reading.cache import Cache


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(cache.time, "monotonic", lambda: now[0])
    return now


def wipe(value: bytearray) -> None:
    value[:] = bytes(len(value))


def test_a_value_serves_for_its_time_and_then_while_it_is_stale(clock: list[float]) -> None:
    kept: Cache[str, bytearray] = Cache(10, 5, stale=20, wipe=wipe)
    value = bytearray(b"PLAIN")
    kept.put("a", value)
    clock[0] += 9
    assert kept.get("a") == b"PLAIN"
    clock[0] += 1
    assert (kept.get("a"), kept.stale("a")) == (None, b"PLAIN")
    clock[0] += 20
    assert kept.stale("a") is None
    assert value == bytes(5)


def test_what_is_too_old_goes_with_any_look(clock: list[float]) -> None:
    kept: Cache[str, bytearray] = Cache(10, 5, wipe=wipe)
    value = bytearray(b"PLAIN")
    kept.put("a", value)
    clock[0] += 10
    assert kept.get("b") is None
    assert value == bytes(5)


def test_the_least_used_goes_first() -> None:
    kept: Cache[str, bytearray] = Cache(10, 2, wipe=wipe)
    values = {name: bytearray(b"PLAIN") for name in "abc"}
    kept.put("a", values["a"])
    kept.put("b", values["b"])
    kept.get("a")
    kept.put("c", values["c"])
    assert kept.get("b") is None
    assert values == {"a": b"PLAIN", "b": bytes(5), "c": b"PLAIN"}


def test_what_is_replaced_or_forgotten_is_overwritten() -> None:
    kept: Cache[str, bytearray] = Cache(10, 5, wipe=wipe)
    old, new, other = (bytearray(b"PLAIN") for _ in range(3))
    kept.put("a", old)
    kept.put("a", new)
    kept.put("b", other)
    assert (old, new) == (bytes(5), b"PLAIN")
    kept.forget(lambda key: key == "a")
    assert (new, other) == (bytes(5), b"PLAIN")
    kept.forget()
    assert other == bytes(5)


def test_what_is_kept_and_what_is_in_use_have_ends_of_their_own() -> None:
    kept: Cache[str, bytearray] = Cache(10, 5, copy=bytearray, wipe=wipe)
    given = bytearray(b"PLAIN")
    kept.put("a", given)
    wipe(given)
    copy = kept.get("a")
    kept.forget()
    assert copy == b"PLAIN"


def test_without_a_time_nothing_is_kept() -> None:
    kept: Cache[str, bytearray] = Cache(0, 5)
    kept.put("a", bytearray(b"PLAIN"))
    assert (kept.get("a"), kept.stale("a")) == (None, None)
