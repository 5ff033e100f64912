"""Calls with arguments that a method does not have, and of methods of dekeyrej-secretmanager: what is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from secretmanager import AsyncSecretManager, SecretManager
from secretmanager.errors import ConfigError, FormerMethod, WrongArguments

OPTIONS = {"SOURCE": "KUBEVAULT", "vault_url": "https://127.0.0.1:1", "role": "demo"}


def manager(source: str = "KUBEVAULT") -> SecretManager:
    return SecretManager({**OPTIONS, "SOURCE": source})


CALLS: dict[str, tuple[Callable[[], Any], str]] = {
    "missing": (
        lambda: manager().read_secrets("shop"),
        "read_encrypted_secrets: missing 1 required positional argument: 'namespace'; its arguments are secret_name,"
        " namespace, read_type, read_key, transit_key, scope",
    ),
    "unknown": (lambda: manager().read_secrets("shop", "x", nosuch="PLAIN-x"), "unexpected keyword argument 'nosuch'"),
    "too many": (lambda: manager().rotate_vault_key("k", "PLAIN-x"), "rotate_vault_key: takes 2 positional arguments"),
    "of Kubernetes": (lambda: manager("KUBERNETES").read_secrets("shop"), "Request: missing 1 required"),
    "of a file": (lambda: manager("FILE").read_secrets(), "read_file: missing 1 required"),
    "of the environment": (lambda: manager("ENVIRONMENT").read_secrets(x=1), "read_environment: got an unexpected"),
    "the constructor's": (lambda: SecretManager(), "SecretManager: missing 1 required positional argument: 'config'"),
    "asyncio's": (
        lambda: asyncio.run(AsyncSecretManager(OPTIONS).read_encrypted_secrets("x")),
        "read_encrypted_secrets: missing 1 required",
    ),
}


@pytest.mark.parametrize(("call", "said"), CALLS.values(), ids=CALLS)
def test_other_arguments(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(WrongArguments) as caught:
        call()
    assert said in str(caught.value)
    assert "PLAIN-x" not in str(caught.value)
    assert isinstance(caught.value, ConfigError | TypeError)


def test_a_mistake_within_a_method_is_no_wrong_argument() -> None:
    with pytest.raises(ConfigError, match="secret_name: found 3; allowed is a name"):
        manager().read_secrets(3, "x")


@pytest.mark.parametrize("kind", [SecretManager, AsyncSecretManager])
@pytest.mark.parametrize("name", ["execute", "configure_secret_type"])
def test_a_former_method(kind: type, name: str) -> None:
    one = kind(OPTIONS)
    with pytest.raises(FormerMethod, match=f"has no {name}, which is dekeyrej-secretmanager's; use "):
        getattr(one, name)
    assert not hasattr(one, name)
    with pytest.raises(AttributeError, match="has no attribute 'nosuch'"):
        getattr(one, "nosuch")  # noqa: B009 - mypy
