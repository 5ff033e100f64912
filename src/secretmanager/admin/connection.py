"""One connection to Vault's API for its administration, by hvac; errors translated to this package's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hvac
import hvac.exceptions
import requests

from ..errors import PermissionDenied, VaultError, VaultSealed, VaultUnavailable

# How Vault says, with status 400, that nothing is mounted at a path of sys/mounts or sys/auth.
_NO_MOUNT = ("No secret engine mount at", "No auth engine at")


class Vault:
    """Reads, writes and deletes paths of one Vault over one kept-alive connection.

    Args:
        url: Vault's address, as ``https://127.0.0.1:8200``.
        token: token to authenticate with; empty for the few paths that need none.
        ca_cert: path of the CA's PEM file; True for the system's own CAs.
        namespace: Vault namespace (Enterprise, OpenBao).
        timeout: of each request, in seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        ca_cert: bool | str = True,
        namespace: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.url = url
        # An empty token, not None: hvac would take None as leave to look for $VAULT_TOKEN and ~/.vault-token.
        self._client = hvac.Client(url=url, token=token, verify=ca_cert, namespace=namespace, timeout=timeout)

    def read(self, path: str) -> dict[str, Any] | None:
        """Give the ``data`` of a path, None where there is nothing.

        Raises:
            PermissionDenied, VaultSealed, VaultUnavailable, VaultError: as every method here.
        """
        try:
            answer = self.request("get", path)
        except VaultError as error:
            if error.status == 404 or (
                error.status == 400 and any(text.startswith(_NO_MOUNT) for text in error.errors)
            ):
                return None
            raise
        data = answer.get("data")
        return data if isinstance(data, dict) else None

    def write(self, path: str, body: Mapping[str, object]) -> tuple[str, ...]:
        """Write fields to a path; give the warnings that Vault answers."""
        return _warnings(self.request("post", path, body))

    def delete(self, path: str) -> tuple[str, ...]:
        """Delete a path; give the warnings that Vault answers."""
        return _warnings(self.request("delete", path))

    def request(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Send one request, give the whole answer; an empty one as {}.

        Raises:
            TLSError: Vault's certificate is not to be trusted.
            VaultUnavailable: no connection, or no answer in time.
            VaultSealed: Vault is sealed or not initialised.
            PermissionDenied: the token is not valid, or its policies lack a capability; names path and capability.
            VaultError: any other refusal, with Vault's own words.
        """
        # The response, not hvac's exception, because only the response tells every status apart.
        try:
            response = self._client.adapter.request(method, f"/v1/{path}", json=body, raise_exception=False)
        except requests.exceptions.RequestException as error:
            raise VaultUnavailable(f"{self.url}: no answer from Vault: {error}") from error
        if isinstance(response, dict):
            return response
        if response.ok:
            return {}
        raise self._refusal(method, path, response)

    def _refusal(self, method: str, path: str, response: requests.Response) -> VaultError:
        status, errors = response.status_code, _errors(response)
        said = "; ".join(errors) or f"HTTP status {status}"
        if status == 503:
            return VaultSealed(f"{self.url}: {said}", status=status, errors=errors)
        if status == 403 and "invalid token" not in said:
            missing = " or ".join(self._missing(method, path))
            return PermissionDenied(
                f"{path}: {said}: the token's policies lack the capability {missing} on this path",
                path=path,
                capability=missing,
                status=status,
                errors=errors,
            )
        return VaultError(f"{path}: {said}", status=status, errors=errors)

    def _missing(self, method: str, path: str) -> list[str]:
        """Name the capabilities without which Vault denied a request, by asking Vault what the token has.

        Source: https://developer.hashicorp.com/vault/docs/concepts/policies#capabilities; a path that also needs
        sudo is denied to a token that has all others.
        """
        needed = {"get": ["read"], "post": ["create", "update"], "delete": ["delete"]}[method]
        body = {"paths": [path]}
        answer = self._client.adapter.request("post", "/v1/sys/capabilities-self", json=body, raise_exception=False)
        if not isinstance(answer, dict):
            return needed  # the token may not even ask
        return [name for name in needed if name not in answer[path]] or ["sudo"]


def _errors(response: requests.Response) -> list[str]:
    """Give Vault's messages, each on one line."""
    try:
        errors = response.json()["errors"]
    except (requests.exceptions.JSONDecodeError, KeyError, TypeError):
        return []  # not Vault's own answer, as of a proxy
    return [" ".join(str(error).split()) for error in errors]


def _warnings(answer: Mapping[str, object]) -> tuple[str, ...]:
    warnings = answer.get("warnings")
    return tuple(str(warning) for warning in warnings) if isinstance(warnings, list) else ()
