"""Initialises Vault once and keeps it unsealed.

Source: https://developer.hashicorp.com/vault/api-docs/system/init, /system/unseal, /system/seal-status,
/system/health and /system/leader. None of these needs a token.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..errors import ConfigError, VaultError, VaultSealed, VaultUnavailable
from .connection import Vault
from .files import PrivateFile, check_folder, read_private

T = TypeVar("T")

_POLL = 0.1  # seconds between two requests to a Vault that is starting


@dataclass(frozen=True)
class Initialisation:
    """How Vault is to be initialised.

    Attributes:
        key_shares: number of unseal keys that the root key is split into.
        key_threshold: number of them that unseal Vault.
        keys_file: file to write the unseal keys to, as JSON with the names of ``vault operator init -format=json``.
        root_token_file: file to write the initial root token to.
        pgp_keys: public keys, base64, that encrypt one unseal key each, so that only their owners can unseal Vault.

    Raises:
        ConfigError: a number that Vault would refuse.
    """

    key_shares: int
    key_threshold: int
    keys_file: str
    root_token_file: str
    pgp_keys: Sequence[str] = ()

    def __post_init__(self) -> None:
        shares, threshold = self.key_shares, self.key_threshold
        if not 1 <= shares <= 255:
            raise ConfigError(f"key_shares: found {shares}, allowed is 1 to 255")
        lowest = 1 if shares == 1 else 2
        if not lowest <= threshold <= shares:
            raise ConfigError(
                f"key_threshold: found {threshold}, allowed is {lowest} to {shares} with {shares} key_shares"
            )
        if self.pgp_keys and len(self.pgp_keys) != shares:
            raise ConfigError(f"pgp_keys: found {len(self.pgp_keys)}, allowed are as many as key_shares, {shares}")


@dataclass(frozen=True)
class SealState:
    """Whether Vault is initialised and sealed."""

    initialized: bool
    sealed: bool


def ensure_unsealed(
    vault: Vault, wanted: Initialisation, *, timeout: float, check: bool = False
) -> tuple[SealState, SealState]:
    """Initialise Vault if it is not initialised, unseal it if it is sealed, and wait until it serves requests.

    Args:
        vault: connection without a token.
        wanted: how to initialise it, and the files of its keys.
        timeout: how long to wait for Vault's listener, and then for the active node, in seconds.
        check: report what would change, and write nothing.

    Returns:
        The state before and the state after (in check mode, the expected one). Vault stays sealed if its
        unseal keys are encrypted with PGP.

    Raises:
        ConfigError: a file already exists, is missing or is not writable; Vault is not changed.
        VaultUnavailable: Vault did not listen, or had no active node, in time.
        VaultError: Vault refused to be initialised, or the keys in the file are not its keys.
    """
    # In check mode, nothing is starting that would be worth waiting for.
    deadline = time.monotonic() + (0 if check else timeout)
    found = _await(lambda: _state(vault), f"{vault.url}: Vault does not listen", deadline)
    if not found.initialized:
        _initialise(vault, wanted, check=check)
    if found.sealed and not wanted.pgp_keys:
        if not check:
            _unseal(vault, wanted.keys_file)
        elif found.initialized:
            _keys(wanted.keys_file)
    left = SealState(initialized=True, sealed=found.sealed and bool(wanted.pgp_keys))
    if not check and not left.sealed:
        _await(lambda: _is_active(vault), f"{vault.url}: Vault is unsealed, but has no active node", deadline)
    return found, left


def _state(vault: Vault) -> SealState:
    status = vault.request("GET", "sys/seal-status")
    return SealState(bool(status["initialized"]), bool(status["sealed"]))


def _is_active(vault: Vault) -> bool:
    """Whether this node is active, or knows the active node."""
    health = vault.request("GET", "sys/health?standbyok=true&perfstandbyok=true")
    if not health["standby"]:
        return True
    leader = vault.request("GET", "sys/leader")
    return bool(leader["leader_address"]) and not leader["is_self"]


def _await(look: Callable[[], T], problem: str, deadline: float) -> T:
    """Look repeatedly until there is a result, or until the deadline (of time.monotonic) has passed."""
    while True:
        reason: VaultError | None = None
        try:
            if result := look():
                return result
        except (VaultUnavailable, VaultSealed) as error:
            reason = error
        if time.monotonic() >= deadline:
            said = f": {reason.message}" if reason else ""
            raise VaultUnavailable(problem + said, remedy="look into Vault's log") from reason
        time.sleep(_POLL)


def _initialise(vault: Vault, wanted: Initialisation, *, check: bool) -> None:
    targets = {"keys_file": wanted.keys_file, "root_token_file": wanted.root_token_file}
    for option, path in targets.items():
        if Path(path).exists():
            raise ConfigError(
                f"{option}: {path} exists, but {vault.url} is not initialised: the file belongs to another Vault, or"
                " to this one before its storage was lost; move it away"
            )
        check_folder(path)
    if check:
        return
    body: dict[str, object] = {"secret_shares": wanted.key_shares, "secret_threshold": wanted.key_threshold}
    if wanted.pgp_keys:
        body["pgp_keys"] = list(wanted.pgp_keys)
    with PrivateFile(wanted.keys_file) as keys_file, PrivateFile(wanted.root_token_file) as token_file:
        answer = vault.request("POST", "sys/init", body)
        keys = {
            "unseal_keys_b64": answer["keys_base64"],
            "unseal_shares": wanted.key_shares,
            "unseal_threshold": wanted.key_threshold,
        }
        keys_file.commit(json.dumps(keys, indent=2) + "\n")
        token_file.commit(f"{answer['root_token']}\n")


def _keys(path: str) -> list[str]:
    text = read_private(path)
    if text is None:
        raise ConfigError(
            f"keys_file: {path} is missing, but Vault is initialised and sealed: it was initialised elsewhere; put"
            " its unseal keys there, or unseal it with `vault operator unseal`"
        )
    try:
        keys = json.loads(text)["unseal_keys_b64"]
    except (ValueError, KeyError, TypeError):
        # `from None`: a JSON error holds the text, which is the keys.
        raise ConfigError(f"keys_file: {path} is not a JSON object with a list unseal_keys_b64") from None
    return [str(key) for key in keys]


def _unseal(vault: Vault, path: str) -> None:
    keys = _keys(path)
    # Unseal keys that somebody entered before would not combine with these.
    vault.request("POST", "sys/unseal", {"reset": True})
    for key in keys:
        try:
            status = vault.request("POST", "sys/unseal", {"key": key})
        except VaultUnavailable:
            raise
        except VaultError as error:
            raise VaultError(f"{error}; the keys in {path} are not this Vault's") from error
        if not status["sealed"]:
            return
    raise VaultError(f"{path}: Vault is still sealed after all keys in this file; it needs more keys")
