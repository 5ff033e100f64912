"""Requests to any path of Vault's API: read, write, delete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import PermissionDenied, VaultError
from ..servers.vault import VaultClient

# How Vault reports, with status 400, that nothing is mounted at a path of sys/mounts or sys/auth.
_NO_MOUNT = ("No secret engine mount at", "No auth engine at")

# https://developer.hashicorp.com/vault/docs/concepts/policies#capabilities
_CAPABILITIES = {"GET": ("read",), "POST": ("create", "update"), "DELETE": ("delete",)}


class Vault:
    """Reads, writes and deletes paths of one Vault over kept-alive connections.

    A read is repeated if it may succeed later, as often as the client is set to; a write is sent once.

    Args:
        client: client with a token, or without one for the few paths that need none.
    """

    def __init__(self, client: VaultClient) -> None:
        self._client = client
        self.url = client.url

    def read(self, path: str) -> dict[str, Any] | None:
        """Return the ``data`` of a path; None if nothing exists there.

        Raises:
            VaultError: as `request`.
        """
        try:
            response = self.request("GET", path)
        except VaultError as error:
            if error.status == 404 or (
                error.status == 400 and any(text.startswith(_NO_MOUNT) for text in error.errors)
            ):
                return None
            raise
        data = response.get("data")
        return data if isinstance(data, dict) else None

    def list(self, path: str) -> list[str]:
        """Return the names below a path; none if nothing is there.

        Raises:
            VaultError: as `request`.
        """
        return [str(name) for name in (self.read(f"{path}?list=true") or {}).get("keys") or ()]

    def write(self, path: str, body: Mapping[str, object]) -> tuple[str, ...]:
        """Write fields to a path; return Vault's warnings."""
        return _warnings(self.request("POST", path, body))

    def delete(self, path: str) -> tuple[str, ...]:
        """Delete a path; return Vault's warnings."""
        return _warnings(self.request("DELETE", path))

    def request(
        self, method: str, path: str, body: Mapping[str, object] | Iterable[bytes] | None = None
    ) -> dict[str, Any]:
        """Send one request, with a JSON object or the parts of a binary body; return the JSON of the response, or {}.

        Raises:
            TLSError: verification of Vault's certificate failed.
            VaultUnavailable: there is no connection, or no response in time.
            VaultSealed: Vault is sealed or not initialised.
            InvalidToken: the token is invalid or has expired.
            PermissionDenied: its policies lack a capability; names path and capability.
            VaultError: any other refusal, in Vault's own words.
        """
        response = self._client.request(method, path, body, idempotent=method == "GET")
        try:
            return self._client.checked(method, path, response)
        except PermissionDenied as error:
            if not self._client.token:
                raise
            capability, reason = self._lacking(method, path)
            raise PermissionDenied(
                f"{path}: {'; '.join(error.errors)}: the token's policies {reason}",
                path=path,
                capability=capability,
                errors=error.errors,
            ) from error

    def capabilities(self, path: str) -> frozenset[str]:
        """Return the token's capabilities on a path, ``root`` for a root token; none if it may not query them.

        Source: https://developer.hashicorp.com/vault/api-docs/system/capabilities-self
        """
        response = self._client.request("POST", "sys/capabilities-self", {"paths": [path]})
        return frozenset(response.json().get(path, ()) if response.ok else ())

    def _lacking(self, method: str, path: str) -> tuple[str, str]:
        """Return the capability that a denied request lacked, and the reason for the error text."""
        held = self.capabilities(path)
        if missing := " or ".join(name for name in _CAPABILITIES[method] if name not in held):
            return missing, f"lack the capability {missing} on this path"
        parameters = "allow this path only with other parameters (allowed_parameters, denied_parameters)"
        return (
            ("", parameters) if "sudo" in held else ("sudo", f"lack the capability sudo on this path, or {parameters}")
        )


def _warnings(response: Mapping[str, object]) -> tuple[str, ...]:
    warnings = response.get("warnings")
    return tuple(str(warning) for warning in warnings) if isinstance(warnings, list) else ()
