"""Shared by the tests of the client: types of fixtures, a configured Vault, and checks that no secret is shown."""

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
"""Values of the Secret that the fixture `read` reads."""

Manager = Callable[..., SecretManager]
"""Creates a manager with a configuration that works, and with changes; ``...`` removes an option."""

Put = Callable[..., str]
"""Stores a sealed Secret and returns its name."""

Read = Callable[[SecretManager], dict[str, Any]]
"""Reads a Secret with a manager."""

MakeAppRole = Callable[..., tuple[str, str]]
"""Creates an AppRole; returns its role ID and a secret ID."""

Refused = Callable[..., AbstractContextManager[Any]]
"""Context manager that expects an error."""

MARK = "PLAIN-"
"""Prefix of every plaintext in these tests, by which it is found where it must not be."""

_SECRET = re.compile(rf"{MARK}|hvs\.|hvb\.|eyJhbGciOi|BEGIN [A-Z ]*PRIVATE KEY")


def assert_no_secret(text: str) -> None:
    """Check that a text contains no plaintext, Vault token, JWT or private key."""
    found = _SECRET.search(text)
    assert not found, text[max(0, found.start() - 300) : found.end()]


RIGHTS = [
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch", "create"]},
    {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]},
]
"""Rules of a user of Kubernetes who may read, and seal, and ask for tokens."""

SELF = {"auth/token/renew-self": ["update"], "auth/token/revoke-self": ["update"]}
"""Capabilities that a token needs to renew and revoke itself."""


TOKEN_LIFE = 600
"""Seconds for which tokens are valid, so that on a slow machine, too, a test logs in no more often than it says."""


def configure(vault: PrivateVault, cluster: Cluster) -> None:
    """Create keys, policies and roles in a new Vault server, which trusts the cluster's service accounts."""
    vault.write("sys/mounts/transit", type="transit")
    vault.write("transit/keys/plain")
    vault.write("transit/keys/derived", derived=True)
    keys = ("plain", "derived", "lost", "nosuch", "other", "rotated", "turning")
    vault.policy("reader", {f"transit/decrypt/{key}": ["update"] for key in keys} | SELF)
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
            token_ttl=TOKEN_LIFE,
        )


@contextmanager
def refused(kind: type[SecretManagerError], match: str | None = None, **attributes: object) -> Iterator[Any]:
    """Expect an error of exactly this class with these attributes, and no secret in it or in its causes."""
    with pytest.raises(kind, match=match) as caught:
        yield caught
    error = caught.value
    assert type(error) is kind
    assert {name: getattr(error, name) for name in attributes} == attributes
    while error is not None:
        assert_no_secret(f"{error!r} {error} {vars(error)} {''.join(traceback.format_exception_only(error))}")
        assert_no_secret(getattr(error, "doc", ""))  # a JSONDecodeError contains the whole text
        error = error.__cause__ or error.__context__
