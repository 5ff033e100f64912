"""The keys, policies and roles that KUBEVAULT needs in Vault, as data for `resources.Resource`.

This is the one place that decides which policy grants what, and how policies and digest keys are named. The roles use
it through the filter plugins ``kubevault_*_resources``.

Sources: https://developer.hashicorp.com/vault/api-docs/secret/transit, /auth/kubernetes, /system/policies
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import ConfigError
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
        ConfigError: a key has no name, or a name is defined twice.
    """
    names = [_required(key, "name", "transit key") for key in keys]
    names += [f"{name}{digest_suffix}" for name in names]
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
    """
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
            ``rotates``; and, if they differ, ``audience``, ``token_ttl`` and ``token_max_ttl``.
        mount: path at which the auth method is mounted.
        audience: audience of a workload's token, unless the workload names its own.

    Raises:
        ConfigError: a field is missing, or a workload could both encrypt and decrypt with a key.
    """
    return [
        {"path": f"auth/{mount}/role/{_required(each, 'role', 'workload')}", "data": _role(each, audience)}
        for each in workloads
    ]


def _role(workload: Mapping[str, Any], audience: str) -> dict[str, Any]:
    ttl = workload.get("token_ttl", TOKEN_TTL)
    return {
        "bound_service_account_names": [_required(workload, "service_account", "workload")],
        "bound_service_account_namespaces": [_required(workload, "namespace", "workload")],
        "audience": workload.get("audience", audience),
        "token_type": "service",
        "token_no_default_policy": True,
        "token_policies": _token_policies(workload),
        "token_ttl": ttl,
        "token_max_ttl": workload.get("token_max_ttl", ttl),
    }


def _token_policies(workload: Mapping[str, Any]) -> list[str]:
    if both := sorted({*workload.get("reads", ())} & {*workload.get("seals", ())}):
        raise ConfigError(
            f"workload {workload['role']} both reads and seals with {', '.join(both)}",
            remedy="make two workloads of it",
        )
    return [policy_name(access, key) for field, access in GRANTS.items() for key in workload.get(field, ())]


def _paths(access: str, key: str, mount: str, digest_suffix: str) -> Iterator[tuple[str, str]]:
    for path, capability in POLICY_PATHS[access].items():
        yield f"{mount}/{path.format(key=key, digest_key=key + digest_suffix)}", capability
    for path in SELF_PATHS:
        yield path, "update"


def _policy(paths: Iterable[tuple[str, str]]) -> str:
    """Return a policy as HCL (https://developer.hashicorp.com/vault/docs/concepts/policies)."""
    return "".join(f'path "{path}" {{\n  capabilities = ["{capability}"]\n}}\n' for path, capability in paths)


def _required(item: Mapping[str, Any], field: str, kind: str) -> str:
    value = item.get(field)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{kind}: {field} is missing")
    return value
