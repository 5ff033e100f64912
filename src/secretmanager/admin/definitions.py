"""The keys, policies and roles that KUBEVAULT needs in Vault, as data for `resources.Resource`.

This is the one place that decides which policy grants what, and how policies, digest keys and the Leases of rotations
are named. The roles use it through the filter plugins ``kubevault_*``.

Sources: https://developer.hashicorp.com/vault/api-docs/secret/transit, /auth/kubernetes, /system/policies
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import ConfigError, quoted
from ..names import NAMESPACE, SUBDOMAIN, VAULT_NAME, VAULT_PATH, NameRule
from ..sealed import DIGEST_SUFFIX, rewrap_key

POLICY_PATHS: Mapping[str, Mapping[str, str]] = {
    "reader": {"decrypt/{key}": "update"},
    "sealer": {"encrypt/{key}": "update", "hmac/{digest_key}": "update", "hmac/{rewrap_key}": "update"},
    "rotator": {
        "keys/{key}": "read",
        "keys/{key}/rotate": "update",
        "rewrap/{key}": "update",
        "hmac/{rewrap_key}": "update",
    },
    # By a rewrap, whose answer is thrown away, it tells whether the key opens a value that no manifest names.
    "retirer": {
        "keys/{key}": "read",
        "keys/{key}/config": "update",
        "keys/{key}/trim": "update",
        "rewrap/{key}": "update",
    },
}
"""The policies of a key: paths below the Transit mount, and the capability on each. No policy grants both encrypt and
decrypt; the rotator, which may run on a schedule, can neither make a ciphertext unreadable nor a sealer's proof."""

ALLOWED_PARAMETERS: Mapping[str, Sequence[str]] = {
    # Vault trims only a key that has both of these; no other setting of the key belongs to its retiring.
    "keys/{key}/config": ("min_decryption_version", "min_encryption_version"),
    "keys/{key}/trim": ("min_available_version",),
}
"""The only parameters that policies allow on a path; on other paths they allow all."""

GRANTS: Mapping[str, str] = {"reads": "reader", "seals": "sealer", "rotates": "rotator", "retires": "retirer"}
"""Fields of a workload that list keys, and the policy that each grants."""

AUDIT_TYPES = ("file", "syslog", "socket")

LEASE_PREFIX = "kubevault-rotation-"

CRONJOB_NAME = 52
"""Characters that the name of a CronJob has at most: the names of its Jobs end with eleven more."""

SELF_PATHS: Mapping[str, str] = {
    "auth/token/lookup-self": "read",
    "auth/token/renew-self": "update",
    "auth/token/revoke-self": "update",
}
"""What each token may do with itself. Workloads do not get Vault's policy ``default``, which grants more."""

POLICY_MARK = "# KUBEVAULT: a policy of a key. It is deleted when the key is no longer configured."
"""First line of the policies of keys and of renewers: only those that have it are ever deleted."""

REVIEWER_ROLE = "kubevault-token-reviewer"
"""Role by which Vault's token reviewer logs in itself, to prove that it works, for a batch token stored nowhere."""

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

ROLE_DEFAULTS: Mapping[str, Any] = {
    "alias_name_source": "serviceaccount_uid",
    "bound_service_account_namespace_selector": "",
    "token_bound_cidrs": [],
    "token_explicit_max_ttl": "0s",
    "token_num_uses": 0,
    "token_period": "0s",
}
"""Parameters of every role. They are set explicitly, so that none is left of a role that somebody edited."""

Definition = dict[str, Any]
"""``path`` and ``data`` of a resource."""


def key_resources(
    keys: Sequence[Mapping[str, Any]], mount: str = "transit", digest_suffix: str = DIGEST_SUFFIX
) -> list[Definition]:
    """Return the resources of Transit keys, each followed by the keys of its digests and of the proofs of its rewraps.

    Args:
        keys: ``name`` of each key, and those of its parameters that differ from `KEY_DEFAULTS`.
        mount: path at which the Transit engine is mounted.
        digest_suffix: suffix of the name of a digest key. A rotation of it changes nothing of what is sealed.

    Raises:
        ConfigError: a key has no name, a name is not allowed, or one is defined twice.
    """
    _checked("mount", mount, VAULT_PATH)
    names = [_checked("transit key: name", key.get("name"), VAULT_NAME) for key in _dicts("transit keys", keys)]
    names = [each for name in names for each in (name, *_helpers(name, digest_suffix))]
    _refuse_same("transit keys", names)
    resources = []
    for key in keys:
        given = {field: value for field, value in key.items() if field != "name"}
        resources.append({"path": f"{mount}/keys/{key['name']}", "data": {**KEY_DEFAULTS, **given}})
        helpers = _helpers(key["name"], digest_suffix)
        resources += [{"path": f"{mount}/keys/{name}", "data": dict(KEY_DEFAULTS)} for name in helpers]
    return resources


def policy_name(access: str, key: str) -> str:
    """Return the name of a key's policy, such as ``kubevault-reader-KEY``."""
    return f"kubevault-{access}-{key}"


def policy_names(key: str) -> list[str]:
    """Return the names of all policies of a key; for the key ``*``, patterns for the operator's policy."""
    return [policy_name(access, key) for access in POLICY_PATHS]


def policy_resources(
    keys: Sequence[str],
    mount: str = "transit",
    digest_suffix: str = DIGEST_SUFFIX,
    workloads: Sequence[Mapping[str, Any]] | None = None,
    derived_keys: Sequence[str] | None = None,
) -> list[Definition]:
    """Return the resources of the policies of Transit keys, one for each key and kind of access.

    Args:
        keys: names of the keys.
        mount: path at which the Transit engine is mounted.
        digest_suffix: suffix of the name of a digest key.
        workloads: as of `role_resources`; each with ``own_secrets_only`` has a policy for each key that it reads with,
            to decrypt what is sealed in scope strict for its ``secrets``, and nothing else.
        derived_keys: those of the keys that are ``derived``: of others, Vault ignores the context.

    Raises:
        ConfigError: a name is not allowed. In a policy, some other characters would grant more (``*``, ``+``, ``"``).
            Or a workload with ``own_secrets_only`` names no Secrets, or reads with a key that is not derived.
    """
    _checked("mount", mount, VAULT_PATH)
    names = _key_names("transit keys", keys)
    derived = _key_names("derived keys", derived_keys or ())
    for key in names:
        _helpers(key, digest_suffix)
    _refuse_same("transit keys", names)
    return [
        {
            "path": f"sys/policies/acl/{policy_name(access, key)}",
            "data": {"policy": "".join((f"{POLICY_MARK}\n", *_rules(access, key, mount, digest_suffix)))},
        }
        for key in names
        for access in POLICY_PATHS
    ] + [
        {
            "path": f"sys/policies/acl/{own_policy_name(workload, key)}",
            "data": {"policy": "".join((f"{POLICY_MARK}\n", *_own_rules(workload, key, mount, derived)))},
        }
        for workload in _dicts("workloads", workloads or [])
        for key in workload.get("reads", ())
        if workload.get("own_secrets_only")
    ]


def own_policy_name(workload: Mapping[str, Any], key: str) -> str:
    """Return the name of the policy by which a workload decrypts its own Secrets alone; no key has one of this name."""
    return f"{policy_name('reader', key)}:{workload['role']}"


def workload_policy(owner: str) -> str:
    """Return the name of the policy that all roles of an owner have, and by which they are known as the owner's.

    Args:
        owner: whose roles they are, such as the name of an inventory.

    Raises:
        ConfigError: the name is not allowed.
    """
    return f"kubevault-workload-{_checked('owner', owner, VAULT_NAME).lower()}"


def workload_policy_resources(owner: str) -> list[Definition]:
    """Return the resource of an owner's `workload_policy`, which grants what a token does with itself.

    Raises:
        ConfigError: the name is not allowed.
    """
    return [{"path": f"sys/policies/acl/{workload_policy(owner)}", "data": {"policy": "".join(_self_rules())}}]


def config_path(mount: str) -> str:
    """Return the path of the configuration of a Kubernetes auth method."""
    return f"auth/{_checked('mount', mount, VAULT_PATH)}/config"


def renewer_policy(role: str) -> str:
    """Return the name of the policy by which a workload renews the token reviewer's token; for ``*``, a pattern."""
    return f"kubevault-renewer-{role}"


def renewer_policy_resources(
    workloads: Sequence[Mapping[str, Any]], kubernetes_host: str, kubernetes_ca_cert: str, mount: str = "kubernetes"
) -> list[Definition]:
    """Return the resources of the policies of workloads with ``renews_token_reviewer``.

    Each may give Vault another token to review with, and nothing else: a write that names another API or authority than
    the present ones, or none, is refused, and so is any further parameter. With a wrong token, it keeps workloads from
    logging in; it becomes none of them.

    Args:
        workloads: as of `role_resources`.
        kubernetes_host: address of the Kubernetes API, as the auth method has it.
        kubernetes_ca_cert: its authority, as PEM.
        mount: path at which the auth method is mounted.

    Raises:
        ConfigError: a name is not allowed, or the API or its authority is not named.

    Source: https://developer.hashicorp.com/vault/docs/concepts/policies#parameter-constraints
    """
    pinned: dict[str, Sequence[Any]] = {
        "kubernetes_host": [kubernetes_host],
        "kubernetes_ca_cert": [kubernetes_ca_cert],
        "disable_local_ca_jwt": [True],
    }
    path = config_path(mount)
    resources = []
    for workload in _dicts("workloads", workloads):
        if not workload.get("renews_token_reviewer"):
            continue
        role = _checked("workload: role", workload.get("role"), VAULT_NAME)
        for name, values in pinned.items():
            # In a policy, a star is a pattern (https://developer.hashicorp.com/vault/docs/concepts/policies).
            if not values[0] or "*" in str(values[0]):
                raise ConfigError(f"workload {role}: renews_token_reviewer: {name}: found {quoted(values[0])}")
        parameters = {**pinned, "token_reviewer_jwt": ()}
        rules = [
            POLICY_MARK + "\n",
            _rule(path, "update", parameters, required=list(parameters)),
            *_self_rules(),
        ]
        resources.append({"path": f"sys/policies/acl/{renewer_policy(role)}", "data": {"policy": "".join(rules)}})
    return resources


def owned(owner: str, keys: Sequence[str], workloads: Sequence[object], mount: str = "kubernetes") -> list[Definition]:
    """Return where entries of ours that are no longer configured are deleted: the option ``prune`` of vault_resource.

    Args:
        owner: whose roles they are.
        keys: the keys that are configured; without one, nothing is deleted: the inventory may not be whole.
        workloads: the workloads that are configured; the same holds for them.
        mount: path at which the auth method is mounted.

    Raises:
        ConfigError: a name is not allowed.
    """
    role = {
        "path": f"auth/{_checked('mount', mount, VAULT_PATH)}/role",
        "field": "token_policies",
        "contains": workload_policy(owner),
    }
    names = [*policy_names("*"), renewer_policy("*")]
    policy = {"path": "sys/policies/acl", "names": names, "field": "policy", "contains": POLICY_MARK}
    # The policies last: until then, no role may lack one.
    return [role, policy] if keys and workloads else []


def lease_name(key: str, shard: tuple[int, int] | None = None) -> str:
    """Return the name of the Lease that a rotation of a key holds, such as ``kubevault-rotation-KEY``.

    A name that Kubernetes would refuse, because of the key's letters or length, gets a hash of the key instead of
    what is not allowed.

    Args:
        key: the Transit key.
        shard: index, from 0, and number of the shards that the rotation is divided into.
    """
    index, shards = shard or (0, 1)
    end = f"-shard-{index}-of-{shards}" if shards > 1 else ""
    name = f"{LEASE_PREFIX}{key}{end}"
    return name if SUBDOMAIN.allows(name) else f"{LEASE_PREFIX}{_spelled(key, 100)}{end}"


def cronjob_name(key: str) -> str:
    """Return the name of the CronJob that rotates a key: as that of its Lease, of 52 characters at most.

    Args:
        key: the Transit key.

    Raises:
        ConfigError: the key's name is not allowed.

    Source: https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#cron-jobs
    """
    name = lease_name(_checked("transit key", key, VAULT_NAME))
    return name if len(name) <= CRONJOB_NAME else f"{LEASE_PREFIX}{_spelled(key, 16)}"


def _spelled(key: str, most: int) -> str:
    """Return a key's name as part of a name in Kubernetes, cut, with a hash of the key."""
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return f"{re.sub(r'[^a-z0-9]+', '-', key.lower())[:most].strip('-')}-{digest}"


def lease_names(keys: Sequence[str], shards: int = 1) -> list[str]:
    """Return the names of all Leases of rotations of keys, by `lease_name`.

    Args:
        keys: the Transit keys.
        shards: number of the shards that each rotation is divided into; 1 if it is not.

    Raises:
        ConfigError: a name is not allowed.
    """
    names = _key_names("transit keys", keys)
    whole = [lease_name(key) for key in names]
    # An undivided run too: a rotation may be run by hand.
    return whole + [lease_name(key, (index, shards)) for key in names for index in range(shards) if shards > 1]


def audit_resources(devices: Sequence[Mapping[str, Any]]) -> list[Definition]:
    """Return the resources of audit devices.

    Args:
        devices: ``name``, ``type`` ("file", "syslog" or "socket") and ``options`` of each, whose values are texts.

    Raises:
        ConfigError: a field is missing or not allowed, such as the option ``log_raw``: the log holds hashes of secrets,
            never secrets.

    Source: https://developer.hashicorp.com/vault/docs/audit
    """
    resources = []
    for device in _dicts("audit devices", devices):
        name = _checked("audit device: name", device.get("name"), VAULT_NAME)
        if (kind := device.get("type")) not in AUDIT_TYPES:
            raise ConfigError(f"audit device {name}: type: found {quoted(kind)}, allowed is {', '.join(AUDIT_TYPES)}")
        options = dict(device.get("options") or {})
        if "log_raw" in options:
            raise ConfigError(f"audit device {name}: options: found log_raw, which would log secrets; leave it out")
        if kind == "file" and not options.get("file_path"):
            raise ConfigError(f"audit device {name}: options: file_path is missing")
        resources.append({"path": f"sys/audit/{name}", "data": {"type": kind, "options": options}})
    return resources


def role_resources(
    workloads: Sequence[Mapping[str, Any]],
    mount: str = "kubernetes",
    audience: str = "vault",
    owner: str = "kubevault",
) -> list[Definition]:
    """Return the resources of workloads' roles of the Kubernetes auth method.

    Args:
        workloads: ``role``, ``service_account`` and ``namespace`` of each; its keys in ``reads``, ``seals``,
            ``rotates`` and ``retires``; and, if they differ, ``audience``, ``token_type``, ``token_ttl`` and
            ``token_max_ttl``; ``own_secrets_only`` if what it reads is limited to its ``secrets``;
            ``renews_token_reviewer`` if it renews the token with which Vault reviews others.
        mount: path at which the auth method is mounted.
        audience: audience of a workload's token, unless the workload names its own.
        owner: whose roles they are; see `workload_policy`.

    Raises:
        ConfigError: a field is missing or not allowed, such as ``*``, which Vault takes for any service account; two
            workloads have the same role; or a workload could both encrypt and decrypt with a key.
    """
    _checked("mount", mount, VAULT_PATH)
    resources = [_role(each, mount, audience, owner) for each in _dicts("workloads", workloads)]
    _refuse_same("workloads: role", [str(each["role"]) for each in workloads])
    return resources


def _role(workload: Mapping[str, Any], mount: str, audience: str, owner: str) -> Definition:
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
        "token_policies": _token_policies(named, workload, owner),
        "token_ttl": ttl,
        "token_max_ttl": workload.get("token_max_ttl", ttl),
        **ROLE_DEFAULTS,
    }
    return {"path": f"auth/{mount}/role/{role}", "data": data}


def _token_policies(named: str, workload: Mapping[str, Any], owner: str) -> list[str]:
    keys = {field: _key_names(f"{named}: {field}", workload.get(field, ())) for field in GRANTS}
    if both := sorted({*keys["reads"]} & {*keys["seals"]}):
        raise ConfigError(f"{named} both reads and seals with {', '.join(both)}", remedy="make two workloads of it")
    policies = [
        own_policy_name(workload, key)
        if field == "reads" and workload.get("own_secrets_only")
        else policy_name(access, key)
        for field, access in GRANTS.items()
        for key in keys[field]
    ]
    if workload.get("renews_token_reviewer"):
        policies.append(renewer_policy(workload["role"]))
    # A role that grants nothing, such as the token reviewer's, needs no owner.
    return [*policies, workload_policy(owner)] if policies else []


def _helpers(key: str, digest_suffix: str) -> tuple[str, str]:
    """Return the names of the keys of a Transit key's digests, and of the proofs of its rewraps."""
    names = {"digest key": f"{key}{digest_suffix}", "rewrap key": rewrap_key(key)}
    digest_key, proof_key = (_checked(f"{kind}: name", name, VAULT_NAME) for kind, name in names.items())
    return digest_key, proof_key


def _rules(access: str, key: str, mount: str, digest_suffix: str) -> Iterator[str]:
    """Yield the rules of a policy as HCL (https://developer.hashicorp.com/vault/docs/concepts/policies)."""
    digest_key, proof_key = _helpers(key, digest_suffix)
    for path, capability in POLICY_PATHS[access].items():
        full = f"{mount}/{path.format(key=key, digest_key=digest_key, rewrap_key=proof_key)}"
        yield _rule(full, capability, dict.fromkeys(ALLOWED_PARAMETERS.get(path, ()), ()))
    yield from _self_rules()


def _self_rules() -> Iterator[str]:
    """Yield the rules of what each token may do with itself."""
    for path, capability in SELF_PATHS.items():
        yield _rule(path, capability)


def _own_rules(workload: Mapping[str, Any], key: str, mount: str, derived_keys: Sequence[str]) -> Iterator[str]:
    """Yield the rules of a policy that allows the contexts of a workload's Secrets alone.

    In a batch, Vault does not look at the contexts, so no batch is allowed.

    Source: https://developer.hashicorp.com/vault/docs/concepts/policies#parameter-constraints
    """
    named = f"workload {workload['role']}"
    namespace = _checked(f"{named}: namespace", workload.get("namespace"), NAMESPACE)
    secrets = [_checked(f"{named}: secrets", name, SUBDOMAIN) for name in _items(named, workload.get("secrets", ()))]
    if not secrets:
        raise ConfigError(f"{named}: own_secrets_only: found no secrets", remedy="name those that it reads in secrets")
    if key not in derived_keys:
        raise ConfigError(
            f"{named}: own_secrets_only: key {key} is not derived, so Vault would decrypt all of it in any context",
            remedy="let it read with derived keys alone",
        )
    contexts = [text for name in secrets for text in _context_globs(f"{namespace}/{name}/")]
    parameters: dict[str, Sequence[str]] = {"ciphertext": (), "context": contexts}
    yield _rule(f"{mount}/decrypt/{key}", "update", parameters, required=["context"])
    yield from _self_rules()


def _context_globs(beginning: str) -> list[str]:
    """Return what all texts in base64 begin with whose bytes begin with a text, and then have one of a data key.

    Three bytes are four letters of base64; what is left of the text is one or two bytes, whose last letter also has
    bits of the next byte.
    """
    whole = len(beginning) // 3 * 3
    rest = beginning[whole:].encode()
    letters = {base64.b64encode(rest + byte.encode())[: len(rest) + 1 if rest else 0].decode() for byte in _KEY_BYTES}
    head = base64.b64encode(beginning[:whole].encode()).decode()
    return [f"{head}{letter}*" for letter in sorted(letters)]


_KEY_BYTES = string.ascii_letters + string.digits + "-._"


def _rule(
    path: str,
    capability: str,
    parameters: Mapping[str, Sequence[Any]] | None = None,
    required: Sequence[str] = (),
) -> str:
    """Return a rule as HCL.

    Args:
        path: the path.
        capability: what is allowed there.
        parameters: the only ones that are allowed, each with the values that are; any value if there are none.
        required: those without which a request is refused. Vault lets an empty text pass for any value that is
            allowed, so that it is denied where values are named.
    """
    needed = f"  required_parameters = [{_quoted(required)}]\n" if required else ""
    empty = "".join(f'    "{name}" = [""]\n' for name in required if parameters and parameters[name])
    denied = f"  denied_parameters = {{\n{empty}  }}\n" if empty else ""
    allowed = "".join(f'    "{name}" = [{_quoted(values)}]\n' for name, values in (parameters or {}).items())
    limit = f"  allowed_parameters = {{\n{allowed}  }}\n" if allowed else ""
    return f'path "{path}" {{\n  capabilities = ["{capability}"]\n{needed}{denied}{limit}}}\n'


def _quoted(values: Iterable[Any]) -> str:
    return ", ".join(map(json.dumps, values))


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


def _refuse_same(kind: str, names: Sequence[str]) -> None:
    """Raise ConfigError if two names are one for Vault, which takes those of policies and roles without case."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{kind}: {', '.join(twice)} is defined twice")
    by_name: dict[str, list[str]] = {}
    for name in names:
        by_name.setdefault(name.lower(), []).append(name)
    if same := [" and ".join(spellings) for spellings in by_name.values() if len(spellings) > 1]:
        raise ConfigError(
            f"{kind}: {', '.join(same)} are one name for Vault, whose policies and roles have no case",
            remedy="rename one of them",
        )


def _checked(kind: str, name: Any, rule: NameRule) -> str:
    if name is None or name == "":
        raise ConfigError(f"{kind} is missing")
    if not rule.allows(name):
        raise ConfigError(rule.refusal(kind, name))
    return str(name)
