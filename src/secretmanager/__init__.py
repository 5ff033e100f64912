"""Reads secrets that Vault sealed and Kubernetes keeps, by nothing but a service account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .aio import AsyncSecretManager as AsyncSecretManager
    from .errors import SecretManagerError as SecretManagerError
    from .manager import SecretManager as SecretManager
    from .reading import Request as Request

_HOMES = {
    "AsyncSecretManager": "aio",
    "Request": "reading",
    "SecretManager": "manager",
    "SecretManagerError": "errors",
}

__all__ = ["AsyncSecretManager", "Request", "SecretManager", "SecretManagerError"]


def __getattr__(name: str) -> Any:
    """Import what is asked for, and no more: a service that reads needs no asyncio, a sealer no client."""
    if name == "__version__":
        from importlib.metadata import version

        return version("kubevault")
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    if name == "errors":
        return import_module(".errors", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
