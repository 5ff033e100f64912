"""The life cycle of the client's Vault token: one log-in at a time, renewal, replacement, revocation."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.client import SELF, Manager, Put
from support.cluster import Cluster
from support.servers import PrivateVault, wait_until

from secretmanager.errors import PermissionDenied

LOGIN, RENEW, REVOKE = "auth/kubernetes/login", "auth/token/renew-self", "auth/token/revoke-self"


@pytest.fixture
def role(vault: PrivateVault, cluster: Cluster) -> Callable[..., str]:
    """Creates a role in Vault whose tokens have other lifetimes."""

    def make(name: str, **changes: Any) -> str:
        body = {
            "bound_service_account_names": ["reader"],
            "bound_service_account_namespaces": [cluster.namespace],
            "audience": "vault",
            "token_policies": ["reader"],
            "token_no_default_policy": True,
        }
        vault.write(f"auth/kubernetes/role/{name}", **{**body, **changes})
        return name

    return make


@pytest.fixture
def read(manager: Manager, put: Put, cluster: Cluster) -> Callable[..., Callable[[], None]]:
    """Returns a function that reads one Secret with one manager."""
    name = put({"a": "PLAIN-a"})

    def reader(**changes: Any) -> Callable[[], None]:
        one = manager(**changes)

        def read() -> None:
            assert one.read_secrets(name, cluster.namespace, transit_key="plain") == {"a": "PLAIN-a"}

        return read

    return reader


def revoke_all(vault: PrivateVault) -> None:
    """Revoke all tokens of the Kubernetes auth method, with the same effect as their expiry."""
    vault.write("sys/leases/revoke-prefix/auth/kubernetes/login", sync=True)


def test_many_threads_that_begin_at_once_log_in_once(read: Callable[..., Any], vault: PrivateVault) -> None:
    one, before = read(), vault.requests(LOGIN)
    together = threading.Barrier(64)

    def begin() -> None:
        together.wait()
        one()

    with ThreadPoolExecutor(64) as threads:
        for done in [threads.submit(begin) for _ in range(64)]:
            done.result()
    assert vault.requests(LOGIN) == before + 1


def test_a_token_is_renewed_up_to_its_maximum_and_then_fetched_again(
    read: Callable[..., Any], vault: PrivateVault, role: Callable[..., str]
) -> None:
    one = read(role=role("renewable", token_ttl=2, token_max_ttl=5))
    logins, renewals = vault.requests(LOGIN), vault.requests(RENEW)

    def renewed() -> bool:
        one()
        return vault.requests(RENEW) > renewals

    wait_until("a renewal", renewed)

    def logged_in_again() -> bool:
        one()
        return vault.requests(LOGIN) > logins + 1

    wait_until("another log-in", logged_in_again)


def test_that_renewals_gain_nothing_is_learnt(
    read: Callable[..., Any], vault: PrivateVault, role: Callable[..., str]
) -> None:
    one = read(role=role("unrenewable", token_ttl=2, token_max_ttl=2))
    logins, renewals = vault.requests(LOGIN), vault.requests(RENEW)

    def three_tokens() -> bool:
        one()
        return vault.requests(LOGIN) >= logins + 3

    wait_until("three tokens", three_tokens)
    assert vault.requests(RENEW) <= renewals + 1


def test_a_batch_token_is_neither_renewed_nor_revoked(
    manager: Manager, put: Put, cluster: Cluster, vault: PrivateVault, role: Callable[..., str]
) -> None:
    one = manager(role=role("batch", token_type="batch", token_ttl=2, token_max_ttl=2))
    name, logins = put({"a": "PLAIN-a"}), vault.requests(LOGIN)
    others = vault.requests(RENEW), vault.requests(REVOKE)

    def two_tokens() -> bool:
        assert one.read_secrets(name, cluster.namespace, transit_key="plain") == {"a": "PLAIN-a"}
        return vault.requests(LOGIN) >= logins + 2

    wait_until("two tokens", two_tokens)
    one.close()
    assert (vault.requests(RENEW), vault.requests(REVOKE)) == others


def test_threads_see_nothing_of_tokens_that_end(
    read: Callable[..., Any], vault: PrivateVault, role: Callable[..., str]
) -> None:
    one, before = read(role=role("ending", token_ttl=3, token_max_ttl=3)), vault.requests(LOGIN)
    enough, began = threading.Event(), time.monotonic()

    def go_on() -> int:
        count = 0
        while not enough.wait(0.05):
            one()
            count += 1
        return count

    with ThreadPoolExecutor(8) as threads:
        results = [threads.submit(go_on) for _ in range(8)]
        try:
            wait_until("three tokens", lambda: vault.requests(LOGIN) >= before + 3)
        finally:
            enough.set()
        reads = sum(result.result() for result in results)
    # One log-in for each token, however many threads use it: it is replaced in the last third of its life.
    assert vault.requests(LOGIN) - before <= 1 + (time.monotonic() - began) / 2
    assert reads > 10


def test_a_token_that_was_revoked_is_fetched_again(read: Callable[..., Any], vault: PrivateVault) -> None:
    one = read()
    one()
    before = vault.requests(LOGIN)
    revoke_all(vault)
    one()
    assert vault.requests(LOGIN) == before + 1


def test_a_token_that_lacks_a_new_right_is_fetched_again(
    read: Callable[..., Any], vault: PrivateVault, role: Callable[..., str]
) -> None:
    vault.policy("nothing-yet", SELF)
    one = read(role=role("promoted", token_policies=["nothing-yet"], token_ttl=600))
    with pytest.raises(PermissionDenied):
        one()
    before = vault.requests(LOGIN)
    role("promoted", token_policies=["reader"], token_ttl=600)

    def reads() -> bool:
        try:
            one()
        except PermissionDenied:
            return False  # the token is new, so the refusal is final
        return True

    wait_until("the new right", reads)
    assert vault.requests(LOGIN) == before + 1


def test_closing_revokes_the_token(manager: Manager, put: Put, cluster: Cluster, vault: PrivateVault) -> None:
    before, held = vault.requests(REVOKE), accessors(vault)
    with manager() as one:
        one.read_secrets(put({"a": "PLAIN-a"}), cluster.namespace, transit_key="plain")
        assert len(accessors(vault) - held) == 1
    wait_until("the token's end", lambda: not accessors(vault) - held)
    assert vault.requests(REVOKE) == before + 1


def accessors(vault: PrivateVault) -> set[str]:
    return set(vault.root.request("LIST", "auth/token/accessors").json()["data"]["keys"])


@pytest.mark.parametrize("skew", [-3600, 3600])
def test_a_clock_that_is_wrong(
    read: Callable[..., Any], vault: PrivateVault, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    one, right, before = read(), time.time, vault.requests(LOGIN)
    monkeypatch.setattr(time, "time", lambda: right() + skew)
    one()
    monkeypatch.setattr(time, "time", right)
    one()
    assert vault.requests(LOGIN) == before + 1


def test_a_service_account_that_was_made_anew_logs_in(
    read: Callable[..., Any], vault: PrivateVault, cluster: Cluster, role: Callable[..., str]
) -> None:
    cluster.account("renewed")
    one = read(role=role("anew", bound_service_account_names=["renewed"]), service_account="renewed")
    one()
    cluster.api.delete_namespaced_service_account("renewed", cluster.namespace)
    cluster.account("renewed")
    revoke_all(vault)
    one()


def test_a_forked_process_makes_connections_of_its_own(read: Callable[..., Any], vault: PrivateVault) -> None:
    one = read()
    one()
    child = os.fork()
    if child == 0:
        try:
            one()
            os._exit(0)
        finally:
            os._exit(1)
    for _ in range(20):
        one()
    assert os.waitpid(child, 0)[1] == 0
