"""Errors of servers that are sealed, killed, overloaded, unreachable or not trusted."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.client import VALUES, Manager, Put, Read, Refused
from support.cluster import Cluster
from support.intermediary import Intermediary
from support.servers import PATIENCE, Authority, PrivateVault, Proxy, wait_until

from secretmanager.errors import (
    ConfigError,
    DecryptionFailed,
    LoginDenied,
    SecretManagerError,
    TLSError,
    VaultSealed,
    VaultUnavailable,
)


@pytest.fixture
def proxy(vault: PrivateVault) -> Iterator[Proxy]:
    proxy = Proxy(vault.port)
    yield proxy
    proxy.close()


def test_a_sealed_vault(manager: Manager, read: Read, refused: Refused, vault: PrivateVault) -> None:
    one = manager(retries=1)
    assert read(one) == VALUES
    vault.seal()
    try:
        with refused(VaultSealed, "unseal Vault", place=vault.url, status=503):
            read(one)
        with refused(VaultSealed, "unseal Vault", place=vault.url, status=503):
            read(manager(retries=1))
    finally:
        vault.unseal()
    assert read(one) == VALUES


def test_a_vault_that_is_unsealed_meanwhile(manager: Manager, read: Read, vault: PrivateVault) -> None:
    one = manager(retries=20)
    assert read(one) == VALUES
    vault.seal()
    asked = vault.root.request("GET", "sys/seal-status").json()
    assert asked["sealed"]
    unsealing = threading.Timer(0.3, vault.unseal)
    unsealing.start()
    try:
        assert read(one) == VALUES
    finally:
        unsealing.join()


def test_a_vault_that_was_killed_and_started_again(
    manager: Manager, read: Read, refused: Refused, vault: PrivateVault
) -> None:
    one = manager(retries=1)
    assert read(one) == VALUES
    vault.kill()
    try:
        with refused(VaultUnavailable, "check the address", place=vault.url, status=None):
            read(one)
    finally:
        vault.start()
    assert read(one) == VALUES


@pytest.mark.parametrize("busy", [False, True])
def test_closing_does_not_wait_for_a_vault_that_hangs(
    manager: Manager, read: Read, vault: PrivateVault, caplog: pytest.LogCaptureFixture, busy: bool
) -> None:
    """Nor for another thread, which has the only connection: a service that is to end has little time."""
    one = manager(timeout=600, connections=1)
    assert read(one) == VALUES

    def read_on() -> None:
        with suppress(SecretManagerError):
            read(one)

    reading, closing = threading.Thread(target=read_on), threading.Thread(target=one.close)
    with vault.program.stopped():
        if busy:
            reading.start()
            wait_until("a request", lambda: not one._connected()[0]._api._slots._value)
        closing.start()
        closing.join(PATIENCE)
        ended = not closing.is_alive()
    closing.join()
    if busy:
        reading.join()
    assert ended
    assert "the Vault token was not revoked; it expires by itself" in caplog.text


def test_idle_connections_that_were_cut(manager: Manager, read: Read, proxy: Proxy) -> None:
    one = manager(vault_url=f"https://127.0.0.1:{proxy.port}", retries=0)
    assert read(one) == VALUES
    made = proxy.connections
    assert read(one) == VALUES
    assert proxy.connections == made
    proxy.cut_all()
    assert read(one) == VALUES
    assert proxy.connections == made + 1


def test_a_connection_that_is_lost_in_the_middle_of_a_request(
    manager: Manager, read: Read, refused: Refused, proxy: Proxy
) -> None:
    one = manager(vault_url=f"https://127.0.0.1:{proxy.port}", retries=2)
    assert read(one) == VALUES
    proxy.cut_after_request = 2
    assert read(one) == VALUES
    assert proxy.cut_after_request == 0
    # Each attempt is one, and one more is made if a connection that was kept turns out to be lost.
    proxy.cut_after_request = 4
    with refused(VaultUnavailable, "no response from Vault"):
        read(one)


def test_an_answer_that_does_not_come_in_time(
    manager: Manager, read: Read, refused: Refused, vault: PrivateVault
) -> None:
    one = manager(timeout=5, retries=0)
    assert read(one) == VALUES
    with vault.program.stopped(), refused(VaultUnavailable, "timed out after 5 s"):
        read(one)
    assert read(one) == VALUES


def test_a_rate_limit(manager: Manager, read: Read, refused: Refused, vault: PrivateVault) -> None:
    patient, impatient = manager(), manager(retries=0)
    assert (read(patient), read(impatient)) == (VALUES, VALUES)
    # With these headers Vault sends Retry-After.
    vault.write("sys/quotas/config", enable_rate_limit_response_headers=True)
    quota = "sys/quotas/rate-limit/reading"
    # Within a minute there are two requests, on a slow machine too.
    vault.write(quota, path="transit/decrypt/plain", rate=1, interval="1m")
    try:
        with refused(VaultUnavailable, "rate limit", status=429):
            for _ in range(3):
                read(impatient)
        vault.write(quota, path="transit/decrypt/plain", rate=1, interval="1s")
        for _ in range(3):
            assert read(patient) == VALUES
    finally:
        vault.delete(quota)


def test_an_unknown_authority(
    manager: Manager, read: Read, refused: Refused, vault: PrivateVault, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority(tmp_path_factory.mktemp("other"))
    with refused(TLSError, "name the CA that signed it", reason="unknown authority", place=vault.url):
        read(manager(ca_cert=str(other.file)))
    with refused(TLSError, reason="unknown authority", place=vault.url):
        read(manager(ca_cert=True))


def test_a_certificate_that_has_ended(manager: Manager, read: Read, refused: Refused, vault: PrivateVault) -> None:
    with refused(TLSError, "renewed", reason="expired", place=vault.expired_url):
        read(manager(vault_url=vault.expired_url))


def test_a_certificate_for_another_address(manager: Manager, read: Read, refused: Refused, vault: PrivateVault) -> None:
    with refused(TLSError, "in the certificate", reason="wrong host name", place=vault.misnamed_url):
        read(manager(vault_url=vault.misnamed_url))


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("keyUsage", "CA cert does not include key usage extension"),
        ("a critical basicConstraints", "Basic Constraints of CA cert not marked critical"),
        ("subjectKeyIdentifier", "Missing Subject Key Identifier"),
        ("authorityKeyIdentifier", "Missing Authority Key Identifier"),
    ],
)
def test_what_strict_verification_refuses(
    manager: Manager,
    read: Read,
    refused: Refused,
    vault: PrivateVault,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    without: str,
    said: str,
) -> None:
    """Python 3.13 verifies so by itself (tests/release/test_wheel.py); here the flag is set for each Python."""
    authority = Authority(tmp_path, without=without)
    relay = Intermediary(vault.url, vault.ca, authority.issue("relay"))
    one = manager(vault_url=relay.url, ca_cert=str(authority.file))
    default = ssl.create_default_context

    def strict(*args: Any, **options: Any) -> ssl.SSLContext:
        context = default(*args, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    with refused(TLSError, f"{said}; have .* refresh-certs --cert ca.crt", reason="extensions", place=relay.url):
        read(one)
    relay.close()


def test_plain_http(manager: Manager, read: Read, refused: Refused, vault: PrivateVault) -> None:
    with refused(ConfigError, "vault_url: found one with the scheme 'http'"):
        read(manager(vault_url=vault.url.replace("https", "http")))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"role": "nosuch"}, "invalid role name"),
        ({"service_account": "stranger"}, "service account name not authorized"),
        ({"role": "default", "namespace": "default", "service_account": "default"}, "namespace not authorized"),
        ({"audience": "elsewhere"}, "audience"),
    ],
)
def test_a_denied_log_in(
    manager: Manager, read: Read, refused: Refused, vault: PrivateVault, changes: dict[str, str], said: str
) -> None:
    before = vault.requests("auth/kubernetes/login")
    with refused(LoginDenied, said, place=f"{vault.url}/v1/auth/kubernetes/login"):
        read(manager(**changes))
    # One request: to repeat it would not change the refusal.
    assert vault.requests("auth/kubernetes/login") == before + 1


def test_an_auth_mount_that_is_not_there(manager: Manager, read: Read, refused: Refused, vault: PrivateVault) -> None:
    with refused(LoginDenied, place=f"{vault.url}/v1/auth/elsewhere/login"):
        read(manager(auth_mount="elsewhere"))


def test_a_damaged_value_is_told_with_who_wrote_it(
    manager: Manager, seal: Put, cluster: Cluster, vault: PrivateVault, refused: Refused
) -> None:
    """By the manifest's checksum and the API server's managedFields. A key that was made again is told as that."""
    name = seal({"a": "PLAIN-1", "b": "PLAIN-2"})
    one = manager()
    assert one.read_secrets(name, cluster.namespace)["a"] == "PLAIN-1"
    data = cluster.kubernetes().get_secret(cluster.namespace, name)["data"]
    swapped = {"data": {"a": data["b"]}}
    cluster.api.patch_namespaced_secret(name, cluster.namespace, swapped, field_manager="some-operator")
    with refused(
        DecryptionFailed, "the value is damaged: it is not what was sealed here; some-operator wrote it last, at 20"
    ):
        one.read_secrets(name, cluster.namespace)
    with pytest.raises(DecryptionFailed) as caught:
        one.read_secrets(name, cluster.namespace)
    assert (caught.value.reason, caught.value.place) == ("damaged", f"{cluster.namespace}/{name}[a]")

    vault.new_key("again", derived=True)
    name = seal({"a": "PLAIN-1"}, key="again")
    vault.write("transit/keys/again/config", deletion_allowed=True)
    vault.delete("transit/keys/again")
    vault.new_key("again", derived=True)
    with refused(DecryptionFailed, "so the Transit key of this name is another one", reason="does not fit"):
        manager(auth="token", vault_token=vault.root.token).read_secrets(name, cluster.namespace)
