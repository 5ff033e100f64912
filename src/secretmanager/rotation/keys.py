"""Versions of a Transit key: make a new one, and retire old ones.

Source: https://developer.hashicorp.com/vault/api-docs/secret/transit
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ..admin.comparison import seconds
from ..errors import ConfigError, VaultError
from ..servers.vault import VaultClient, version_times

ROTATION_TIMEOUT = 300.0
"""How long the other shards wait until the first one has rotated, in seconds."""


@dataclass(frozen=True)
class KeyVersions:
    """The versions of a Transit key.

    Attributes:
        name: the key's name.
        newest: newest version.
        min_decryption: oldest version that decrypts.
        min_encryption: oldest version that encrypts; 0 for the newest alone.
        min_available: oldest version that is kept; 0 if none was trimmed.
        derived: whether what it seals is bound to a context.
        creation_times: when each version that decrypts was made, in seconds since the epoch.
    """

    name: str
    newest: int
    min_decryption: int
    min_encryption: int
    min_available: int
    derived: bool
    creation_times: Mapping[int, float]

    @classmethod
    def read(cls, vault: VaultClient, name: str) -> KeyVersions:
        """Ask Vault for them.

        Raises:
            TransitKeyNotFound: there is no such key.
            PermissionDenied: the token lacks ``read`` on the key.
        """
        return vault.read_key_as(
            name,
            lambda key: cls(
                name,
                int(key["latest_version"]),
                int(key["min_decryption_version"]),
                int(key["min_encryption_version"]),
                int(key.get("min_available_version") or 0),
                bool(key["derived"]),
                version_times(key),
            ),
        )

    @property
    def age(self) -> float:
        """Age of the newest version, in seconds."""
        return time.time() - self.creation_times[self.newest]


def rotate(
    vault: VaultClient, versions: KeyVersions, older_than: float, *, check: bool = False
) -> tuple[KeyVersions, bool]:
    """Make a new version of a key, if its newest one is old enough.

    Args:
        vault: client whose token may ``read`` the key and rotate it.
        versions: the key's versions.
        older_than: least age of the newest version, in seconds; 0 makes a new one in any case.
        check: make nothing.

    Returns:
        The versions as they are then, and whether one was, or would be, made.

    Raises:
        TransitKeyNotFound, PermissionDenied: as `KeyVersions.read`.
    """
    if versions.age < older_than:
        return versions, False
    if not check:
        vault.rotate_key(versions.name)
        versions = KeyVersions.read(vault, versions.name)
    return versions, True


def await_rotation(vault: VaultClient, versions: KeyVersions, older_than: float) -> KeyVersions:
    """Wait until another process has made a new version of a key, if its newest one is old enough.

    Args:
        vault: client whose token may ``read`` the key.
        versions: the key's versions.
        older_than: least age of the newest version, in seconds, with which the other process rotates.

    Returns:
        The versions as they are then.

    Raises:
        ConfigError: with no such age, nobody can tell whether the other one has rotated already.
        VaultError: there is no new version after `ROTATION_TIMEOUT`.
    """
    if not older_than:
        raise ConfigError("older_than: found 0, together with a shard; allowed is more, such as 1h")
    end = time.monotonic() + ROTATION_TIMEOUT
    while versions.age >= older_than:
        if time.monotonic() > end:
            raise VaultError(
                f"the first shard has made no new version in {ROTATION_TIMEOUT:g} s",
                place=f"Transit key {versions.name}",
                remedy="run the shard with index 0 at the same time; to rewrap without a rotation, use rewrap",
            )
        time.sleep(1)
        versions = KeyVersions.read(vault, versions.name)
    return versions


def retire(vault: VaultClient, versions: KeyVersions, *, trim: bool, check: bool = False) -> bool:
    """Have a key decrypt nothing that an older version than the newest sealed.

    Args:
        vault: client whose token may configure the key, and trim it.
        versions: the key's versions.
        trim: also delete the older versions, for ever.
        check: change nothing.

    Returns:
        Whether something was, or would be, changed.
    """
    newest = versions.newest
    parameters = {"min_decryption_version": newest} if newest > versions.min_decryption else {}
    trimmed = trim and newest > max(1, versions.min_available)
    if trimmed and newest > versions.min_encryption:
        parameters["min_encryption_version"] = newest  # Vault trims no version that it might still encrypt with
    if parameters and not check:
        vault.configure_key(versions.name, parameters)
    if trimmed and not check:
        vault.trim_key(versions.name, newest)
    return bool(parameters) or trimmed


def duration(text: str, option: str = "older_than") -> float:
    """Parse a duration such as ``30d``, ``12h``, ``90m`` or ``0``; return seconds.

    Raises:
        ConfigError: it has another form, or no unit: 30 would be seconds, and days are meant.
    """
    if not re.fullmatch(r"0|\d+[smhd]", text):
        raise ConfigError(f"{option}: found {text!r}; allowed is a number with s, m, h or d, such as 30d, or 0")
    return float(seconds(text))
