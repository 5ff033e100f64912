"""The format with a real Vault: values survive a round trip, and every changed bit is detected."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from support.sealing import Chain

from secretmanager.errors import DecryptionFailed, SealedDataError, SecretManagerError
from secretmanager.reading.opening import open_secrets
from secretmanager.reading.requests import Request
from secretmanager.sealed import MANIFEST_KEY, Scope
from secretmanager.sealing.plan import Action
from secretmanager.sealing.spec import Behavior
from secretmanager.servers.vault import TransitItem

KEYS = st.from_regex(r"[-._a-zA-Z0-9]{1,40}", fullmatch=True).filter(
    lambda key: not key.startswith("..") and key not in (".", MANIFEST_KEY)
)
CHOICES = st.sampled_from([("derived", Scope.STRICT), ("derived", Scope.NAMESPACE_WIDE), ("plain", Scope.CLUSTER_WIDE)])
real_servers = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
VALUES = {"a": b"one", "b-2": b"\x00\xff", "Long.Key_3": b"three" * 50}


@real_servers
@given(values=st.dictionaries(KEYS, st.binary(max_size=2000), min_size=1, max_size=8), choice=CHOICES)
def test_any_bytes_come_out_as_they_went_in(
    chain: Chain, name: str, values: dict[str, bytes], choice: tuple[str, Scope]
) -> None:
    key, scope = choice
    spot = f"{name}-{scope}"
    options = {"transit_key": key, "scope": scope, "behavior": Behavior.REPLACE}
    wanted = chain.wanted(spot, values, allow_empty=True, **options)
    chain.seal(wanted)
    assert opened(chain, spot) == values
    assert chain.seal(wanted)[0].action is Action.UNCHANGED


def opened(chain: Chain, name: str, key: str | None = None) -> dict[str, bytes]:
    request = Request(name, chain.namespace, "SECRET", key)
    return open_secrets(chain.kubernetes(), chain.client(chain.vault.root.token), [request])[0]


@pytest.fixture(scope="module")
def sealed(chain: Chain) -> Iterator[str]:
    """A Secret in whose data the tests below flip bits."""
    chain.seal(chain.wanted("bits", VALUES))
    yield "bits"
    chain.api.delete_namespaced_secret("bits", chain.namespace)


def flipped(raw: bytes, bit: int) -> bytes:
    bit %= len(raw) * 8
    return raw[: bit // 8] + bytes([raw[bit // 8] ^ 1 << bit % 8]) + raw[bit // 8 + 1 :]


@real_servers
@example(key="a", bit=-23)  # of the last character before "=="
@given(key=st.sampled_from(sorted(VALUES)), bit=st.integers(0, 10_000))
def test_a_bit_of_a_ciphertext_is_found_out(chain: Chain, sealed: str, key: str, bit: int) -> None:
    good = chain.secret(sealed)["data"][key]
    changed = base64.b64encode(flipped(base64.b64decode(good), bit)).decode()
    chain.api.patch_namespaced_secret(sealed, chain.namespace, {"data": {key: changed}})
    try:
        with pytest.raises(SecretManagerError):
            opened(chain, sealed, key)
        assert chain.seal(chain.wanted(sealed, VALUES), check=True)[0].updated == (key,)
    finally:
        chain.api.patch_namespaced_secret(sealed, chain.namespace, {"data": {key: good}})


@settings(real_servers, max_examples=150)
@given(bit=st.integers(0, 10_000))
def test_a_bit_of_the_manifest_is_found_out(chain: Chain, sealed: str, bit: int) -> None:
    good = chain.secret(sealed)["data"][MANIFEST_KEY]
    manifest = flipped(base64.b64decode(good), bit)
    assume(b'"place":' in manifest)  # without it, the place is not known, as of what an older version sealed
    changed = base64.b64encode(manifest).decode()
    chain.api.patch_namespaced_secret(sealed, chain.namespace, {"data": {MANIFEST_KEY: changed}})
    try:
        (outcome,) = chain.seal(chain.wanted(sealed, VALUES), check=True)
        assert outcome.changed
    except SealedDataError:
        pass  # detected as well
    finally:
        chain.api.patch_namespaced_secret(sealed, chain.namespace, {"data": {MANIFEST_KEY: good}})


@real_servers
@given(key=st.sampled_from(sorted(VALUES)), bit=st.integers(0, 10_000))
def test_a_bit_of_the_place_is_found_out(chain: Chain, sealed: str, key: str, bit: int) -> None:
    context = f"{chain.namespace}/{sealed}/{key}".encode()
    ciphertext = chain.data(sealed)[key]
    value = VALUES[key]
    assert chain.vault.root.decrypt("derived", [TransitItem(ciphertext, context)]) == [value]
    with pytest.raises(DecryptionFailed):
        chain.vault.root.decrypt("derived", [TransitItem(ciphertext, flipped(context, bit))])
