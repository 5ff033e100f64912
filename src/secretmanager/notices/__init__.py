"""Notices of changes: sealing sends them over Redis, a watch receives them from Redis or Kubernetes.

It imports `servers`, `reading` and `sealing`. `manager`, `commands` and the plugins import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .redis import Notice, Notices

__all__ = ["Notice", "Notices", "announcer", "redis", "watch"]


def __getattr__(name: str) -> Any:
    """Import the names that need the package redis only when they are used."""
    if name not in ("Notice", "Notices"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import redis

    return getattr(redis, name)
