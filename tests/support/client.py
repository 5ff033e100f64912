"""What the client's tests share: their types, a Vault configured for them, and what no text may hold."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from secretmanager import SecretManager
from secretmanager.errors import SecretManagerError
from support.cluster import Cluster
from support.servers import PrivateVault

VALUES = {"a": "PLAIN-a"}
"""What the Secret of the fixture `read` holds."""

Manager = Callable[..., SecretManager]
"""Makes a manager of a configuration that reads, with changes; ``...`` leaves an option out."""

Put = Callable[..., str]
"""Puts a sealed Secret, and returns its name."""

Read = Callable[[SecretManager], dict[str, Any]]
"""Reads with a manager."""

MakeAppRole = Callable[..., tuple[str, str]]
"""Makes an AppRole; returns its role ID and a secret ID."""

Refused = Callable[..., AbstractContextManager[Any]]
"""Expects an error."""

MARK = "PLAIN-"
"""What every plaintext of these tests begins with, so that it is found where it should not be."""

_SECRET = re.compile(rf"{MARK}|hvs\.|hvb\.|eyJhbGciOi|BEGIN [A-Z ]*PRIVATE KEY")


def assert_no_secret(text: str) -> None:
    """Plaintexts, Vault's tokens, JWTs and keys are not in a text."""
    found = _SECRET.search(text)
    assert not found, text[max(0, found.start() - 300) : found.end()]


SELF = {"auth/token/renew-self": ["update"], "auth/token/revoke-self": ["update"]}
"""What the policies of these tests grant a token for itself."""


def configure(vault: PrivateVault, cluster: Cluster) -> None:
    vault.write("sys/mounts/transit", type="transit")
    vault.write("transit/keys/plain")
    vault.write("transit/keys/derived", derived=True)
    vault.policy("reader", {f"transit/decrypt/{key}": ["update"] for key in ("plain", "derived", "nosuch")} | SELF)
    vault.policy("powerless", SELF)
    vault.write("sys/auth/kubernetes", type="kubernetes")
    reviewer = cluster.kubernetes().create_token("kube-system", "vault-auth", None, 7200)
    configuration = cluster.api.api_client.configuration
    vault.write(
        "auth/kubernetes/config",
        kubernetes_host=configuration.host,
        kubernetes_ca_cert=Path(configuration.ssl_ca_cert).read_text(),
        token_reviewer_jwt=reviewer,
        disable_local_ca_jwt=True,
    )
    cluster.account("reader")
    cluster.account("stranger")
    for role, account, policy in (
        ("reader", "reader", "reader"),
        ("powerless", "reader", "powerless"),
        ("default", "default", "reader"),
    ):
        vault.write(
            f"auth/kubernetes/role/{role}",
            bound_service_account_names=[account],
            bound_service_account_namespaces=[cluster.namespace],
            audience="vault",
            token_policies=[policy],
            token_no_default_policy=True,
            token_ttl=10,
            token_max_ttl=60,
        )


@contextmanager
def refused(kind: type[SecretManagerError], match: str | None = None, **attributes: object) -> Iterator[Any]:
    """Expect an error of exactly this class, with these attributes, and no secret in it or in what led to it."""
    with pytest.raises(kind, match=match) as caught:
        yield caught
    error = caught.value
    assert type(error) is kind
    assert {name: getattr(error, name) for name in attributes} == attributes
    while error is not None:
        assert_no_secret(f"{error!r} {error} {vars(error)} {''.join(traceback.format_exception_only(error))}")
        assert_no_secret(getattr(error, "doc", ""))  # a JSONDecodeError holds the whole text
        error = error.__cause__ or error.__context__
