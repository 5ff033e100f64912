"""The keys, policies and roles that KUBEVAULT needs in Vault, as data for `resources.Resource`.

This is the one place that decides which policy grants what, and how policies and digest keys are named. The roles use
it through the filter plugins ``kubevault_*_resources``.

Sources: https://developer.hashicorp.com/vault/api-docs/secret/transit, /auth/kubernetes, /system/policies
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import ConfigError
from ..names import NAMESPACE, SUBDOMAIN, VAULT_NAME, VAULT_PATH, NameRule
from ..sealed import DIGEST_SUFFIX

POLICY_PATHS: Mapping[str, Mapping[str, str]] = {
    "reader": {"decrypt/{key}": "update"},
    "sealer": {"encrypt/{key}": "update", "hmac/{digest_key}": "update"},
    "rotator": {"keys/{key}": "read", "keys/{key}/rotate": "update", "rewrap/{key}": "update"},
}
"""The three policies of a key: paths below the Transit mount, and the capability on each. No policy grants both
encrypt and decrypt."""

GRANTS: Mapping[str, str] = {"reads": "reader", "seals": "sealer", "rotates": "rotator"}
"""Fields of a workload that list keys, and the policy that each grants."""

SELF_PATHS = ("auth/token/renew-self", "auth/token/revoke-self")
"""Paths on which each token may act on itself. Workloads do not get Vault's policy ``default``, which grants more."""

TOKEN_TTL = "10s"
"""Lifetime of a workload's Vault token, unless the workload sets another one."""

KEY_DEFAULTS: Mapping[str, Any] = {
    "type": "aes256-gcm96",
    "derived": False,
    "auto_rotate_period": "0",
    "deletion_allowed": False,
    "exportable": False,
    "allow_plaintext_backup": False,
}
"""Parameters of every key. They are set explicitly, so that an existing key with other parameters is an error."""

Definition = dict[str, Any]
"""``path`` and ``data`` of a resource."""


def key_resources(
    keys: Sequence[Mapping[str, Any]], mount: str = "transit", digest_suffix: str = DIGEST_SUFFIX
) -> list[Definition]:
    """Return the resources of Transit keys, each followed by the key of its digests.

    Args:
        keys: ``name`` of each key, and those of its parameters that differ from `KEY_DEFAULTS`.
        mount: path at which the Transit engine is mounted.
        digest_suffix: suffix of the name of a digest key. It is never rotated: digests of two versions do not compare.

    Raises:
        ConfigError: a key has no name, a name is not allowed, or one is defined twice.
    """
    _checked("mount", mount, VAULT_PATH)
    names = [_checked("transit key: name", key.get("name"), VAULT_NAME) for key in _dicts("transit keys", keys)]
    names += [_checked("digest key: name", f"{name}{digest_suffix}", VAULT_NAME) for name in names]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"transit keys: {', '.join(twice)} is defined twice")
    resources = []
    for key in keys:
        given = {field: value for field, value in key.items() if field != "name"}
        resources.append({"path": f"{mount}/keys/{key['name']}", "data": {**KEY_DEFAULTS, **given}})
        resources.append({"path": f"{mount}/keys/{key['name']}{digest_suffix}", "data": dict(KEY_DEFAULTS)})
    return resources


def policy_name(access: str, key: str) -> str:
    """Return the name of a key's policy, such as ``kubevault-reader-KEY``."""
    return f"kubevault-{access}-{key}"


def policy_names(key: str) -> list[str]:
    """Return the names of all policies of a key; for the key ``*``, patterns for the operator's policy."""
    return [policy_name(access, key) for access in POLICY_PATHS]


def policy_resources(
    keys: Sequence[str], mount: str = "transit", digest_suffix: str = DIGEST_SUFFIX
) -> list[Definition]:
    """Return the resources of the policies of Transit keys, three for each key.

    Args:
        keys: names of the keys.
        mount: path at which the Transit engine is mounted.
        digest_suffix: suffix of the name of a digest key.

    Raises:
        ConfigError: a name is not allowed. In a policy, some other characters would grant more (``*``, ``+``, ``"``).
    """
    _checked("mount", mount, VAULT_PATH)
    for key in _key_names("transit keys", keys):
        _checked("digest key: name", f"{key}{digest_suffix}", VAULT_NAME)
    return [
        {
            "path": f"sys/policies/acl/{policy_name(access, key)}",
            "data": {"policy": _policy(_paths(access, key, mount, digest_suffix))},
        }
        for key in keys
        for access in POLICY_PATHS
    ]


def role_resources(
    workloads: Sequence[Mapping[str, Any]], mount: str = "kubernetes", audience: str = "vault"
) -> list[Definition]:
    """Return the resources of workloads' roles of the Kubernetes auth method.

    Args:
        workloads: ``role``, ``service_account`` and ``namespace`` of each; its keys in ``reads``, ``seals`` and
            ``rotates``; and, if they differ, ``audience``, ``token_type``, ``token_ttl`` and ``token_max_ttl``.
        mount: path at which the auth method is mounted.
        audience: audience of a workload's token, unless the workload names its own.

    Raises:
        ConfigError: a field is missing or not allowed, such as ``*``, which Vault takes for any service account; or a
            workload could both encrypt and decrypt with a key.
    """
    _checked("mount", mount, VAULT_PATH)
    return [_role(each, mount, audience) for each in _dicts("workloads", workloads)]


def _role(workload: Mapping[str, Any], mount: str, audience: str) -> Definition:
    role = _checked("workload: role", workload.get("role"), VAULT_NAME)
    named = f"workload {role}"
    ttl = workload.get("token_ttl", TOKEN_TTL)
    bound = workload.get("audience", audience)
    if not isinstance(bound, str) or not bound:
        raise ConfigError(f"{named}: audience is missing; without one, tokens for any audience could log in")
    data = {
        "bound_service_account_names": [
            _checked(f"{named}: service_account", workload.get("service_account"), SUBDOMAIN)
        ],
        "bound_service_account_namespaces": [_checked(f"{named}: namespace", workload.get("namespace"), NAMESPACE)],
        "audience": bound,
        "token_type": workload.get("token_type", "service"),
        "token_no_default_policy": True,
        "token_policies": _token_policies(named, workload),
        "token_ttl": ttl,
        "token_max_ttl": workload.get("token_max_ttl", ttl),
    }
    return {"path": f"auth/{mount}/role/{role}", "data": data}


def _token_policies(named: str, workload: Mapping[str, Any]) -> list[str]:
    keys = {field: _key_names(f"{named}: {field}", workload.get(field, ())) for field in GRANTS}
    if both := sorted({*keys["reads"]} & {*keys["seals"]}):
        raise ConfigError(f"{named} both reads and seals with {', '.join(both)}", remedy="make two workloads of it")
    return [policy_name(access, key) for field, access in GRANTS.items() for key in keys[field]]


def _paths(access: str, key: str, mount: str, digest_suffix: str) -> Iterator[tuple[str, str]]:
    for path, capability in POLICY_PATHS[access].items():
        yield f"{mount}/{path.format(key=key, digest_key=key + digest_suffix)}", capability
    for path in SELF_PATHS:
        yield path, "update"


def _policy(paths: Iterable[tuple[str, str]]) -> str:
    """Return a policy as HCL (https://developer.hashicorp.com/vault/docs/concepts/policies)."""
    return "".join(f'path "{path}" {{\n  capabilities = ["{capability}"]\n}}\n' for path, capability in paths)


def _items(kind: str, value: Any) -> Sequence[Any]:
    """Return a list after a check: a text would be taken for a list of its letters."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise ConfigError(f"{kind}: found a value of type {type(value).__name__}; allowed is a list")
    return value


def _dicts(kind: str, value: Any) -> Sequence[Mapping[str, Any]]:
    items = _items(kind, value)
    for item in items:
        if not isinstance(item, Mapping):
            raise ConfigError(f"{kind}: found an item of type {type(item).__name__}; allowed is a dict")
    return items


def _key_names(kind: str, value: Any) -> list[str]:
    return [_checked(kind, name, VAULT_NAME) for name in _items(kind, value)]


def _checked(kind: str, name: Any, rule: NameRule) -> str:
    if name is None or name == "":
        raise ConfigError(f"{kind} is missing")
    if not rule.allows(name):
        raise ConfigError(rule.refusal(kind, name))
    return str(name)
