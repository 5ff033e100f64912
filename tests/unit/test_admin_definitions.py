"""The functions that define keys, policies and roles, and so decide who has which capability."""

from __future__ import annotations

import base64
import re
from itertools import product
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from secretmanager.admin.definitions import (
    KEY_DEFAULTS,
    POLICY_MARK,
    POLICY_PATHS,
    REVIEWER_ROLE,
    ROLE_DEFAULTS,
    TOKEN_TTL,
    audit_resources,
    cronjob_name,
    key_resources,
    lease_name,
    lease_names,
    owned,
    policy_names,
    policy_resources,
    renewer_policy_resources,
    role_resources,
)
from secretmanager.admin.reviewer import TokenReviewer
from secretmanager.errors import ConfigError
from secretmanager.names import SUBDOMAIN
from secretmanager.options import OPTIONS
from secretmanager.sealed import DIGEST_SUFFIX

ROLES = Path(__file__).parents[2] / "roles"
WORKLOAD = {"role": "shop", "service_account": "till", "namespace": "store"}


def test_a_key_and_the_keys_of_its_digests_and_proofs() -> None:
    shop, digest, rewrap = key_resources(
        [{"name": "shop-key", "derived": True, "min_decryption_version": 2}], "transit-eu"
    )
    assert shop["path"] == "transit-eu/keys/shop-key"
    assert shop["data"] == {**KEY_DEFAULTS, "derived": True, "min_decryption_version": 2}
    assert digest == {"path": "transit-eu/keys/shop-key-digest", "data": KEY_DEFAULTS}
    assert rewrap == {"path": "transit-eu/keys/shop-key-rewrap", "data": KEY_DEFAULTS}


def test_no_key_is_exportable_unless_somebody_says_so() -> None:
    assert KEY_DEFAULTS["exportable"] is False
    assert KEY_DEFAULTS["allow_plaintext_backup"] is False


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([{"derived": True}], "transit key: name is missing"),
        ([{"name": "a"}, {"name": "a"}], "a, a-digest, a-rewrap is defined twice"),
        ([{"name": "a"}, {"name": "a-digest"}], "a-digest is defined twice"),
        ([{"name": "a"}, {"name": "a-rewrap"}], "a-rewrap is defined twice"),
    ],
)
def test_keys_that_mean_nothing(keys: list[dict[str, object]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        key_resources(keys)


@pytest.mark.parametrize("name", ["*", "+", "a/b", 'a"', "a\n", "-a", "a" * 256, 3])
def test_a_name_that_would_change_what_a_policy_grants(name: object) -> None:
    for make, argument in ((policy_resources, [name]), (key_resources, [{"name": name}])):
        with pytest.raises(ConfigError, match="is not allowed; allowed is letters, digits"):
            make(argument)
    for named in ({"mount": 'transit" {}'}, {"mount": "transit/*"}, {"digest_suffix": "*"}):
        with pytest.raises(ConfigError, match="is not allowed"):
            policy_resources(["k"], **named)


def test_a_text_in_place_of_a_list_is_not_taken_for_its_letters() -> None:
    with pytest.raises(ConfigError, match="transit keys: found a value of type str; allowed is a list"):
        policy_resources("aes256-key")
    with pytest.raises(ConfigError, match="workload shop: reads: found a value of type str; allowed is a list"):
        role_resources([{**WORKLOAD, "reads": "aes256-key"}])
    for make, said in ((key_resources, "transit keys"), (role_resources, "workloads")):
        with pytest.raises(ConfigError, match=f"{said}: found an item of type str; allowed is a dict"):
            make(["aes256-key"])


def granted(policy: str) -> dict[str, str]:
    """Return the capability on each path of a policy in HCL, with the parameters that are allowed if not all are."""
    limits = r'(?:  allowed_parameters = \{\n((?:    "[a-z_]+" = \[\]\n)+)  \}\n)?'
    rule = rf'^path "([^"]+)" \{{\n  capabilities = \["([a-z]+)"\]\n{limits}\}}$'
    found = re.findall(rule, policy, re.MULTILINE)
    assert policy.count("path ") == len(found)
    return {path: " ".join([capability, *re.findall(r"\w+", allowed)]) for path, capability, allowed in found}


OWN = {"auth/token/lookup-self": "read", "auth/token/renew-self": "update", "auth/token/revoke-self": "update"}


def test_what_each_policy_grants() -> None:
    resources = policy_resources(["k"], "transit-eu", "-hmac")
    assert {resource["path"]: granted(resource["data"]["policy"]) for resource in resources} == {
        "sys/policies/acl/kubevault-reader-k": {"transit-eu/decrypt/k": "update", **OWN},
        "sys/policies/acl/kubevault-sealer-k": {
            "transit-eu/encrypt/k": "update",
            "transit-eu/hmac/k-hmac": "update",
            "transit-eu/hmac/k-rewrap": "update",
            **OWN,
        },
        "sys/policies/acl/kubevault-rotator-k": {
            "transit-eu/keys/k": "read",
            "transit-eu/keys/k/rotate": "update",
            "transit-eu/rewrap/k": "update",
            "transit-eu/hmac/k-rewrap": "update",
            **OWN,
        },
        "sys/policies/acl/kubevault-retirer-k": {
            "transit-eu/keys/k": "read",
            "transit-eu/keys/k/config": "update min_decryption_version min_encryption_version",
            "transit-eu/keys/k/trim": "update min_available_version",
            "transit-eu/rewrap/k": "update",
            **OWN,
        },
    }


def test_no_policy_grants_both_encrypt_and_decrypt() -> None:
    for paths in POLICY_PATHS.values():
        assert not {"encrypt", "decrypt"} <= {path.partition("/")[0] for path in paths}


def test_the_operator_s_patterns_cover_every_policy() -> None:
    assert policy_names("*") == [f"kubevault-{access}-*" for access in ("reader", "sealer", "rotator", "retirer")]
    assert [resource["path"].rpartition("/")[2] for resource in policy_resources(["k"])] == policy_names("k")


def test_the_names_of_a_key_s_leases() -> None:
    assert lease_names(["a", "b"]) == ["kubevault-rotation-a", "kubevault-rotation-b"]
    shards = [f"kubevault-rotation-a-shard-{index}-of-2" for index in range(2)]
    assert lease_names(["a"], 2) == ["kubevault-rotation-a", *shards]
    with pytest.raises(ConfigError, match="is not allowed"):
        lease_names(["*"])


def test_the_name_of_a_key_s_cronjob() -> None:
    assert cronjob_name("shop-key") == "kubevault-rotation-shop-key"
    names = [cronjob_name(key) for key in ("My_Key", "my_key", "my-key", "a" * 255, "a" * 254)]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 52


def test_each_key_has_leases_of_its_own_that_kubernetes_allows() -> None:
    keys = ["a_b", "A_b", "a-b", "a.b", "a..b", "_", "A" * 255, "a" * 255]
    names = [lease_name(key, shard) for key in keys for shard in (None, (0, 2), (1, 2))]
    assert len(set(names)) == len(names)
    assert all(SUBDOMAIN.allows(name) for name in names)


def test_a_role_binds_one_service_account_and_lives_seconds() -> None:
    (role,) = role_resources([{**WORKLOAD, "reads": ["a", "b"], "rotates": ["c"]}], "k8s", "vault-eu", "Eu-West")
    assert role == {
        "path": "auth/k8s/role/shop",
        "data": {
            "bound_service_account_names": ["till"],
            "bound_service_account_namespaces": ["store"],
            "audience": "vault-eu",
            "token_type": "service",
            "token_no_default_policy": True,
            "token_policies": [
                "kubevault-reader-a",
                "kubevault-reader-b",
                "kubevault-rotator-c",
                "kubevault-workload-eu-west",
            ],
            "token_ttl": TOKEN_TTL,
            "token_max_ttl": TOKEN_TTL,
            **ROLE_DEFAULTS,
        },
    }


def test_a_role_that_grants_nothing_has_no_policy() -> None:
    (role,) = role_resources([{**WORKLOAD, "token_type": "batch"}])
    assert role["data"]["token_policies"] == []


def test_names_that_differ_in_case_alone_are_one_for_vault() -> None:
    for make, items, kind in (
        (key_resources, [{"name": "Team"}, {"name": "team"}], "transit keys: Team and team"),
        (policy_resources, ["TEAM", "other", "Team"], "transit keys: TEAM and Team"),
        (
            role_resources,
            [{**WORKLOAD, "role": name} for name in ("Alice", "alice")],
            "workloads: role: Alice and alice",
        ),
    ):
        with pytest.raises(ConfigError, match=f"{kind}.* are one name for Vault.*; rename one of them"):
            make(items)


def test_nothing_is_deleted_for_an_inventory_without_anything() -> None:
    role, policy = owned("lab", ["k"], [WORKLOAD], "k8s")
    assert role == {"path": "auth/k8s/role", "field": "token_policies", "contains": "kubevault-workload-lab"}
    assert policy["path"] == "sys/policies/acl"
    assert owned("lab", [], [WORKLOAD]) == owned("lab", ["k"], []) == owned("lab", [], []) == []


def test_the_mark_of_a_policy_is_a_line_of_its_text() -> None:
    for resource in policy_resources(["k"]):
        assert POLICY_MARK in resource["data"]["policy"].splitlines()


def test_a_role_s_own_audience_and_times() -> None:
    given = {"audience": "own", "token_ttl": "1m", "token_max_ttl": "1h"}
    (role,) = role_resources([{**WORKLOAD, **given}])
    assert {name: role["data"][name] for name in given} == given
    (role,) = role_resources([{**WORKLOAD, "token_ttl": "1m"}])
    assert role["data"]["token_max_ttl"] == "1m"


def test_a_workload_that_could_both_encrypt_and_decrypt() -> None:
    with pytest.raises(ConfigError, match="workload shop both reads and seals with b; make two workloads of it"):
        role_resources([{**WORKLOAD, "reads": ["a", "b"], "seals": ["b"]}])


@pytest.mark.parametrize("field", ["role", "service_account", "namespace"])
def test_a_workload_that_lacks_a_field(field: str) -> None:
    with pytest.raises(ConfigError, match=rf"workload( shop)?: {field} is missing"):
        role_resources([{**WORKLOAD, field: ""}])


@pytest.mark.parametrize("field", ["role", "service_account", "namespace"])
def test_a_workload_that_any_service_account_could_be(field: str) -> None:
    with pytest.raises(ConfigError, match=rf"{field} '\*' is not allowed"):
        role_resources([{**WORKLOAD, field: "*"}])


def test_a_workload_without_an_audience() -> None:
    with pytest.raises(ConfigError, match="workload shop: audience is missing"):
        role_resources([WORKLOAD], audience="")


def defaults(role: str) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load((ROLES / role / "defaults/main.yml").read_text())
    return found


def test_the_roles_defaults_are_the_package_s() -> None:
    """Roles document their defaults, since each can be used alone; the values come from the package."""
    audience = next(option.default for option in OPTIONS if option.name == "audience")
    facts = {
        "digest_suffix": DIGEST_SUFFIX,
        "audience": audience,
        "transit_mount": next(option.default for option in OPTIONS if option.name == "transit_mount"),
        "auth_mount": "kubernetes",
    }
    found = 0
    for role, (end, value) in product(sorted(path.name for path in ROLES.iterdir()), facts.items()):
        path = ROLES / role / "defaults/main.yml"
        for name, default in (defaults(role) if path.exists() else {}).items():
            if name.endswith(end):
                assert default == value, name
                found += 1
    assert found == 12
    assert defaults("transit-keys")["transit_keys_mount"] == facts["transit_mount"]


def test_both_sides_of_the_trust_name_the_same_token_reviewer() -> None:
    kubernetes, vault = defaults("microk8s-vault-auth"), defaults("vault-configure-for-kubevault")
    rbac = defaults("workload-rbac")
    for end in ("service_account", "namespace"):
        assert kubernetes[f"microk8s_vault_auth_{end}"] == vault[f"vault_configure_for_kubevault_reviewer_{end}"]
        assert kubernetes[f"microk8s_vault_auth_{end}"] == rbac[f"workload_rbac_reviewer_{end}"]
        assert kubernetes[f"microk8s_vault_auth_{end}"] == getattr(TokenReviewer(), end)
    role = yaml.safe_load((ROLES / "vault-configure-for-kubevault/vars/main.yml").read_text())
    assert role["vault_configure_for_kubevault_probe"]["role"] == REVIEWER_ROLE


def test_the_policy_of_a_renewer_pins_where_vault_finds_kubernetes() -> None:
    workloads = [{"role": "shop", "reads": ["k"]}, {"role": "renewer", "renews_token_reviewer": True}]
    (resource,) = renewer_policy_resources(workloads, "https://192.0.2.8:16443", "PEM\nof a CA\n", "k8s")
    assert resource["path"] == "sys/policies/acl/kubevault-renewer-renewer"
    assert """path "auth/k8s/config" {
  capabilities = ["update"]
  required_parameters = ["kubernetes_host", "kubernetes_ca_cert", "disable_local_ca_jwt", "token_reviewer_jwt"]
  denied_parameters = {
    "kubernetes_host" = [""]
    "kubernetes_ca_cert" = [""]
    "disable_local_ca_jwt" = [""]
  }
  allowed_parameters = {
    "kubernetes_host" = ["https://192.0.2.8:16443"]
    "kubernetes_ca_cert" = ["PEM\\nof a CA\\n"]
    "disable_local_ca_jwt" = [true]
    "token_reviewer_jwt" = []
  }
}
""" in resource["data"]["policy"]
    for host, ca in (("", "PEM"), ("https://a", ""), ("https://*", "PEM"), ("https://a", "*")):
        with pytest.raises(ConfigError, match="workload renewer: renews_token_reviewer: kubernetes_"):
            renewer_policy_resources(workloads, host, ca)
    assert renewer_policy_resources(workloads[:1], "", "") == []


def test_an_audit_device() -> None:
    device = {"name": "file", "type": "file", "options": {"file_path": "/var/log/vault/audit.log"}}
    assert audit_resources([device, {"name": "syslog", "type": "syslog"}]) == [
        {"path": "sys/audit/file", "data": {"type": "file", "options": {"file_path": "/var/log/vault/audit.log"}}},
        {"path": "sys/audit/syslog", "data": {"type": "syslog", "options": {}}},
    ]


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ({"type": "file"}, "audit device: name is missing"),
        ({"name": "a/b", "type": "file"}, "audit device: name 'a/b' is not allowed"),
        ({"name": "a", "type": "kafka"}, "audit device a: type: found 'kafka', allowed is file, syslog, socket"),
        ({"name": "a", "type": "file"}, "audit device a: options: file_path is missing"),
        (
            {"name": "a", "type": "syslog", "options": {"log_raw": "true"}},
            "audit device a: options: found log_raw, which would log secrets",
        ),
    ],
)
def test_an_audit_device_that_is_not_allowed(device: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}"):
        audit_resources([device])


NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,9}[a-z0-9])?", fullmatch=True)
DATA_KEYS = st.from_regex(r"[-_a-zA-Z0-9][-._a-zA-Z0-9]{0,9}", fullmatch=True)


@given(NAMES, NAMES, NAMES, DATA_KEYS)
def test_a_policy_of_own_secrets_allows_their_contexts_and_no_others(
    namespace: str, name: str, other: str, key: str
) -> None:
    workload = {"role": "r", "namespace": namespace, "reads": ["k"], "secrets": [name], "own_secrets_only": True}
    (resource,) = policy_resources([], workloads=[workload], derived_keys=["k"])
    globs = re.findall(r'"([A-Za-z0-9+/]*)[*]"', resource["data"]["policy"])

    def allowed(*place: str) -> bool:
        return base64.b64encode("/".join(place).encode()).decode().startswith(tuple(globs))

    assert allowed(namespace, name, key)
    assert len(globs) <= 8
    for text in (namespace, f"{namespace}/{name}", f"{namespace}{name}/{key}"):
        assert not allowed(*text.split("/"))
    for space, secret in ((namespace, other), (other, name), (namespace, name + other), (namespace, name[:-1])):
        assert allowed(space, secret, key) == ((space, secret) == (namespace, name))


def test_own_secrets_only_needs_secrets_and_a_derived_key() -> None:
    """Of a key that is not derived, Vault ignores the context, and would decrypt all of it."""
    workload = {**WORKLOAD, "reads": ["k"], "own_secrets_only": True}
    with pytest.raises(ConfigError, match="own_secrets_only: found no secrets; name those that it reads in secrets"):
        policy_resources(["k"], workloads=[workload], derived_keys=["k"])
    with pytest.raises(ConfigError, match="own_secrets_only: key k is not derived, so Vault would decrypt all of it"):
        policy_resources(["k"], workloads=[{**workload, "secrets": ["a"]}], derived_keys=["other"])
    (role,) = role_resources([{**workload, "secrets": ["a"]}])
    assert role["data"]["token_policies"][0] == f"kubevault-reader-k:{workload['role']}"
