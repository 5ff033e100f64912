"""Restores a Vault from a snapshot of its Raft storage.

Source: https://developer.hashicorp.com/vault/api-docs/system/storage/raft#force-restore-raft-snapshot and
https://developer.hashicorp.com/vault/tutorials/standard-procedures/sop-restore
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, cast

from ..errors import ConfigError, InvalidToken, PermissionDenied, VaultError, VaultSealed, VaultUnavailable
from .cluster import Leader, serves, wait_for
from .connection import Vault
from .files import PrivateFile, read_private
from .initialisation import Initialisation, check_interruption, ensure_unsealed, key_counts, seal_state, unseal

_BLOCK = 1024 * 1024  # bytes


@dataclass(frozen=True)
class Snapshot:
    """A snapshot in a file. Each iteration yields its plaintext in blocks.

    Attributes:
        path: the file.
        decrypt: program and arguments that decrypt what they read from their standard input; none if the file is not
            encrypted.

    Raises:
        ConfigError: the file cannot be read, or the program failed.
    """

    path: Path
    decrypt: Sequence[str] = ()

    def __iter__(self) -> Iterator[bytes]:
        command = self.decrypt or ["cat"]
        try:
            with self.path.open("rb") as file, TemporaryFile() as errors:
                with subprocess.Popen(  # noqa: S603 - the user names the program
                    command, stdin=file, stdout=subprocess.PIPE, stderr=errors
                ) as process:
                    yield from iter(partial(cast(IO[bytes], process.stdout).read, _BLOCK), b"")
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip()
        except OSError as error:
            raise ConfigError(f"snapshot: {error.filename}: {error.strerror}") from error
        if process.returncode:
            raise ConfigError(f"decrypt: {command[0]} ended with status {process.returncode}: {said}")

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the file, as it is, in hexadecimal."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def check(self) -> None:
        """Raise ConfigError if the file cannot be read and decrypted, or is not a snapshot."""
        start = b""
        for block in self:
            start = start or block
        if start[:2] != b"\x1f\x8b":
            raise ConfigError(
                f"snapshot: {self.path}{' after it was decrypted' if self.decrypt else ''} is not a snapshot of Vault",
                remedy="" if self.decrypt else "if it is encrypted, give decrypt",
            )


def restore(
    connect: Callable[[str, str], Vault],
    nodes: Sequence[str],
    snapshot: Snapshot,
    keys_file: str,
    *,
    temporary_file: str,
    note_file: str,
    privileged_token_file: str,
    timeout: float,
    check: bool = False,
) -> bool:
    """Bring Vault back as it was in a snapshot, and unseal it.

    A Vault that is not initialised is initialised with other keys first, which are of no use afterwards. If this, or
    what is done after it, is interrupted, call it again: the files of those keys, and the note, say how far it got.

    Args:
        connect: returns a connection to a node, by its address and a token.
        nodes: addresses of the nodes. The first one is restored, or if Vault is initialised, the one that leads. Others
            that are not initialised join it later.
        snapshot: the snapshot.
        keys_file: file of the unseal keys of the Vault in the snapshot.
        temporary_file: how the paths begin of the files for the temporary keys and token; deleted in the end.
        note_file: file to write to which snapshot was restored. Delete it once all is done that belongs to it.
        privileged_token_file: file of the token that overwrites a Vault that is initialised; deleted in the end if the
            snapshot does not have this token.
        timeout: how long to wait for each step, in seconds.
        check: report what would change, and write nothing.

    Returns:
        Whether anything was, or would be, restored; False if the note says that it was before.

    Raises:
        ConfigError: a file is missing or no snapshot, another node belongs to a Vault, or Vault would want another
            number of unseal keys than the one in the snapshot; nothing was changed.
        VaultUnavailable: a step took too long.
        VaultError: Vault refused.
    """
    snapshot.check()
    # As many as the former ones: until it restarts, Vault wants as many unseal keys as it was initialised with.
    temporary = Initialisation(*key_counts(keys_file), f"{temporary_file}-keys.json", f"{temporary_file}-root-token")
    members = [connect(url, "") for url in nodes]
    first = members[0]
    begun = Path(temporary.keys_file).exists()
    initialised = wait_for(lambda: seal_state(first), f"{first.url}: Vault does not listen", timeout).initialized
    empty = begun or not initialised
    if empty:
        _refuse_others(members[1:])
        token_file = temporary.root_token_file
    else:
        token_file = privileged_token_file
        check_interruption(temporary.keys_file)
        noted = read_private(note_file) == snapshot.digest
        if read_private(token_file) is None:
            if noted:
                return False
            raise ConfigError(
                f"privileged_token_file: {token_file} is missing, but {first.url} is initialised",
                remedy="make one by `vault operator generate-root`; or stop Vault, and delete its data, on all hosts",
            )
        if not noted:
            _refuse_another_threshold(first, temporary.key_threshold, keys_file)
    if check:
        return True
    if empty:
        target = first
        if not initialised:
            _forget(temporary)  # of an attempt whose Vault is gone
            ensure_unsealed(first, temporary, timeout=timeout)
        restored = initialised and _was_restored(connect, first, temporary, timeout)
    else:
        if noted:
            _open(first, members, keys_file, timeout)
        target = connect(_leader(first), "")
        restored = noted and not _knows(connect(target.url, read_private(token_file) or ""), timeout)
    if not restored:
        _overwrite(connect, target, read_private(token_file) or "", snapshot, note_file, timeout)
    if not empty:
        _open(target, members, keys_file, timeout)
    ensure_unsealed(target, replace(temporary, keys_file=keys_file), timeout=timeout)
    _forget(temporary)
    if not (empty or _knows(connect(target.url, read_private(token_file) or ""), timeout)):
        Path(token_file).unlink()
    return True


def _forget(temporary: Initialisation) -> None:
    # The keys come last: that they exist says that a restoration has begun.
    for path in (temporary.root_token_file, temporary.keys_file):
        Path(path).unlink(missing_ok=True)


def _refuse_others(others: Sequence[Vault]) -> None:
    """Raise ConfigError if a node is initialised: the first one would join it instead of being restored."""
    for node in others:
        try:
            initialised = seal_state(node).initialized
        except VaultUnavailable:
            continue  # it is not up yet
        if initialised:
            raise ConfigError(
                f"{node.url} is initialised, so it belongs to another Vault than the one that is restored",
                remedy="stop Vault on that host and delete its data",
            )


def _refuse_another_threshold(node: Vault, needed: int, keys_file: str) -> None:
    """Raise ConfigError if Vault would want more or fewer unseal keys, until it restarts, than the one in the snapshot.

    Source: https://github.com/hashicorp/vault/issues/24975
    """
    status = node.request("GET", "sys/seal-status")
    if not status.get("recovery_seal") and status["t"] != needed:
        raise ConfigError(
            f"keys_file: {needed} of the keys in {keys_file} unseal the Vault in the snapshot, but {node.url}, which is"
            f" initialised, wants {status['t']} until it restarts",
            remedy="stop Vault, and delete its data, on all hosts",
        )


def _was_restored(connect: Callable[[str, str], Vault], node: Vault, temporary: Initialisation, timeout: float) -> bool:
    """Whether an earlier call, which was interrupted, restored a node: its temporary keys, or token, are gone."""
    try:
        ensure_unsealed(node, temporary, timeout=timeout)
    except VaultUnavailable:
        raise
    except VaultError:
        return True
    return not _knows(connect(node.url, read_private(temporary.root_token_file) or ""), timeout)


def _overwrite(
    connect: Callable[[str, str], Vault], node: Vault, token: str, snapshot: Snapshot, note_file: str, timeout: float
) -> None:
    privileged = connect(node.url, token)
    # Vault answers before it has restored anything. A token that is not in the snapshot tells when it has.
    witness = privileged.request("POST", "auth/token/create-orphan", {"ttl": "1h", "policies": ["default"]})
    # Written once Vault has taken the token: if it does not any more, the snapshot is restored.
    with PrivateFile(note_file) as file:
        file.commit(snapshot.digest)
    privileged.request("POST", "sys/storage/raft/snapshot-force", snapshot)
    watching = connect(node.url, str(witness["auth"]["client_token"]))
    wait_for(lambda: not _takes(watching), f"{node.url}: Vault has not restored the snapshot", timeout)


def _open(target: Vault, nodes: Sequence[Vault], keys_file: str, timeout: float) -> None:
    """Unseal the nodes that are sealed, as their former keys are not those of the snapshot, until one of them serves.

    It serves only once most nodes are unsealed, and each of them notices on its own that the keys are others.
    """

    def serves_unsealed() -> bool:
        for node in nodes:
            with suppress(VaultUnavailable):  # it is lost, and the majority does without
                state = seal_state(node)
                if state.initialized and state.sealed and state.seal == "shamir":
                    unseal(node, keys_file)
        return serves(target)

    wait_for(serves_unsealed, f"{target.url}: Vault is restored, but has no active node", timeout)


def _takes(vault: Vault) -> bool:
    """Whether Vault is open and knows the connection's token."""
    try:
        vault.request("GET", "auth/token/lookup-self")
    except (InvalidToken, PermissionDenied, VaultSealed):
        return False
    return True


def _knows(vault: Vault, timeout: float) -> bool:
    """As `_takes`, once Vault serves: a standby that knows the leader cannot forward requests to it at once."""
    (known,) = wait_for(lambda: (_takes(vault),), f"{vault.url}: Vault does not serve", timeout)
    return known


def _leader(node: Vault) -> str:
    address = Leader.known_to(node).address
    if not address:
        raise VaultError(f"{node.url}: Vault has no leader", remedy="unseal it first")
    return address
