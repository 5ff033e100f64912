"""Errors of sealing: each names the object, the place and the reason and shows no value; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.sealing import SEALER, Chain
from support.servers import Authority, PrivateVault, free_port, running

from secretmanager.errors import (
    Forbidden,
    InvalidToken,
    KubernetesUnavailable,
    PermissionDenied,
    SecretManagerError,
    TLSError,
    TransitKeyNotFound,
    VaultError,
    VaultSealed,
    VaultUnavailable,
)
from secretmanager.sealing.sealer import Sealer
from secretmanager.sealing.stores import KubernetesStore
from secretmanager.servers.kubeconfig import from_host
from secretmanager.servers.kubernetes import KubernetesClient
from secretmanager.servers.vault import VaultClient

PLAIN = b"plaintext-of-the-test"


@pytest.fixture(autouse=True)
def _nothing_is_written(chain: Chain, name: str) -> Iterator[None]:
    yield
    assert not chain.api.list_namespaced_secret(chain.namespace, field_selector=f"metadata.name={name}").items


def refused(
    chain: Chain,
    name: str,
    vault: VaultClient,
    kubernetes: KubernetesClient | None = None,
    key: str = "derived",
    awaits: Sequence[str] = (),
) -> SecretManagerError:
    """Seal with these clients; return the error, which is the same in check mode unless that awaits something."""
    sealer = Sealer(vault, KubernetesStore(kubernetes or chain.kubernetes()))
    wanted = [chain.wanted(name, {"a": PLAIN}, transit_key=key)]
    first = None
    if awaits:
        assert list(sealer.seal(wanted, check=True)[0].awaits) == awaits
    else:
        with pytest.raises(SecretManagerError) as caught:
            sealer.seal(wanted, check=True)
        first = caught.value
    with pytest.raises(SecretManagerError) as caught:
        sealer.seal(wanted)
    error = caught.value
    assert type(first) in (type(error), type(None))
    shown = f"{error!r} {error} {error.__cause__!r} {error.__context__!r}"
    assert PLAIN.decode() not in shown
    assert "hvs." not in shown
    return error


def test_vault_out_of_reach(chain: Chain, name: str) -> None:
    vault = VaultClient(f"https://127.0.0.1:{free_port()}", ca_cert=chain.vault.ca, token="x", retries=0)
    error = refused(chain, name, vault)
    assert isinstance(error, VaultUnavailable)
    assert "Connection refused; check the address, and that Vault is running" in str(error)


@pytest.fixture
def other_vault(tmp_path: Path) -> Iterator[PrivateVault]:
    vault = PrivateVault(tmp_path)
    with running(vault, vault.set_up):
        yield vault


def test_vault_sealed(chain: Chain, name: str, other_vault: PrivateVault) -> None:
    other_vault.seal()
    vault = VaultClient(other_vault.url, ca_cert=other_vault.ca, token="x", retries=0)
    error = refused(chain, name, vault)
    assert isinstance(error, VaultSealed)
    assert "sealed" in str(error)
    assert error.place == other_vault.url


def test_a_transit_engine_that_is_not_there(chain: Chain, name: str, other_vault: PrivateVault) -> None:
    client = VaultClient(other_vault.url, ca_cert=other_vault.ca, token=other_vault.root.token)
    error = refused(chain, name, client, awaits=["Transit key derived", "Transit key derived-digest"])
    assert isinstance(error, VaultError)
    assert "transit/encrypt/derived: no handler for route" in str(error)


def test_a_token_that_has_ended(chain: Chain, name: str) -> None:
    token = chain.token_for(SEALER)
    chain.vault.write("auth/token/revoke", token=token)
    error = refused(chain, name, chain.client(token))
    assert isinstance(error, InvalidToken)
    assert str(error).endswith("log in again: the token has expired or was revoked")


@pytest.mark.parametrize("path", ["transit/encrypt/derived", "transit/hmac/derived-digest"])
def test_a_capability_that_is_missing(chain: Chain, name: str, path: str) -> None:
    token = chain.token_for({other: capabilities for other, capabilities in SEALER.items() if other != path})
    error = refused(chain, name, chain.client(token))
    assert isinstance(error, PermissionDenied)
    assert (error.path, error.capability) == (path, "update")
    assert f"{path}: " in str(error)
    assert "the token's policies lack the capability update on this path" in str(error)


def test_a_transit_key_that_is_not_there_is_not_made(chain: Chain, name: str) -> None:
    for token in (chain.vault.root.token, chain.token_for({"transit/*": ["create", "update", "read"]})):
        awaits = ["Transit key nosuch", "Transit key nosuch-digest"]
        error = refused(chain, name, chain.client(token), key="nosuch", awaits=awaits)
        assert isinstance(error, TransitKeyNotFound)
        assert str(error) == "transit/encrypt/nosuch: there is no such Transit key; create the key, or check its name"
    assert chain.vault.root.request("GET", "transit/keys/nosuch").status == 404
    error = refused(chain, name, chain.client(), key="nosuch")
    assert isinstance(error, PermissionDenied)
    assert "check that the key exists: Vault reports the same for one that does not" in str(error)


def test_a_digest_key_that_is_not_there(chain: Chain, name: str) -> None:
    chain.vault.write("transit/keys/lone")
    error = refused(chain, name, chain.client(chain.vault.root.token), key="lone", awaits=["Transit key lone-digest"])
    assert isinstance(error, TransitKeyNotFound)
    assert error.place == "transit/hmac/lone-digest"


@pytest.mark.parametrize(("kind", "options"), [("hmac", {"key_size": 32}), ("ecdsa-p256", {}), ("ed25519", {})])
def test_a_key_that_does_not_encrypt(chain: Chain, name: str, kind: str, options: dict[str, int]) -> None:
    chain.vault.write(f"transit/keys/{name}-{kind}", type=kind, **options)
    error = refused(chain, name, chain.client(chain.vault.root.token), key=f"{name}-{kind}")
    assert isinstance(error, VaultError)
    assert f"transit/encrypt/{name}-{kind}: " in str(error)
    assert "not supported" in str(error)


def test_certificates_that_are_not_to_be_trusted(chain: Chain, name: str, tmp_path: Path) -> None:
    other_ca = str(Authority(tmp_path, "other").file)
    cases = {
        (chain.vault.url, other_ca): "unknown authority",
        (chain.vault.expired_url, chain.vault.ca): "expired",
        (chain.vault.misnamed_url, chain.vault.ca): "wrong host name",
    }
    for (url, ca), reason in cases.items():
        error = refused(chain, name, VaultClient(url, ca_cert=ca, token=chain.token))
        assert isinstance(error, TLSError)
        assert (error.reason, error.place) == (reason, url)


def test_kubernetes_out_of_reach_unknown_or_forbidden(chain: Chain, name: str, tmp_path: Path) -> None:
    gone = KubernetesClient(lambda: from_host(f"https://127.0.0.1:{free_port()}", "token"), retries=0)
    assert isinstance(refused(chain, name, chain.client(), gone), KubernetesUnavailable)
    configuration = chain.api.api_client.configuration
    stranger = KubernetesClient(lambda: from_host(configuration.host, "not-a-token", configuration.ssl_ca_cert))
    error = refused(chain, name, chain.client(), stranger)
    assert isinstance(error, Forbidden)
    assert "check the kubeconfig's user, or its token" in str(error)
    reader = KubernetesClient.from_kubeconfig(chain.cluster.kubeconfig_for(tmp_path, ["get"]))
    error = refused(chain, name, chain.client(), reader)
    assert isinstance(error, Forbidden)
    assert 'cannot create resource "secrets"' in str(error)
