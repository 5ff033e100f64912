"""The client's caches: ciphertext, plaintext, their expiry, and reads while a server is unreachable."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from support.client import Manager, Put, Refused
from support.cluster import Cluster
from support.servers import PrivateVault, wait_until

from secretmanager.errors import DecryptionFailed, VaultSealed

DECRYPT = "transit/decrypt/plain"
LONG = 600


def test_nothing_is_kept_unless_asked(manager: Manager, put: Put, cluster: Cluster) -> None:
    name, one = put({"a": "PLAIN-1"}), manager()
    assert one.read_secrets(name, cluster.namespace, transit_key="plain") == {"a": "PLAIN-1"}
    put({"a": "PLAIN-2"}, name=name)
    assert one.read_secrets(name, cluster.namespace, transit_key="plain") == {"a": "PLAIN-2"}


def test_kept_plaintext_takes_no_request(manager: Manager, put: Put, cluster: Cluster, vault: PrivateVault) -> None:
    name, one = put({"a": '{"list": ["PLAIN-1"]}'}), manager(cache_plaintext_ttl=LONG, retries=0)
    first = one.read_secrets(name, cluster.namespace, "SECRET", "a", "plain")
    first["list"].append("changed by the caller")
    cluster.api.delete_namespaced_secret(name, cluster.namespace)
    vault.kill()
    try:
        assert one.read_secrets(name, cluster.namespace, "SECRET", "a", "plain") == {"list": ["PLAIN-1"]}
    finally:
        vault.start()


def test_kept_ciphertext_is_decrypted_each_time(
    manager: Manager, put: Put, cluster: Cluster, vault: PrivateVault
) -> None:
    name, one = put({"a": "PLAIN-1"}), manager(cache_ciphertext_ttl=LONG)
    one.read_secrets(name, cluster.namespace, transit_key="plain")
    put({"a": "PLAIN-2"}, name=name)
    before = vault.requests(DECRYPT)
    assert one.read_secrets(name, cluster.namespace, transit_key="plain") == {"a": "PLAIN-1"}
    assert vault.requests(DECRYPT) == before + 1
    one.clear_cache()
    assert one.read_secrets(name, cluster.namespace, transit_key="plain") == {"a": "PLAIN-2"}


def test_kept_ciphertext_that_does_not_open_any_more_is_fetched_again(
    manager: Manager, put: Put, cluster: Cluster, vault: PrivateVault, refused: Refused
) -> None:
    vault.write("transit/keys/turning")
    name, one = put({"a": "PLAIN-1"}, key="turning"), manager(cache_ciphertext_ttl=LONG)
    one.read_secrets(name, cluster.namespace, transit_key="turning")
    vault.write("transit/keys/turning/rotate")
    vault.write("transit/keys/turning/config", min_decryption_version=2)
    with refused(DecryptionFailed, reason="version"):
        one.read_secrets(name, cluster.namespace, transit_key="turning")
    put({"a": "PLAIN-1"}, key="turning", name=name)
    assert one.read_secrets(name, cluster.namespace, transit_key="turning") == {"a": "PLAIN-1"}


def test_stale_plaintext_serves_while_vault_is_down_up_to_its_limit(
    manager: Manager,
    put: Put,
    cluster: Cluster,
    vault: PrivateVault,
    refused: Refused,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = put({"a": "PLAIN-1"})
    given: dict[str, Any] = {"retries": 0, "cache_plaintext_ttl": 0.001}
    stale, limited = manager(**given, cache_stale_if_error=LONG), manager(**given, cache_stale_if_error=0.001)
    for one in (stale, limited):
        assert one.read_secrets(name, cluster.namespace, transit_key="plain") == {"a": "PLAIN-1"}
    vault.seal()
    try:
        caplog.clear()
        assert stale.read_secrets(name, cluster.namespace, transit_key="plain") == {"a": "PLAIN-1"}
        warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert [f"{cluster.namespace}/{name}: using what was read before" in text for text in warnings] == [True]
        with refused(VaultSealed):
            limited.read_secrets(name, cluster.namespace, transit_key="plain")
    finally:
        vault.unseal()
    put({"a": "PLAIN-2"}, name=name)
    assert stale.read_secrets(name, cluster.namespace, transit_key="plain") == {"a": "PLAIN-2"}


def test_no_more_than_its_bound_is_kept(manager: Manager, put: Put, cluster: Cluster, vault: PrivateVault) -> None:
    names = [put({"a": f"PLAIN-{n}"}) for n in range(3)]
    one = manager(cache_plaintext_ttl=LONG, cache_max_entries=2)
    for name in names:
        one.read_secrets(name, cluster.namespace, transit_key="plain")
    before = vault.requests(DECRYPT)
    one.read_secrets(names[2], cluster.namespace, transit_key="plain")
    assert vault.requests(DECRYPT) == before
    one.read_secrets(names[0], cluster.namespace, transit_key="plain")
    assert vault.requests(DECRYPT) == before + 1


def test_what_is_kept_ends(manager: Manager, put: Put, cluster: Cluster) -> None:
    name, one = put({"a": "PLAIN-1"}), manager(cache_plaintext_ttl=0.2)
    one.read_secrets(name, cluster.namespace, transit_key="plain")
    put({"a": "PLAIN-2"}, name=name)
    wait_until(
        "the new value",
        lambda: one.read_secrets(name, cluster.namespace, transit_key="plain") == {"a": "PLAIN-2"},
    )
