"""A token in a file: created if it is missing or differs, revoked when it is no longer wanted.

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
    """The properties of a wanted token.

    Attributes:
        policies: its policies.
        period: TTL of a periodic token, such as ``768h``, which it can be renewed for without limit; None for a
            token that expires at the system's maximum TTL.
        orphan: whether it outlives the token that created it.
        display_name: its name in audit logs; not compared, because it grants nothing.
        default_policy: whether Vault adds the policy ``default``. Without it, the policies themselves have to grant
            what a token does with itself: to look itself up, to renew and to revoke itself.
    """

    policies: Sequence[str]
    period: str | None = None
    orphan: bool = False
    display_name: str | None = None
    default_policy: bool = True

    def __post_init__(self) -> None:
        try:
            seconds(self.period or "")
        except ValueError as error:
            raise ConfigError(f"period: {error}") from error

    def fields(self) -> dict[str, object]:
        """Return the fields that decide whether a token matches, in the form in which Vault returns them."""
        added = {"default"} if self.default_policy and "root" not in self.policies else set()
        return {
            "policies": sorted({*self.policies} | added),
            "period": seconds(self.period or ""),
            "orphan": self.orphan,
        }

    @property
    def endpoint(self) -> str:
        """The path that creates the token."""
        return "auth/token/create-orphan" if self.orphan else "auth/token/create"

    def body(self) -> dict[str, object]:
        """Return the body of the request that creates the token."""
        optional = {"period": self.period, "display_name": self.display_name}
        given = {name: value for name, value in optional.items() if value is not None}
        return {"policies": list(self.policies), "no_default_policy": not self.default_policy, **given}


@dataclass(frozen=True)
class TokenOutcome:
    """The changes to a token and its file, or in check mode the expected ones; before and after hold no secret."""

    changed: bool
    before: dict[str, object]
    after: dict[str, object]


REMEDY = "give a token that may create it; without one, `vault operator generate-root` creates a root token"
"""Remedy if the token that should create another one has expired or lacks permission."""

ABSENT: dict[str, object] = {"state": "absent"}


def ensure_token(
    connect: Callable[[str], Vault],
    path: str,
    spec: TokenSpec,
    authenticate: Callable[[], str | None],
    *,
    check: bool = False,
) -> TokenOutcome:
    """Ensure that a file holds a valid token as specified, and that only its owner can read it.

    A token that matches is kept, and renewed once half of its lifetime has passed. One that does not match is revoked
    after the new one is in the file.

    Args:
        connect: returns a connection that uses this token.
        path: the token's file.
        spec: the wanted properties.
        authenticate: returns the token that creates tokens; called only if one has to be created. In check mode, None
            for one that a run would make.
        check: report what would change, and write nothing.

    Raises:
        ConfigError: the file cannot be read or written.
        InvalidToken, PermissionDenied: the authenticating token has expired, or may not create such tokens.
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
        if maker:
            _check_maker(connect(maker), spec)
        return TokenOutcome(True, found, wanted)
    with PrivateFile(path) as file:
        try:
            answer = connect(maker or "").request("POST", spec.endpoint, spec.body())
        except (InvalidToken, PermissionDenied) as error:
            error.remedy = REMEDY
            raise
        file.commit(answer["auth"]["client_token"] + "\n")
    # A child token would be revoked with its parent.
    if held and data and (spec.orphan or held != maker):
        connect(held).request("POST", "auth/token/revoke-self")
    return TokenOutcome(True, found, wanted)


def may_create(vault: Vault, spec: TokenSpec) -> bool:
    """Whether the connection's token may create such a token; not if it has expired."""
    return not vault.capabilities(spec.endpoint).isdisjoint({_capability(spec), "root"})


def _capability(spec: TokenSpec) -> str:
    return "sudo" if spec.period else "update"  # Vault allows a period only with sudo


def _check_maker(vault: Vault, spec: TokenSpec) -> None:
    """Raise InvalidToken or PermissionDenied if this token could not create such a token."""
    try:
        vault.request("GET", "auth/token/lookup-self")
    except (InvalidToken, PermissionDenied) as error:
        error.remedy = REMEDY
        raise
    if not may_create(vault, spec):
        needed = _capability(spec)
        raise PermissionDenied(
            f"{spec.endpoint}: the token's policies lack the capability {needed} on this path",
            path=spec.endpoint,
            capability=needed,
            status=None,
            remedy=REMEDY,
        )


def remove_token(connect: Callable[[str], Vault], path: str, *, check: bool = False) -> TokenOutcome:
    """Revoke the token in a file, with its child tokens except orphans, and delete the file.

    Raises:
        PermissionDenied: the token is valid, but may not revoke itself; the file stays.
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
    """Return the properties of the connection's own token; None if it is invalid or has expired."""
    try:
        return vault.read("auth/token/lookup-self")
    except VaultError as error:
        if error.status == 403:  # InvalidToken; or the policy "default", which every token created here has, is missing
            return None
        raise


def _revoke(vault: Vault) -> None:
    try:
        vault.request("POST", "auth/token/revoke-self")
    except VaultError as error:
        # Vault returns the same status for a token that has expired or was revoked, which is the wanted state.
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
