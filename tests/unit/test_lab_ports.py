"""The ports that the lab and the tests choose."""

from __future__ import annotations

import pytest

from kubevault_lab import ports


def test_no_port_is_returned_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "CANDIDATES", range(20000, 20100))
    monkeypatch.setattr(ports, "is_free", lambda port: True)
    monkeypatch.setattr(ports, "_returned", set())
    assert len({ports.free_port(taken=[20007]) for _ in range(99)} - {20007}) == 99
