"""Calls with other arguments than a method has, and calls of the published client: each is told."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest

from secretmanager import AsyncSecretManager, ConfigError, Request, SecretManager
from secretmanager.errors import FormerMethod, WrongArguments, check_arguments, frameless

VAULT = {"SOURCE": "KUBEVAULT", "vault_url": "https://vault.example.org:8200", "role": "demo"}
NAMES = "secret_name, namespace, read_type, read_key, transit_key, scope"

CALLS: list[tuple[str, Callable[[Any], object], str]] = [
    (
        "KUBEVAULT",
        lambda sm: sm.read_secrets(),
        f"read_secrets(): secret_name, namespace: are missing; allowed are {NAMES}",
    ),
    ("KUBEVAULT", lambda sm: sm.read_secrets("a"), f"read_secrets(): namespace: is missing; allowed are {NAMES}"),
    ("KUBEVAULT", lambda sm: sm.read_secrets("a", "b", key="c"), f"read_secrets(): key: unknown; allowed are {NAMES}"),
    ("KUBEVAULT", lambda sm: sm.read_secrets("a", "b", namespace="c"), "read_secrets(): namespace: is given twice;"),
    (
        "KUBEVAULT",
        lambda sm: sm.read_secrets(*"abcdefg"),
        "read_secrets(): found 7 arguments without a name, at most 6 have a place;",
    ),
    (
        "KUBERNETES",
        lambda sm: sm.read_secrets(name="a"),
        "read_secrets(): name: unknown; secret_name, namespace: are missing",
    ),
    ("FILE", lambda sm: sm.read_secrets(), "read_secrets(): file_name: is missing; allowed are file_name, file_type"),
    ("FILE", lambda sm: sm.read_secrets("a", "b", "c"), "read_secrets(): found 3 arguments without a name, at most 2"),
    ("FILE", lambda sm: sm.read_many([{"file": "a"}]), "read_secrets(): file: unknown; file_name: is missing"),
    ("FILE", lambda sm: sm.read_many(["a"]), "found a request of type str; allowed is a mapping"),
    (
        "ENVIRONMENT",
        lambda sm: sm.read_secrets(env_def={}),
        "read_secrets(): env_def: unknown; env_def_file: is missing; allowed are env_def_file, env_file",
    ),
    ("KUBEVAULT", lambda sm: sm.read_encrypted_secrets("a"), "read_encrypted_secrets(): namespace: is missing"),
    ("KUBEVAULT", lambda sm: sm.read_many(), "read_many(): requests: is missing; allowed are requests"),
    ("KUBEVAULT", lambda sm: sm.read_many({"secret_name": "a"}), "requests: found dict; allowed is a list of Requests"),
    ("KUBEVAULT", lambda sm: sm.read_many(None), "requests: found NoneType; allowed is a list of Requests"),
    ("KUBEVAULT", lambda sm: sm.read_many([{1: "a", "x": 2}]), "1, x: unknown; allowed are secret_name"),
    ("KUBEVAULT", lambda sm: sm.watch("a", "b", on_chang=print), "watch(): on_chang: unknown; allowed are secret_name"),
    ("KUBEVAULT", lambda sm: sm.rotate_vault_key(), "rotate_vault_key(): transit_key: is missing"),
    ("KUBEVAULT", lambda sm: sm.close(True), "close(): found 1 arguments without a name, at most 0 have a place"),
    ("KUBEVAULT", lambda sm: sm.load_json_secrets(), "load_json_secrets(): text: is missing; allowed are text, place"),
]


@pytest.mark.parametrize(("source", "call", "said"), CALLS)
@pytest.mark.parametrize("kind", [SecretManager, AsyncSecretManager])
def test_a_call_with_other_arguments_says_what_is_allowed(
    kind: Any, source: str, call: Callable[[Any], Any], said: str
) -> None:
    manager = kind({**VAULT, "SOURCE": source})

    async def awaited() -> None:
        await call(manager)

    with pytest.raises(ConfigError) as caught:
        asyncio.run(awaited()) if kind is AsyncSecretManager else call(manager)
    assert str(caught.value).startswith(said)
    assert isinstance(caught.value, WrongArguments) is ("(): " in said)


@pytest.mark.parametrize("kind", [SecretManager, AsyncSecretManager])
def test_a_manager_without_options_says_how_it_is_made(kind: Any) -> None:
    with pytest.raises(ConfigError, match="config: found nothing; allowed is a mapping of options, as SecretManager"):
        kind()
    with pytest.raises(ConfigError, match=r"Manager\(\): configuration: unknown; allowed are config, log_level"):
        kind(configuration={})
    with pytest.raises(ConfigError, match=r"from_files\(\): config_file: is missing"):
        kind.from_files()
    with pytest.raises(ConfigError, match="1, x: there is no such option"):
        kind({"SOURCE": "FILE", 1: 2, "x": 3})


def test_a_request_says_what_it_takes() -> None:
    with pytest.raises(ConfigError, match="name: unknown; allowed are secret_name"):
        SecretManager(VAULT).read_many([{"name": "a"}])
    assert Request("a", "b").read_key is None


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("execute", ("KUBEVAULT", "READ", None, {}), r"use read_secrets\(\*\*secretdef\) for \"READ\", close\(\) for"),
        ("configure_secret_type", ({"SOURCE": "FILE"},), r"use SecretManager\(config\), a new manager"),
        ("encrypt_data_with_vault", ("key", "text"), "use kubevault_secret or `kubevault seal`"),
        ("read_secrets_from_env", ({},), r"use read_secrets\(env_def_file, env_file, definition_type\)"),
    ],
)
@pytest.mark.parametrize("kind", [SecretManager, AsyncSecretManager])
def test_a_call_of_the_published_client_names_today_s(
    kind: Any, name: str, arguments: tuple[Any, ...], said: str
) -> None:
    manager = kind({"SOURCE": "FILE"})
    assert not hasattr(manager, name)
    with pytest.raises(FormerMethod, match=said) as caught:
        getattr(manager, name)(*arguments)
    assert "Coming from dekeyrej-secretmanager" in str(caught.value)


@pytest.mark.parametrize("kind", [SecretManager, AsyncSecretManager])
def test_another_attribute_that_there_is_not_is_as_of_any_class(kind: Any) -> None:
    with pytest.raises(AttributeError, match=f"^'{kind.__name__}' object has no attribute 'nosuch'$"):
        kind({"SOURCE": "FILE"}).nosuch  # noqa: B018
    with pytest.raises(AttributeError):
        copy.copy(kind.__new__(kind)).config  # noqa: B018


def test_a_type_error_of_the_method_itself_stays_one() -> None:
    @frameless
    class Adds:
        def add(self, one: int) -> int:
            return one + "2"  # type: ignore[operator]

        def any(self, *items: int, **named: int) -> int:
            return len(items) + len(named)

    with pytest.raises(TypeError, match="unsupported operand"):
        Adds().add(1)
    assert Adds().any(1, 2, a=3) == 3
    check_arguments(Adds.any, 5, ["x"])
