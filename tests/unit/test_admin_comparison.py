"""Comparison of values as Vault interprets them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretmanager.admin.comparison import Difference, canonical, differences, seconds

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("0", 0),
        ("90", 90),
        ("-1", -1),
        ("10s", 10),
        ("1h30m", 5400),
        ("1h0m1s", 3601),
        ("1.5h", 5400),
        (".5m", 30),
        ("1.1h", 3960),
        ("1500ms", 1),
        ("30d", 2592000),
    ],
)
def test_seconds_reads_durations_as_vault_does(text: str, expected: int) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["1d12h", "1w", "10 s", "s", "h1", "1h 30m", "ten", "1,5h", "\n"])
def test_seconds_refuses_what_vault_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        seconds(text)


@given(st.integers(0, 10**6), st.integers(0, 59), st.integers(0, 59))
def test_a_duration_equals_its_seconds(hours: int, minutes: int, secs: int) -> None:
    total = hours * 3600 + minutes * 60 + secs
    for wanted in (f"{hours}h{minutes}m{secs}s", f"{total}s", str(total), total):
        assert differences({"token_ttl": wanted}, {"token_ttl": total}) == {}
        assert differences({"token_ttl": wanted}, {"token_ttl": total + 1}) == {
            "token_ttl": Difference(total + 1, total)
        }


@pytest.mark.parametrize(
    ("field", "wanted", "found"),
    [
        ("exportable", "true", True),
        ("exportable", False, False),
        ("token_num_uses", "3", 3),
        ("token_policies", ["b", "a", "b"], ["a", "b"]),
        ("token_policies", "b, a", ["a", "b"]),
        ("token_policies", "", []),
        ("token_policies", [], None),
        ("token_bound_cidrs", ["127.0.0.1/32", "10.1.2.3/8"], ["10.1.2.3/8", "127.0.0.1"]),
        ("token_bound_cidrs", ["::1/128"], ["::1"]),
        ("key_usage", ["sign", "verify"], ["sign", "verify"]),
        ("kubernetes_ca_cert", PEM, PEM + "\n"),
        ("pem_keys", [PEM + "\n", "other"], ["other", PEM]),
        ("policy", 'path "x" {}\n\n', 'path "x" {}'),
        ("version", 2, "2"),
        ("enabled", True, "true"),
        ("max_requests", 10, 10.0),
        ("dead_server_last_contact_threshold", "24h", "24h0m0s"),
        ("server_stabilization_time", "10", "10s"),
        ("description", "", None),
    ],
)
def test_values_that_mean_the_same(field: str, wanted: object, found: object) -> None:
    assert differences({field: wanted}, {} if found is None else {field: found}) == {}


@pytest.mark.parametrize(
    ("field", "wanted", "found"),
    [
        ("exportable", "yes please", True),
        ("exportable", False, True),
        ("token_ttl", "1w", 604800),
        ("token_policies", ["a"], ["a", "b"]),
        ("token_bound_cidrs", ["10.1.2.3/8"], ["10.0.0.0/8"]),
        ("key_usage", ["verify", "sign"], ["sign", "verify"]),
        ("policy", 'path  "x" {}\n', 'path "x" {}\n'),
        ("audience", "vault ", "vault"),
        ("audience", ["vault"], "vault"),
        ("dead_server_last_contact_threshold", "23h", "24h0m0s"),
        ("dead_server_last_contact_threshold", "a day", "24h0m0s"),
        ("nonsense", False, None),
        ("nonsense", 0, None),
    ],
)
def test_values_that_differ(field: str, wanted: object, found: object) -> None:
    assert list(differences({field: wanted}, {} if found is None else {field: found})) == [field]


def test_a_dict_is_compared_for_the_keys_given() -> None:
    found = {"type": "transit", "options": None, "config": {"max_lease_ttl": 60, "force_no_cache": False}}
    assert differences({"options": {}, "config": {"max_lease_ttl": "1m"}}, found) == {}
    assert differences({"config": {"max_lease_ttl": "2m", "listing_visibility": "unauth"}}, found) == {
        "config.max_lease_ttl": Difference(60, 120),
        "config.listing_visibility": Difference(None, "unauth"),
    }


TEXT = st.text("ab1, /.:\n", max_size=8)
JSON = st.booleans() | st.integers() | TEXT | st.lists(TEXT, max_size=5)


@given(st.dictionaries(st.sampled_from(["token_policies", "token_bound_cidrs", "policy", "x"]), JSON))
def test_what_vault_answers_equals_itself(answer: dict[str, object]) -> None:
    assert differences(answer, answer) == {}


@given(st.lists(st.text("ab1-.*", min_size=1, max_size=8), min_size=1))
def test_a_comma_separated_text_equals_its_list(names: list[str]) -> None:
    field = "bound_service_account_names"
    assert canonical(field, ",".join(names), []) == canonical(field, names, [])
    assert canonical(field, list(reversed(names)), []) == canonical(field, names, [])
