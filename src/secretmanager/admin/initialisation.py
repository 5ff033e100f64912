"""Initialises Vault once and keeps it unsealed.

Source: https://developer.hashicorp.com/vault/api-docs/system/init, /system/unseal and /system/seal-status. None of
these needs a token.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from ..errors import ConfigError, VaultError, VaultUnavailable
from .cluster import serves, wait_for
from .connection import Vault
from .files import PrivateFile, check_folder, read_private, unfinished

T = TypeVar("T")

_LONGEST_KEY = 66
"""Characters of a key of 33 bytes in hexadecimal; one that is encrypted with PGP has hundreds."""


@dataclass(frozen=True)
class Initialisation:
    """How Vault is to be initialised.

    Attributes:
        key_shares: number of unseal keys that the root key is split into.
        key_threshold: number of them that unseal Vault.
        keys_file: file to write the unseal keys to, as JSON with the names of ``vault operator init -format=json``.
        root_token_file: file to write the initial root token to.
        pgp_keys: public keys, base64, that encrypt one unseal key each, so that only their owners can unseal Vault.
        migrate: unseal so that the seal is changed to the one of Vault's configuration.

    Where Vault opens its seal by itself, shares, threshold and public keys are those of its recovery keys.

    Raises:
        ConfigError: a number that Vault would refuse.
    """

    key_shares: int
    key_threshold: int
    keys_file: str
    root_token_file: str
    pgp_keys: Sequence[str] = ()
    migrate: bool = False

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
class _Names:
    """Names of a kind of keys: in the request and the response of ``sys/init``, and in the file.

    Attributes:
        parameters: of the numbers of shares and of those that are needed, in the request.
        pgp_keys: of the public keys, in the request.
        answer: of the keys, in the response.
        keys: of the keys, in the file.
        counts: of the two numbers, in the file.
    """

    parameters: tuple[str, str]
    pgp_keys: str
    answer: str
    keys: str
    counts: tuple[str, str]


_UNSEAL = _Names(
    ("secret_shares", "secret_threshold"),
    "pgp_keys",
    "keys_base64",
    "unseal_keys_b64",
    ("unseal_shares", "unseal_threshold"),
)
_RECOVERY = _Names(
    ("recovery_shares", "recovery_threshold"),
    "recovery_pgp_keys",
    "recovery_keys_base64",
    "recovery_keys_b64",
    ("recovery_keys_shares", "recovery_keys_threshold"),
)


@dataclass(frozen=True)
class SealState:
    """Whether Vault is initialised and sealed, and the type of its seal, such as "shamir" or "transit"."""

    initialized: bool
    sealed: bool
    seal: str


@dataclass(frozen=True)
class _Status(SealState):
    """What ``sys/seal-status`` says.

    Attributes:
        opens_itself: whether a seal such as ``transit`` opens Vault, and no unseal keys do.
        migrates: whether the configuration names another seal than Vault has.
    """

    opens_itself: bool
    migrates: bool


def ensure_unsealed(
    vault: Vault, initialisation: Initialisation, *, cluster: Sequence[Vault] = (), timeout: float, check: bool = False
) -> tuple[SealState, SealState]:
    """Initialise Vault if it is not initialised, unseal it if it is sealed, and wait until it serves requests.

    Args:
        vault: connection to one node, without a token.
        initialisation: how to initialise it, and the files of its keys.
        cluster: connections to all nodes of its cluster, which join each other by ``retry_join``. The first one is
            initialised, and only if no node is.
        timeout: how long to wait for Vault's listener, and then for each further step, in seconds.
        check: report what would change, and write nothing.

    Returns:
        The state before and the state after (in check mode, the expected one). Vault stays sealed if its
        unseal keys are encrypted with PGP.

    Raises:
        ConfigError: a file already exists, is missing or is not writable, or the seal is to be migrated and ``migrate``
            is not set; Vault is not changed.
        VaultUnavailable: in time Vault, or a node that may be initialised, did not listen; or it did not join, did
            not open its seal or had no active node.
        VaultError: Vault refused to be initialised, or the keys in the file are not its keys.
    """

    def wait(look: Callable[[], T], problem: str) -> T:
        # In check mode, nothing is starting that would be worth waiting for.
        return wait_for(look, f"{vault.url}: {problem}", 0 if check else timeout)

    status = wait(lambda: _status(vault), "Vault does not listen")
    before = SealState(status.initialized, status.sealed, status.seal)
    if status.migrates and status.sealed and not initialisation.migrate:
        raise ConfigError(
            f"{vault.url}: its configuration names another seal than Vault has",
            remedy="run playbooks/seal-migrate.yml, or configure the former seal again",
        )
    if not status.initialized:
        if _begins(vault, cluster, lambda node: wait(lambda: _status(node), f"{node.url} does not listen")):
            _initialise(vault, initialisation, opens_itself=status.opens_itself, check=check)
        elif not check:
            wait(lambda: _status(vault).initialized, "Vault has not joined the cluster of its retry_join")
    stays_sealed = status.sealed and bool(initialisation.pgp_keys) and not status.opens_itself
    after = SealState(initialized=True, seal=status.seal, sealed=stays_sealed)
    if status.sealed and not after.sealed:
        # During a migration from such a seal, its configuration is disabled, and Vault says that it needs keys.
        if not status.opens_itself or status.migrates:
            if not check:
                unseal(vault, initialisation.keys_file, migrate=status.migrates)
            elif status.initialized:
                _keys(initialisation.keys_file)
        if not check:
            wait(lambda: not _status(vault).sealed, "Vault is still sealed")
    if not check and not after.sealed:
        wait(lambda: serves(vault), "Vault is unsealed, but has no active node")
    return before, after


def _status(vault: Vault) -> _Status:
    status = vault.request("GET", "sys/seal-status")
    return _Status(
        initialized=bool(status["initialized"]),
        sealed=bool(status["sealed"]),
        seal=str(status["type"]),
        opens_itself=bool(status.get("recovery_seal")),
        migrates=bool(status.get("migration")),
    )


def seal_state(vault: Vault) -> SealState:
    """Return whether a node is initialised and sealed.

    Raises:
        VaultUnavailable: it does not listen.
    """
    return _status(vault)


def _begins(vault: Vault, cluster: Sequence[Vault], status_of: Callable[[Vault], _Status]) -> bool:
    """Whether this node, which is not initialised, is to be: it comes first, and no other node of the cluster is."""
    if cluster and vault.url != cluster[0].url:
        return False
    silent: VaultUnavailable | None = None
    for node in cluster[1:]:
        try:
            if status_of(node).initialized:
                return False
        except VaultUnavailable as error:
            silent = error
    if silent:
        raise silent  # to initialise this one would make a second cluster, if that node belongs to one
    return True


def _initialise(vault: Vault, initialisation: Initialisation, *, opens_itself: bool, check: bool) -> None:
    targets = {"keys_file": initialisation.keys_file, "root_token_file": initialisation.root_token_file}
    for option, path in targets.items():
        if Path(path).exists():
            raise ConfigError(
                f"{option}: {path} exists, but {vault.url} is not initialised: the file belongs to another Vault, or"
                " to this one before its storage was lost; move it away"
            )
        check_folder(path)
    if check:
        return
    for leftover in chain.from_iterable(map(unfinished, targets.values())):  # of a Vault whose data was deleted
        if not leftover.read_bytes().strip(b"\0"):  # else it holds keys
            leftover.unlink()
    names = _RECOVERY if opens_itself else _UNSEAL
    counts = initialisation.key_shares, initialisation.key_threshold
    body: dict[str, object] = dict(zip(names.parameters, counts, strict=True))
    if initialisation.pgp_keys:
        body[names.pgp_keys] = list(initialisation.pgp_keys)
    with PrivateFile(initialisation.keys_file) as keys_file, PrivateFile(initialisation.root_token_file) as token_file:
        try:
            answer = vault.request("POST", "sys/init", body)
        except VaultUnavailable:
            keys_file.leave()  # Vault may have done it, and does not tell the keys again
            raise
        keys = {names.keys: answer[names.answer], **dict(zip(names.counts, counts, strict=True))}
        keys_file.commit(json.dumps(keys, indent=2) + "\n")
        token_file.commit(f"{answer['root_token']}\n")


def check_interruption(path: str) -> None:
    """Raise ConfigError if a file of keys is missing because the process was killed that initialised Vault for it."""
    if leftovers := unfinished(path):
        raise ConfigError(
            f"keys_file: {path} is missing: the process that initialised Vault was interrupted before it had the keys;"
            f" unless {' or '.join(map(str, leftovers))} holds them, Vault can never be unsealed",
            remedy="stop it and delete its data, in which nothing is yet (playbooks/remove.yml --limit vault -e"
            " kubevault_remove_data=true does that), and run this again",
        )


def key_counts(path: str) -> tuple[int, int]:
    """Return how many keys there are by the file of the keys, and how many of them are needed.

    Raises:
        ConfigError: the file is missing, or holds no keys.
    """
    _keys(path)
    content = _content(path)
    for names in (_UNSEAL, _RECOVERY):
        if all(isinstance(content.get(name), int) for name in names.counts):
            return content[names.counts[0]], content[names.counts[1]]
    raise ConfigError(f"keys_file: {path} lacks {' or '.join(_UNSEAL.counts)}, which are numbers")


def _content(path: str) -> dict[str, Any]:
    text = read_private(path)
    if text is None:
        check_interruption(path)
        raise ConfigError(
            f"keys_file: {path} is missing, but Vault is initialised and sealed: it was initialised elsewhere; put"
            " its unseal keys there, or unseal it with `vault operator unseal`"
        )
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        # No exception is its context: a JSON error holds the text, which is the keys.
        raise ConfigError(f"keys_file: {path} is not a JSON object with a list {_UNSEAL.keys}")
    return content


def _keys(path: str) -> list[str]:
    content = _content(path)
    # Those of a Vault whose seal was migrated keep the name that they had.
    keys = content.get(_UNSEAL.keys) or content.get(_RECOVERY.keys)
    if not isinstance(keys, list):
        raise ConfigError(f"keys_file: {path} is not a JSON object with a list {_UNSEAL.keys}")
    return [str(key) for key in keys]


def plain_keys(path: str) -> list[str]:
    """Return the unseal keys, or recovery keys, in a file; none if it is missing, or if they are encrypted with PGP.

    Raises:
        ConfigError: the file holds no keys, or cannot be read.
    """
    if read_private(path) is None:
        return []
    keys = _keys(path)
    return keys if all(len(key) <= _LONGEST_KEY for key in keys) else []


def unseal(vault: Vault, path: str, *, migrate: bool = False) -> None:
    """Enter the keys until Vault has enough of them. A node that joins a cluster opens its seal after that.

    Args:
        vault: connection to a node that is sealed, and whose seal takes keys.
        path: file of the keys.
        migrate: change the seal to the one of Vault's configuration.

    Raises:
        ConfigError: the file is missing, or holds no keys.
        VaultError: they are not the keys of this Vault, or too few.
    """
    keys = _keys(path)
    # Unseal keys that somebody entered before would not combine with these.
    vault.request("POST", "sys/unseal", {"reset": True})
    for key in keys:
        try:
            status = vault.request("POST", "sys/unseal", {"key": key, "migrate": migrate})
        except VaultUnavailable:
            raise
        except VaultError as error:
            raise VaultError(f"{error}; the keys in {path} are not this Vault's") from error
        if not status["sealed"] or not status["progress"]:
            return
    raise VaultError(f"{path}: Vault is still sealed after all keys in this file; it needs more keys")
