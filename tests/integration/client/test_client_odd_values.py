"""Odd characters and wrong types in every option and argument: errors of the package alone, and no secret in them."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
from support.client import MARK, Manager, Read, assert_no_secret
from support.cluster import Cluster

from secretmanager import AsyncSecretManager, ConfigError, SecretManager
from secretmanager.config import Config
from secretmanager.errors import SecretManagerError

TEXTS = [
    *("@\n", "@\r\nX: y", "@ @", "@é", "@\0", "@\N{ZERO WIDTH SPACE}", "\ud800", "../@", "?a=@#", "%zz@", "/", " "),
    *("~nosuchuser/x", "x" * 7000, "https://[::1", "https://..invalid", "rediss://u:@@..invalid/é"),
    f"rediss://u:@@{'a' * 70}.invalid/0",
]
"""With "@" for what may be a secret."""
WRONG = [None, 7, 10**30, float("nan"), True, b"odd", ["odd"], {"odd": 7}]
SECRETS = ("vault_token", "secret_id", "redis_url")
METHODS = {"auth": "approle", "vault_token": "token", "vault_token_file": "token"} | dict.fromkeys(
    ("role_id", "role_id_file", "secret_id", "secret_id_file"), "approle"
)
"""Auth methods that use an option; for others it is kubernetes."""


def outcome(call: Callable[[], Any]) -> str:
    """Return everything that an error shows; another error than those of the package fails the test."""
    try:
        call()
    except SecretManagerError as caught:
        error: BaseException | None = caught
    else:
        return ""
    shown = []
    while error is not None:
        shown += [repr(vars(error)), *traceback.format_exception_only(error)]
        error = error.__cause__ or error.__context__
    return "".join(shown)


@pytest.mark.parametrize("option", [item.name for item in fields(Config) if item.name != "source"])
def test_an_option(manager: Manager, read: Read, cluster: Cluster, option: str) -> None:
    auth = METHODS.get(option, "kubernetes")
    more = {"auth": auth, "role_id": "x", "secret_id": "y"} if auth == "approle" else {"auth": auth}

    def use(value: Any) -> None:
        one = manager(**{**more, "retries": 0, "timeout": 5, option: value})
        if option.startswith("redis"):
            given = {"redis_url": "rediss://u:p@127.0.0.1:1/0", option: value}
            manager(**given).watch("nosuch", cluster.namespace).close()
        read(one)

    secret = MARK if option in SECRETS else "odd"
    for value in [*(text.replace("@", secret, 1) for text in TEXTS), *WRONG]:
        assert_no_secret(outcome(lambda value=value: use(value)))


CALLS: list[Callable[[SecretManager, Any], Any]] = [
    lambda one, odd: one.read_secrets(odd, "default"),
    lambda one, odd: one.read_secrets("x", odd),
    lambda one, odd: one.read_secrets("x", "default", odd),
    lambda one, odd: one.read_secrets("x", "default", "SECRET", odd),
    lambda one, odd: one.read_encrypted_secrets("x", "default", transit_key=odd),
    lambda one, odd: one.read_many(odd),
    lambda one, odd: one.read_many([odd]),
    lambda one, odd: one.decrypt_data_with_vault(odd, "vault:v1:AAAA"),
    lambda one, odd: one.decrypt_data_with_vault("plain", odd),
    lambda one, odd: one.decrypt_data_with_vault("derived", "vault:v1:AAAA", odd),
    lambda one, odd: one.get_k8s_service_account_token(odd),
    lambda one, odd: one.get_k8s_service_account_token(None, odd),
    lambda one, odd: one.connect_to_k8s(odd),
    lambda one, odd: one.connect_to_vault(vault_url=odd),
    lambda one, odd: one.connect_to_vault(ca_path=odd),
    lambda one, odd: one.watch(odd, "default").close(),
    lambda one, odd: SecretManager(odd),
    lambda one, odd: SecretManager({"SOURCE": odd}),
    lambda one, odd: SecretManager({"SOURCE": "FILE"}, odd),
    lambda one, odd: SecretManager({"SOURCE": "FILE"}).read_secrets(odd),
    lambda one, odd: SecretManager({"SOURCE": "ENVIRONMENT"}).read_secrets({"a": odd}),
    lambda one, odd: AsyncSecretManager({"SOURCE": odd}),
]


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_an_argument(manager: Manager, number: int) -> None:
    one = manager(retries=0, timeout=5)
    for value in [*TEXTS, *WRONG]:
        outcome(lambda value=value: CALLS[number](one, value))
    one.close()


@pytest.mark.parametrize("text", TEXTS)
def test_a_token_that_is_handed_over(manager: Manager, text: str) -> None:
    def use() -> None:
        one = manager(retries=0, timeout=5)
        one.connect_to_vault(k8s_token=text.replace("@", MARK, 1))
        one.decrypt_data_with_vault("plain", "vault:v1:AAAA")

    assert_no_secret(outcome(use))


def test_other_arguments_than_a_method_has(manager: Manager) -> None:
    with pytest.raises(
        ConfigError, match=r"read_k8s_secret\(\): namespace: is missing; allowed are secret_name, names"
    ):
        manager().read_k8s_secret("x")
