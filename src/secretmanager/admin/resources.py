"""Declarative resources of Vault's API: read, compare, write.

A resource is a path whose GET returns what its POST sets, as most of Vault's API does. The exceptions (a mount is
changed by its ``tune``, a Transit key by its ``config``) are each a `Kind` in the table KINDS.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Literal

from ..errors import ConfigError, PermissionDenied, VaultError
from .comparison import Difference, differences
from .connection import Vault

WRITE_ONLY = "(write-only)"
NOT_SET = "(not set)"

# Allowed paths: no query, no fragment, no dot segment, no character that needs quoting.
_PATH = re.compile(r"(?!v1/)(?!.*(^|/)\.{1,2}(/|$))[\w.@:+=~-]+(/[\w.@:+=~-]+)+")

Values = Mapping[str, object]
Differences = Mapping[str, Difference]
Write = tuple[str, dict[str, object]]


@dataclass(frozen=True)
class Resource:
    """The declaration of one path.

    Attributes:
        path: API path without ``/v1/``, such as ``transit/keys/NAME``.
        data: fields that are compared and written. Other fields are left unchanged.
        secret_data: write-only fields, which are sent with each write, never compared and never shown.
        refresh: write even though ``data`` matches, because ``secret_data`` is newer than in Vault.
        state: "present" or "absent".

    Raises:
        ConfigError: a path, field or combination that is not valid.
    """

    path: str
    data: Values = field(default_factory=dict)
    secret_data: Values = field(default_factory=dict, repr=False)
    refresh: bool = False
    state: Literal["present", "absent"] = "present"

    def __post_init__(self) -> None:
        if not _PATH.fullmatch(self.path):
            raise ConfigError(
                f"path: found {self.path!r}, allowed is a path of Vault's API without /v1/, such as transit/keys/NAME"
            )
        if self.state == "absent":
            if self.data or self.secret_data or self.refresh:
                raise ConfigError(f"{self.path}: state absent takes no data, secret_data or refresh")
            return
        if not self.data and not self.secret_data:
            raise ConfigError(f"{self.path}: state present needs data")
        if self.refresh and not self.secret_data:
            raise ConfigError(f"{self.path}: refresh is true, but there is no secret_data to send again")
        for name, value in (*self.data.items(), *self.secret_data.items()):
            if value is None:
                raise ConfigError(f"{self.path}: {name} is null; give it a value or leave it out")
        if both := self.data.keys() & self.secret_data.keys():
            raise ConfigError(f"{self.path}: {', '.join(sorted(both))} is in data and in secret_data")


@dataclass(frozen=True)
class Outcome:
    """The changes that `apply` made to one resource, or would make in check mode.

    Attributes:
        path: the resource's path.
        changed: whether Vault was written to, or would be.
        before: the fields that differ, as found; ``{"state": "absent"}`` if there was nothing.
        after: the same fields, as wanted; ``{"state": "absent"}`` if nothing is left.
        warnings: warnings in Vault's responses to the writes.
        denied: whether the token may not make the changes; known by `foretell` alone.
    """

    path: str
    changed: bool = False
    before: Values = field(default_factory=dict)
    after: Values = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    denied: bool = False

    @property
    def fields(self) -> list[str]:
        """Names of the fields that differ."""
        return sorted({*self.before, *self.after})

    @property
    def summary(self) -> str:
        """What changes: "new", "deleted", or the names of the fields; "not readable" if nothing is known."""
        if self.fields and self.after.get("state") == "absent":
            return "deleted"
        return "new" if self.before.get("state") == "absent" else ", ".join(self.fields) or "not readable"

    def diff(self) -> dict[str, str]:
        """Return before and after as texts, for Ansible's diff."""
        return {
            "before_header": self.path,
            "after_header": self.path,
            "before": _text(self.before),
            "after": _text(self.after),
        }


class Kind:
    """A path that is read, written and deleted as it is: policies, roles and most others."""

    def read(self, vault: Vault, path: str) -> Values | None:
        """Return Vault's data; None if nothing exists there."""
        return vault.read(path)

    def complete(self, current: Values) -> Values:
        """Return Vault's data with the defaults of the fields that Vault omits."""
        return current

    def writes(self, path: str, desired: Values, current: Values | None, pending: Differences) -> Iterator[Write]:
        """Return the requests, each a path and a body, that set the wanted fields.

        Args:
            path: the resource's path.
            desired: all fields given, the secret ones too.
            current: Vault's data; None if nothing exists there.
            pending: the `Difference` of each field that differs, by dotted name.

        Raises:
            ConfigError: a difference that Vault cannot remove.
        """
        yield path, dict(desired)

    def check_removal(self, path: str, current: Values) -> None:
        """Raise ConfigError if Vault would refuse to delete it."""


class Mount(Kind):
    """A secrets engine or auth method: created at its path, changed by its ``tune``.

    Source: https://developer.hashicorp.com/vault/api-docs/system/mounts and /system/auth
    """

    def writes(self, path: str, desired: Values, current: Values | None, pending: Differences) -> Iterator[Write]:
        """Create the mount, or tune it."""
        if current is None:
            yield path, dict(desired)
            return
        tunable = ("description", "options", "plugin_version")
        _refuse(
            path,
            {name: d for name, d in pending.items() if name.split(".")[0] not in ("config", *tunable)},
            "cannot be changed in a mount; move the data to a new mount, or set the field to what is found",
        )
        config = desired.get("config")
        body = {name: desired[name] for name in tunable if name in desired}
        yield f"{path}/tune", body | (dict(config) if isinstance(config, Mapping) else {})


class TransitKey(Kind):
    """A key of the Transit engine: created at its path, changed by its ``config``; its type is fixed.

    Source: https://developer.hashicorp.com/vault/api-docs/secret/transit#create-key, #update-key-configuration
    """

    _only_config = frozenset({"min_decryption_version", "min_encryption_version", "deletion_allowed"})
    _only_on = frozenset({"exportable", "allow_plaintext_backup"})
    _config = _only_config | _only_on | {"auto_rotate_period"}

    def complete(self, current: Values) -> Values:
        """Add what Vault omits."""
        return {"convergent_encryption": False, "key_size": 0, **current}

    def writes(self, path: str, desired: Values, current: Values | None, pending: Differences) -> Iterator[Write]:
        """Create the key, or change its configuration."""
        if current is None:
            yield path, {name: value for name, value in desired.items() if name not in self._only_config}
            if later := {name: value for name, value in desired.items() if name in self._only_config}:
                yield f"{path}/config", later
            return
        _refuse(
            path,
            {name: d for name, d in pending.items() if name not in self._config},
            "is fixed when a key is created; use a key of another name, or set the field to what is found",
        )
        _refuse(
            path,
            {name: d for name, d in pending.items() if name in self._only_on and d.found is True},
            "can be turned on, never off; use a key of another name",
        )
        yield f"{path}/config", {name: desired[name] for name in pending}

    def check_removal(self, path: str, current: Values) -> None:
        """Raise ConfigError if the key may not be deleted."""
        if current.get("deletion_allowed") is False:
            raise ConfigError(
                f"{path}: found deletion_allowed false, so Vault refuses to delete the key; if what it encrypted"
                " is no longer needed, set deletion_allowed: true first"
            )


class AuthConfig(Kind):
    """The config of an auth method; Vault replaces that of the Kubernetes method as a whole.

    A field that a write omits is reset to its default (observed with Vault 1.21; pathConfigWrite of
    vault-plugin-auth-kubernetes), so a write repeats what was found.
    """

    def writes(self, path: str, desired: Values, current: Values | None, pending: Differences) -> Iterator[Write]:
        """Write the wanted fields, and repeat those that were found."""
        repeated: dict[str, object] = {}
        if current is not None and "kubernetes_host" in current:
            for name, value in current.items():
                secret = name.removesuffix("_set")
                if secret == name:
                    repeated[name] = value
                elif value is True and secret not in desired:
                    raise ConfigError(
                        f"{path}: Vault holds {secret}, which cannot be read, and a write without it would remove"
                        f" it; give {secret} in secret_data"
                    )
        yield path, {**repeated, **desired}


class AuditDevice(Kind):
    """An audit device: Vault lists them all, and changes none.

    Source: https://developer.hashicorp.com/vault/api-docs/system/audit
    """

    def read(self, vault: Vault, path: str) -> Values | None:
        """Look it up in the list."""
        device = (vault.read("sys/audit") or {}).get(f"{path.removeprefix('sys/audit/')}/")
        return device if isinstance(device, dict) else None

    def writes(self, path: str, desired: Values, current: Values | None, pending: Differences) -> Iterator[Write]:
        """Enable the device."""
        if current is not None:
            _refuse(path, pending, "is fixed when it is enabled; enable one of another name, then delete this one")
        yield path, dict(desired)


# The first pattern that matches a path determines its kind.
KINDS: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"sys/(mounts|auth)/.+(?<!/tune)"), Mount()),
    (re.compile(r"sys/audit/.+"), AuditDevice()),
    (re.compile(r".+/keys/[^/]+"), TransitKey()),
    (re.compile(r"auth/.+/config"), AuthConfig()),
    (re.compile(r".+"), Kind()),
)


def check_batch(resources: Iterable[Resource]) -> None:
    """Raise ConfigError if two resources of a batch have the same path."""
    paths: set[str] = set()
    for resource in resources:
        if resource.path in paths:
            raise ConfigError(f"{resource.path}: found twice in resources; allowed is one entry for each path")
        paths.add(resource.path)


@dataclass(frozen=True)
class _Plan:
    """What is to be done to a resource.

    Attributes:
        kind: its kind.
        outcome: what changes.
        writes: the requests that do it; none for a resource that is as wanted, or is to be deleted.
        deletes: whether it is to be deleted.
    """

    kind: Kind
    outcome: Outcome
    writes: Sequence[Write] = ()
    deletes: bool = False

    def denied(self, vault: Vault) -> bool:
        """Whether the connection's token may not do it."""
        paths = [path for path, _ in self.writes] or [self.outcome.path]
        needed = {"delete"} if self.deletes else {"create", "update"}
        return any(capabilities.isdisjoint({*needed, "root"}) for capabilities in map(vault.capabilities, paths))


def apply(vault: Vault, resource: Resource, *, check: bool = False) -> Outcome:
    """Create, change or delete one resource; write nothing if Vault's state is the wanted one.

    Args:
        vault: connection with a token whose policies let it read and write the path.
        resource: the wanted state.
        check: report what would change, and write nothing.

    Raises:
        ConfigError: a difference that Vault cannot remove (a fixed field), or a key that must not be deleted.
        PermissionDenied: the token's policies lack a capability; names path and capability.
        VaultError: Vault refused a value, or returns another value than was written.
    """
    plan = _plan(vault, resource)
    if check or not plan.outcome.changed:
        return plan.outcome
    warnings = vault.delete(resource.path) if plan.deletes else ()
    for target, body in plan.writes:
        warnings += vault.write(target, body)
    if not plan.deletes:
        _verify(plan.kind, vault, resource)
    return replace(plan.outcome, warnings=warnings)


def foretell(vault: Vault, resource: Resource) -> Outcome:
    """Return what `apply` would change, and whether the connection's token may.

    Raises:
        ConfigError, VaultError: as `apply`. What the token may not even read counts as changed and denied.
    """
    try:
        plan = _plan(vault, resource)
    except PermissionDenied:
        return Outcome(resource.path, changed=True, denied=True)
    return replace(plan.outcome, denied=plan.outcome.changed and plan.denied(vault))


@dataclass(frozen=True)
class Owned:
    """A list of Vault, and the mark of those of its entries that are ours.

    Attributes:
        path: the list, such as ``auth/kubernetes/role``.
        field: the field of an entry that has the mark, a list or a text of lines.
        contains: the mark, an item of that list or a line of that text.
        names: patterns, as of `fnmatch`, of the names of the entries that are read.
    """

    path: str
    field: str
    contains: str
    names: Sequence[str] = ("*",)

    def marks(self, data: Values) -> bool:
        """Whether an entry with this data is ours."""
        value = data.get(self.field)
        items = value.splitlines() if isinstance(value, str) else value
        return isinstance(items, list) and self.contains in items


def superfluous(vault: Vault, owned: Owned, resources: Iterable[Resource]) -> list[Resource]:
    """Return, as absent, the entries of ours in a list of Vault that are not among the wanted resources.

    Raises:
        PermissionDenied, VaultError: the list, or an entry whose name matches, cannot be read.
    """
    configured = {
        resource.path.lower() for resource in resources
    }  # Vault takes names of policies and roles without case
    paths = [
        f"{owned.path}/{name}" for name in vault.list(owned.path) if any(map(partial(fnmatchcase, name), owned.names))
    ]
    unconfigured = [path for path in paths if path.lower() not in configured]
    return [Resource(path, state="absent") for path in unconfigured if owned.marks(vault.read(path) or {})]


def _plan(vault: Vault, resource: Resource) -> _Plan:
    kind = next(kind for pattern, kind in KINDS if pattern.fullmatch(resource.path))
    path = resource.path
    answer = kind.read(vault, path)
    current = None if answer is None else kind.complete(answer)

    if resource.state == "absent":
        if current is None:
            return _Plan(kind, Outcome(path))
        kind.check_removal(path, current)
        return _Plan(kind, Outcome(path, True, {"state": "present"}, {"state": "absent"}), deletes=True)

    pending = differences(resource.data, current or {})
    unset = _unset(resource, current or {})
    if current is not None and not (pending or unset or resource.refresh):
        return _Plan(kind, Outcome(path))
    writes = list(kind.writes(path, {**resource.data, **resource.secret_data}, current, pending))
    before, after = _shown(resource, current, pending, unset)
    return _Plan(kind, Outcome(path, True, before, after), writes)


def _unset(resource: Resource, current: Values) -> list[str]:
    """Return the names of the secret fields that Vault reports as not set (``FIELD_set: false``)."""
    return [name for name in resource.secret_data if current.get(f"{name}_set") is False]


def _shown(
    resource: Resource, current: Values | None, pending: Differences, unset: Iterable[str]
) -> tuple[Values, Values]:
    """Return before and after for a diff: the fields that change, without secrets."""
    secrets = dict.fromkeys(resource.secret_data, WRITE_ONLY)
    if current is None:
        return {"state": "absent"}, {"state": "present", **resource.data, **secrets}
    before = {name: NOT_SET if d.found is None else d.found for name, d in pending.items()}
    after = {name: d.wanted for name, d in pending.items()}
    resent = dict.fromkeys(secrets, f"{WRITE_ONLY} sent again")
    return before | secrets | dict.fromkeys(unset, NOT_SET), after | resent | dict.fromkeys(unset, WRITE_ONLY)


def _verify(kind: Kind, vault: Vault, resource: Resource) -> None:
    """Read the resource again: Vault ignores an unknown field, often without a warning."""
    answer = kind.read(vault, resource.path)
    if answer is None:
        raise VaultError(
            f"{resource.path}: written, but a read returns nothing; vault_resource is for paths whose read returns"
            " what a write sets"
        )
    current = kind.complete(answer)
    for name, difference in differences(resource.data, current).items():
        reason = f"{difference}" if difference.found is not None else f"it knows {', '.join(sorted(current))}"
        raise VaultError(f"{resource.path}: Vault did not accept the field {name}: {reason}")
    for name in _unset(resource, current):
        raise VaultError(f"{resource.path}: Vault did not accept the field {name}: {name}_set is still false")


def _text(values: Values) -> str:
    """Return fields as text, one on a line; a value of several lines, such as a policy, as those lines."""
    lines: list[str] = []
    for name, value in sorted(values.items()):
        if isinstance(value, str) and "\n" in value:
            lines += [f"{name}:", *(f"  {line}" for line in value.splitlines())]
        else:
            lines.append(f"{name}: {json.dumps(value)}")
    return "\n".join(lines) + "\n"


def _refuse(path: str, pending: Differences, reason: str) -> None:
    for name, difference in pending.items():
        raise ConfigError(f"{path}: {name}: {difference}; it {reason}")
