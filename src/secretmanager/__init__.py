"""Reads secrets that Vault sealed and Kubernetes keeps, with nothing but a service account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import errors
from .errors import *  # noqa: F403 - the names are listed once, in errors.__all__

if TYPE_CHECKING:
    from .aio import AsyncSecretManager
    from .manager import SecretManager
    from .reading.requests import Request

__all__ = ["AsyncSecretManager", "Request", "SecretManager"]
__all__ += errors.__all__

_LAZY = {"AsyncSecretManager": ".aio", "Request": ".reading.requests", "SecretManager": ".manager"}


def __getattr__(name: str) -> Any:
    """Import what is asked for, and no more: a service that reads needs no asyncio, a sealer no client."""
    if name == "__version__":
        from importlib.metadata import version

        return version("kubevault")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name], __name__), name)


def __dir__() -> list[str]:
    """Return the public names, those that are imported when they are used as well."""
    return sorted([*__all__, "__version__"])
