"""Fixtures of this scenario's tests."""

from support.scenario import lab

__all__ = ["lab"]
