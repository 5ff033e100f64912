"""What is sealed in which Secret, with which version of which key, without decrypting anything."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from ..errors import (
    PermissionDenied,
    SecretManagerError,
    TransitKeyNotFound,
    VaultError,
    unexpected,
)
from ..sealed import MANIFEST_KEY, Scope, SealedSecret, SealedValue, key_version
from ..servers.vault import TransitItem, VaultClient, version_times
from .exposure import exposing_annotations

DAY = 86400
"""A day, in seconds."""

Fault = Literal["behind", "damaged", "plain", "unreadable"]
"""What can be wrong with a Secret; `faults` says what each means."""


@dataclass(frozen=True)
class ValueInfo:
    """One sealed value.

    Attributes:
        key: its data key.
        version: version of the Transit key that sealed it.
        behind: whether the Transit key has a newer version; None if that is not known.
        managed: whether it was sealed here, so that there is a digest of it; else an older tool sealed it.
        damaged: whether the ciphertext is not the one that was written here.
        unreadable: whether the Transit key no longer decrypts this version; None if that is not known.
        created: when the version was made, in seconds since the epoch; None if that is not known.
        oldest_version: oldest version that sealed the same value, before it was rewrapped; None if that is not known.
    """

    key: str
    version: int
    behind: bool | None
    managed: bool
    damaged: bool
    unreadable: bool | None = None
    created: float | None = None
    oldest_version: int | None = None


@dataclass(frozen=True)
class SecretInfo:
    """One Secret.

    Attributes:
        namespace: its namespace.
        name: its name.
        transit_key: the Transit key that its manifest names; None without a manifest.
        scope: where its values decrypt; None without a manifest.
        newest_version: newest version of the Transit key; None if that is not known.
        behind: whether a value is sealed with an older version; None if that is not known.
        values: its sealed values.
        plain_keys: data keys whose values are not sealed, also where the manifest says that they are.
        missing_keys: data keys that were sealed here and are gone.
        exposing_annotations: annotations that hold plaintext of its sealed data keys.
        error: why the manifest cannot be read; None if it can, or there is none.
        sealed_for: the Secret, ``namespace/name``, that its values were sealed for and of which it is a copy that no
            reader can open; None if that is itself, or not known.
        key_missing: whether Vault has no Transit key of that name.
    """

    namespace: str
    name: str
    transit_key: str | None
    scope: Scope | None
    newest_version: int | None
    behind: bool | None
    values: tuple[ValueInfo, ...]
    plain_keys: tuple[str, ...]
    missing_keys: tuple[str, ...]
    exposing_annotations: tuple[str, ...] = ()
    error: str | None = None
    sealed_for: str | None = None
    key_missing: bool = False


@dataclass(frozen=True)
class KeyState:
    """What is known of the versions of a Transit key.

    Attributes:
        newest: the newest version; None if there is no such key.
        oldest: the oldest version that still decrypts; None if that is not known.
        created: when each version was made, in seconds since the epoch, as far as that is known.
    """

    newest: int | None
    oldest: int | None = None
    created: Mapping[int, float] = field(default_factory=dict)

    def behind(self, version: int) -> bool | None:
        """Whether there is a newer version; None if there is no such key."""
        return None if self.newest is None else version < self.newest

    def unreadable(self, version: int) -> bool | None:
        """Whether a version is not decrypted; None if that is not known."""
        if self.newest is None:
            return True
        return None if self.oldest is None else not self.oldest <= version <= self.newest


class KeyStates:
    """Finds out the state of Transit keys, each once.

    A token that may read the key learns it from Vault. A sealer may not: it has an empty text encrypted, and reads the
    newest version, but no more, from the ciphertext.

    Args:
        vault: client that is logged in; None to find out nothing.
    """

    def __init__(self, vault: VaultClient | None) -> None:
        self._vault = vault
        self._known: dict[str, KeyState | None] = {}

    def __call__(self, transit_key: str) -> KeyState | None:
        """Return the state of a key; None if the token may neither read it nor encrypt with it.

        Raises:
            VaultError: Vault refused otherwise, or is unreachable.
        """
        if transit_key not in self._known:
            self._known[transit_key] = self._find(self._vault, transit_key) if self._vault else None
        return self._known[transit_key]

    def _find(self, vault: VaultClient, transit_key: str) -> KeyState | None:
        try:
            return vault.read_key_as(transit_key, _key_state)
        except TransitKeyNotFound:
            return KeyState(None)
        except PermissionDenied:
            pass
        try:
            # A key that is not derived ignores the context.
            (ciphertext,) = vault.encrypt(transit_key, [TransitItem(b"", b"kubevault")])
        except (PermissionDenied, TransitKeyNotFound):
            return None
        except VaultError as error:
            if error.status != 400:
                raise
            return None  # a key of another type, which a manifest may name: anybody can write one
        return KeyState(key_version(ciphertext))


def _key_state(key: Mapping[str, Any]) -> KeyState:
    return KeyState(int(key["latest_version"]), int(key["min_decryption_version"]), version_times(key))


def inspect(
    secrets: Iterable[Mapping[str, Any]], states: KeyStates, transit_key: str | None = None
) -> Iterator[SecretInfo]:
    """Report what is sealed in Secrets.

    Args:
        secrets: as the Kubernetes API answers them.
        states: finds out the state of a Transit key.
        transit_key: the Transit key of Secrets whose manifest does not name one.
    """
    for secret in secrets:
        try:
            yield _inspected(secret, states, transit_key)
        except SecretManagerError:
            raise
        except Exception as error:  # noqa: BLE001 - what one tenant wrote hides no other Secret
            yield _unread(secret, unexpected(error))


def faults(info: SecretInfo, kinds: Collection[Fault]) -> list[str]:
    """Return what is wrong with a Secret, a line for each kind.

    Args:
        info: the Secret.
        kinds: "behind": a value is sealed with an older version. "damaged": a ciphertext is not the one that was
            written, or is gone, or the manifest is damaged. "plain": a value is not sealed, or an annotation holds it.
            "unreadable": Vault no longer decrypts the version of a value, or not in this Secret, since it is a copy.
            What is not known counts as wrong.
    """
    values = info.values
    keys_by_fault: dict[Fault, list[str]] = {
        "behind": [value.key for value in values if value.behind],
        "damaged": [value.key for value in values if value.damaged] + [*info.missing_keys],
        "plain": [*info.plain_keys, *info.exposing_annotations],
        "unreadable": [value.key for value in values if value.unreadable],
    }
    if info.error:
        keys_by_fault["damaged"].append(MANIFEST_KEY)
    reasons = {"unreadable": f" (sealed for {info.sealed_for})"} if info.sealed_for else {}
    lines = [
        f"{kind}: {', '.join(keys_by_fault[kind])}{reasons.get(kind, '')}"
        for kind in sorted(kinds)
        if keys_by_fault[kind]
    ]
    for kind in sorted({"behind", "unreadable"} & set(kinds)):
        if unknown := [value.key for value in values if value.version and getattr(value, kind) is None]:
            needs = "that needs Vault, permission to read the key, and the key's name where no manifest has it"
            if info.key_missing:
                needs = f"Transit key {info.transit_key or 'of that name'} does not exist"
            lines.append(f"not known whether {kind}: {', '.join(unknown)} ({needs})")
    return [f"{info.namespace}/{info.name}: {line}" for line in lines]


def compromised(info: SecretInfo, transit_key: str, version: int | None, fallback: str | None = None) -> list[str]:
    """Return the data keys whose values whoever knows versions of a Transit key may know, rewrapped or not.

    They have to be changed at their source. What an older tool sealed counts always: it is not known since when the
    value is the same.

    Args:
        info: the Secret.
        transit_key: the key that was compromised.
        version: its newest version that was; None for all.
        fallback: the Transit key of values that an older tool sealed; None if that is not known.
    """
    return [
        value.key
        for value in info.values
        if (info.transit_key if value.managed else fallback) in (transit_key, None)
        and (version is None or value.oldest_version is None or value.oldest_version <= version)
    ]


def _inspected(secret: Mapping[str, Any], states: KeyStates, fallback: str | None) -> SecretInfo:
    sealed = SealedSecret.of(secret)
    transit_key = sealed.transit_key or fallback
    state = states(transit_key) if transit_key else None
    values = [_value_info(key, value, sealed, state) for key, value in sorted(sealed.values.items())]
    values += [ValueInfo(key, 0, None, managed=True, damaged=True) for key in sorted(sealed.broken_keys)]
    behind = [value.behind for value in values if value.behind is not None]
    return SecretInfo(
        namespace=secret["metadata"]["namespace"],
        name=secret["metadata"]["name"],
        transit_key=sealed.transit_key,
        scope=sealed.manifest.scope if sealed.manifest else None,
        newest_version=state.newest if state else None,
        behind=any(behind) if behind else None,
        values=tuple(values),
        plain_keys=tuple(sorted(sealed.plain_keys)),
        missing_keys=tuple(sorted(sealed.missing_keys)),
        exposing_annotations=tuple(exposing_annotations(secret, sealed.values.keys() | sealed.managed_keys)),
        error=sealed.error,
        sealed_for=sealed.copied_from,
        key_missing=state is not None and state.newest is None,
    )


def _value_info(key: str, value: SealedValue, sealed: SealedSecret, state: KeyState | None) -> ValueInfo:
    unreadable = state.unreadable(value.version) if state else None
    return ValueInfo(
        key,
        value.version,
        behind=state.behind(value.version) if state else None,
        managed=value.managed,
        damaged=value.damaged,
        unreadable=True if sealed.copied_from and value.managed else unreadable,
        created=state.created.get(value.version) if state else None,
        oldest_version=value.oldest_version,
    )


def _unread(secret: Mapping[str, Any], error: str) -> SecretInfo:
    metadata = secret["metadata"]
    return SecretInfo(metadata["namespace"], metadata["name"], None, None, None, None, (), (), (), error=error)


def age_days(value: ValueInfo) -> int | None:
    """Return how long ago the version of a value was made, in whole days; None if that is not known."""
    return int((time.time() - value.created) // DAY) if value.created else None


def facts(info: SecretInfo) -> dict[str, Any]:
    """Return what is known of a Secret as a JSON object, its values under ``keys``."""
    keys = {
        value.key: {
            "version": value.version or None,
            "behind": value.behind,
            "managed": value.managed,
            "damaged": value.damaged,
            "unreadable": value.unreadable,
            "created": datetime.fromtimestamp(value.created, UTC).isoformat() if value.created else None,
            "age_days": age_days(value),
            "oldest_version": value.oldest_version,
        }
        for value in info.values
    }
    return {
        "namespace": info.namespace,
        "name": info.name,
        "transit_key": info.transit_key,
        "scope": info.scope.value if info.scope else None,
        "newest_version": info.newest_version,
        "behind": info.behind,
        "keys": keys,
        "plain_keys": list(info.plain_keys),
        "missing_keys": list(info.missing_keys),
        "exposing_annotations": list(info.exposing_annotations),
        "error": info.error,
        "sealed_for": info.sealed_for,
        "key_missing": info.key_missing,
    }
