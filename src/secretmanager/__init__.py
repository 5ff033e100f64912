"""Reads secrets that Vault sealed and Kubernetes keeps, by nothing but a service account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .aio import AsyncSecretManager
    from .errors import (
        ConfigError,
        ConflictError,
        DecryptionFailed,
        Forbidden,
        InvalidToken,
        KubernetesError,
        KubernetesUnavailable,
        LoginDenied,
        ManagerClosed,
        NoticeError,
        PermissionDenied,
        SealedDataError,
        SecretDataError,
        SecretFileError,
        SecretFormatError,
        SecretKeyNotFound,
        SecretManagerError,
        SecretNotFound,
        TLSError,
        TransitKeyNotFound,
        VaultError,
        VaultSealed,
        VaultUnavailable,
        WrongTransitKey,
    )
    from .manager import SecretManager
    from .reading.requests import Request

__all__ = [
    "AsyncSecretManager",
    "ConfigError",
    "ConflictError",
    "DecryptionFailed",
    "Forbidden",
    "InvalidToken",
    "KubernetesError",
    "KubernetesUnavailable",
    "LoginDenied",
    "ManagerClosed",
    "NoticeError",
    "PermissionDenied",
    "Request",
    "SealedDataError",
    "SecretDataError",
    "SecretFileError",
    "SecretFormatError",
    "SecretKeyNotFound",
    "SecretManager",
    "SecretManagerError",
    "SecretNotFound",
    "TLSError",
    "TransitKeyNotFound",
    "VaultError",
    "VaultSealed",
    "VaultUnavailable",
    "WrongTransitKey",
]

_HOMES = {"AsyncSecretManager": "aio", "Request": "reading.requests", "SecretManager": "manager"}


def __getattr__(name: str) -> Any:
    """Import what is asked for, and no more: a service that reads needs no asyncio, a sealer no client."""
    if name == "__version__":
        from importlib.metadata import version

        return version("kubevault")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES.get(name, 'errors')}", __name__), name)
