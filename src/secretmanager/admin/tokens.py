"""A token in a file: created if it is missing or no longer matches, revoked when its time is over.

Source: https://developer.hashicorp.com/vault/api-docs/auth/token
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, InvalidToken, PermissionDenied, VaultError
from .comparison import seconds
from .connection import Vault
from .files import MODE, PrivateFile, check_folder, file_mode, read_private


@dataclass(frozen=True)
class TokenSpec:
    """What a token shall be.

    Attributes:
        policies: its policies; Vault adds ``default``.
        period: it lives this long without a renewal, and for ever with them, as ``768h``; None for a token that
            ends at the system's maximum.
        orphan: it outlives the token that made it.
        display_name: its name in audit logs; never compared, since it grants nothing.
    """

    policies: Sequence[str]
    period: str | None = None
    orphan: bool = False
    display_name: str | None = None

    def __post_init__(self) -> None:
        try:
            seconds(self.period or "")
        except ValueError as error:
            raise ConfigError(f"period: {error}") from error

    def fields(self) -> dict[str, object]:
        """Return the fields that decide whether a token matches, in the form in which Vault returns them."""
        return {
            "policies": sorted({*self.policies} | ({"default"} if "root" not in self.policies else set())),
            "period": seconds(self.period or ""),
            "orphan": self.orphan,
        }

    @property
    def endpoint(self) -> str:
        """The path that makes the token."""
        return "auth/token/create-orphan" if self.orphan else "auth/token/create"

    def body(self) -> dict[str, object]:
        """Return the body of the request that makes the token."""
        optional = {"period": self.period, "display_name": self.display_name}
        return {"policies": list(self.policies)} | {k: v for k, v in optional.items() if v is not None}


@dataclass(frozen=True)
class TokenOutcome:
    """What was, or in check mode would be, done with a token and its file; before and after hold no secret."""

    changed: bool
    before: dict[str, object]
    after: dict[str, object]


REMEDY = "give a token that may create it; without one, `vault operator generate-root` creates a root token"
"""What to do if a token is needed, and the one that should make it may not, or has ended."""

ABSENT: dict[str, object] = {"state": "absent"}


def ensure_token(
    connect: Callable[[str], Vault],
    path: str,
    spec: TokenSpec,
    authenticate: Callable[[], str],
    *,
    check: bool = False,
) -> TokenOutcome:
    """See to it that a file holds a valid token as specified, and only its owner may read it.

    A token that fits is kept, and renewed once half of its life is over. One that does not fit is revoked after the
    new one is in the file.

    Args:
        connect: returns a connection that uses this token.
        path: the token's file.
        spec: what the token shall be.
        authenticate: returns the token that creates tokens; called only if one has to be created.
        check: report what would change, and write nothing.

    Raises:
        ConfigError: the file cannot be read or written.
        InvalidToken, PermissionDenied: the authenticating token has ended, or must not make such tokens.
    """
    check_folder(path)
    wanted = {"state": "present", **spec.fields(), "mode": f"{MODE:04o}"}
    held = read_private(path)
    data = _lookup(connect(held)) if held else None
    found = _found(data, path) if data else ABSENT
    if found == wanted:
        if not check and held and data and data["renewable"] and int(data["ttl"]) < int(data["creation_ttl"]) / 2:
            connect(held).request("POST", "auth/token/renew-self", {"increment": data["creation_ttl"]})
        return TokenOutcome(False, found, wanted)
    if found | {"mode": wanted["mode"]} == wanted:
        if not check:
            Path(path).chmod(MODE)
        return TokenOutcome(True, found, wanted)

    maker = authenticate()
    if check:
        _check_maker(connect(maker), spec)
        return TokenOutcome(True, found, wanted)
    with PrivateFile(path) as file:
        try:
            answer = connect(maker).request("POST", spec.endpoint, spec.body())
        except (InvalidToken, PermissionDenied) as error:
            error.remedy = REMEDY
            raise
        file.commit(answer["auth"]["client_token"] + "\n")
    # A child would die with the token that made it.
    if held and data and (spec.orphan or held != maker):
        connect(held).request("POST", "auth/token/revoke-self")
    return TokenOutcome(True, found, wanted)


def _check_maker(vault: Vault, spec: TokenSpec) -> None:
    """Raise InvalidToken or PermissionDenied if this token could not make such a token."""
    try:
        vault.request("GET", "auth/token/lookup-self")
    except (InvalidToken, PermissionDenied) as error:
        error.remedy = REMEDY
        raise
    needed = "sudo" if spec.period else "update"  # Vault grants a period to sudo alone
    if vault.capabilities(spec.endpoint).isdisjoint({needed, "root"}):
        raise PermissionDenied(
            f"{spec.endpoint}: the token's policies lack the capability {needed} on this path",
            path=spec.endpoint,
            capability=needed,
            status=None,
            remedy=REMEDY,
        )


def remove_token(connect: Callable[[str], Vault], path: str, *, check: bool = False) -> TokenOutcome:
    """Revoke the token in a file, with all that it made but orphans, and delete the file.

    Raises:
        PermissionDenied: the token is valid, but must not revoke itself; the file is left.
    """
    if not Path(path).exists():
        return TokenOutcome(False, ABSENT, ABSENT)
    held = read_private(path)
    if not check:
        if held:
            _revoke(connect(held))
        Path(path).unlink()
    return TokenOutcome(True, {"state": "present"}, ABSENT)


def _lookup(vault: Vault) -> dict[str, Any] | None:
    """Return what Vault says of the connection's own token, None if it is not valid (any more)."""
    try:
        return vault.read("auth/token/lookup-self")
    except VaultError as error:
        if error.status == 403:  # InvalidToken; or the policy "default", which every token made here has, is missing
            return None
        raise


def _revoke(vault: Vault) -> None:
    try:
        vault.request("POST", "auth/token/revoke-self")
    except VaultError as error:
        # Vault answers the same status to a token that is not valid any more, which is what is wanted.
        if error.status != 403 or _lookup(vault):
            raise


def _found(data: dict[str, Any], path: str) -> dict[str, object]:
    return {
        "state": "present",
        "policies": sorted(data["policies"]),
        "period": data.get("period", 0),
        "orphan": data["orphan"],
        "mode": f"{file_mode(path):04o}",
    }
