"""The part of Vault's API that sealing and reading need: log-in, Transit, renewal and revocation of tokens.

Sources: https://developer.hashicorp.com/vault/api-docs/secret/transit, /auth/kubernetes, /auth/approle, /auth/token.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..errors import (
    DecryptionFailed,
    InvalidToken,
    LoginDenied,
    PermissionDenied,
    TransitKeyNotFound,
    VaultError,
    VaultSealed,
    VaultUnavailable,
)
from .http import ConnectionFailed, JsonApi, Response, credential, tls_context

Label = TypeVar("Label")
Payload = TypeVar("Payload")
Result = TypeVar("Result")

BATCH_ITEMS = 1000
"""Items that one Transit batch holds at most; Vault takes arrays of 10,000 (``max_json_array_element_count``)."""

BATCH_BYTES = 8 * 1024 * 1024
"""Base64 that one batch holds at most, in bytes; Vault takes requests of 32 MiB (``max_request_size``)."""


@dataclass(frozen=True)
class TransitItem:
    """One value of a Transit batch; it is not part of repr().

    Attributes:
        value: plaintext to encrypt or sign, or ciphertext (``vault:vN:...``) to decrypt or rewrap.
        context: context of the key derivation, for a key with ``derived``; None for other keys.
        place: where the value belongs, for errors.
    """

    value: bytes = field(repr=False)
    context: bytes | None = None
    place: str | None = None


def batched_by_key(
    items: Iterable[tuple[str, Label, Payload]], send: Callable[[str, list[Payload]], Sequence[Result]]
) -> Iterator[tuple[Label, Result]]:
    """Send items grouped by their Transit key, one call for each key.

    Args:
        items: name of the Transit key, a label and the payload of each item.
        send: sends the payloads of one Transit key, and returns a result for each.

    Yields:
        The label and the result of each item.
    """
    batches: dict[str, list[tuple[Label, Payload]]] = {}
    for key, label, payload in items:
        batches.setdefault(key, []).append((label, payload))
    for key, batch in batches.items():
        results = send(key, [payload for _, payload in batch])
        for (label, _), result in zip(batch, results, strict=True):
            yield label, result


@dataclass(frozen=True)
class Login:
    """A token as Vault issued or renewed it; the token is not part of repr().

    Attributes:
        client_token: the token.
        lease_duration: its lifetime, in seconds; 0 if it does not expire.
        renewable: whether it may be renewed.
        is_batch: whether it is a batch token, which cannot be revoked: Vault does not store it.
        given: whether the user supplied the token, so that this program must not revoke it.
    """

    client_token: str = field(repr=False)
    lease_duration: int
    renewable: bool
    is_batch: bool = False
    given: bool = False

    @property
    def revocable(self) -> bool:
        """Whether the token should be revoked once it is no longer needed."""
        return not (self.is_batch or self.given)


class VaultClient:
    """A client of one Vault. Threads may share it.

    Args:
        url: Vault's address, as ``https://127.0.0.1:8200``.
        ca_cert: path of the CA's PEM file; True for the system's own CAs.
        namespace: Vault namespace (Enterprise, OpenBao).
        timeout: time that one response may take, in seconds.
        token: token to authenticate with.
        transit_mount: where the Transit engine is mounted.
        retries: how often a request is repeated that may succeed later.
        connections: how many connections are kept alive.
        ca_option: name of the option that the CA comes from, for errors.

    Raises:
        ConfigError: the address or the CA cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        ca_cert: bool | str = True,
        namespace: str | None = None,
        timeout: float = 30.0,
        token: str | None = None,
        transit_mount: str = "transit",
        retries: int = 4,
        connections: int = 10,
        ca_option: str = "ca_cert",
    ) -> None:
        self._api = JsonApi(
            url,
            option="vault_url",
            context=tls_context(ca_cert, option=ca_option),
            timeout=timeout,
            connections=connections,
            retries=retries,
        )
        self._headers = {"X-Vault-Request": "true"}
        if namespace:
            self._headers["X-Vault-Namespace"] = credential(namespace, "vault_namespace")
        self._transit = transit_mount.strip("/")
        self.url = self._api.url
        self.token = token

    @classmethod
    def from_options(cls, options: Mapping[str, Any], **more: Any) -> VaultClient:
        """Return a client for options that have the names of `options.VAULT_CONNECTION` and `options.TRANSIT`.

        Args:
            options: the options; None counts as not given.
            more: further arguments of the class.

        Raises:
            ConfigError: the address or the CA cannot be used.
        """
        named = {
            "ca_cert": "vault_ca_cert",
            "namespace": "vault_namespace",
            "timeout": "vault_timeout",
            "transit_mount": "transit_mount",
        }
        given = {name: options.get(option) for name, option in named.items()}
        known = {name: value for name, value in given.items() if value is not None}
        return cls(options["vault_url"], **{"ca_option": "vault_ca_cert", **known, **more})

    def encrypt(self, key: str, items: Sequence[TransitItem], *, token: str | None = None) -> list[str]:
        """Encrypt each item; return the ciphertexts (``vault:vN:...``) in order.

        Raises:
            TransitKeyNotFound: there is no such key.
            PermissionDenied: the token lacks the capability, or the key does not exist (Vault reports a missing key
                only to a token that may create keys).
            VaultError: any other refusal, for example of a context for a key without ``derived``.
        """
        # Vault would create a missing key, if the token may; with a type that does not exist, it cannot.
        only_existing = {"type": "existing-only"}
        return self._batch("encrypt", key, items, "plaintext", "ciphertext", token=token, parameters=only_existing)

    def decrypt(self, key: str, items: Sequence[TransitItem], *, token: str | None = None) -> list[bytes]:
        """Decrypt each item; return the plaintexts in order.

        Raises:
            DecryptionFailed: the key does not decrypt an item; names its place.
            TransitKeyNotFound: there is no such key.
            PermissionDenied: the token lacks the capability.
        """
        found = self._batch("decrypt", key, items, "ciphertext", "plaintext", token=token)
        return [base64.b64decode(text) for text in found]

    def hmac(self, key: str, inputs: Sequence[bytes], *, token: str | None = None) -> list[str]:
        """Return the HMAC-SHA256 (``vault:vN:...``) of each input with the newest version of the key."""
        items = [TransitItem(value) for value in inputs]
        return self._batch("hmac", key, items, "input", "hmac", token=token)

    def rewrap(self, key: str, items: Sequence[TransitItem], *, token: str | None = None) -> list[str]:
        """Encrypt each ciphertext again with the newest version of the key; the plaintext does not leave Vault."""
        return self._batch("rewrap", key, items, "ciphertext", "ciphertext", token=token)

    def read_key(self, key: str, *, token: str | None = None) -> dict[str, Any]:
        """Return the attributes of a Transit key: ``latest_version``, ``derived``, ``supports_encryption``, ...

        Raises:
            TransitKeyNotFound: there is no such key.
        """
        path = f"{self._transit}/keys/{key}"
        response = self.request("GET", path, token=token)
        if response.status == 404:
            raise TransitKeyNotFound(
                "there is no such Transit key", place=path, status=404, remedy="create it, or check its name"
            )
        data: dict[str, Any] = self.checked("GET", path, response)["data"]
        return data

    def login_kubernetes(self, role: str, jwt: str, mount: str = "kubernetes") -> Login:
        """Log in with a service account's token.

        Source: https://developer.hashicorp.com/vault/api-docs/auth/kubernetes#login

        Raises:
            LoginDenied: the role does not exist, or does not allow the service account, namespace or audience, or
                Kubernetes does not accept the token.
        """
        return self._login(
            f"auth/{mount}/login",
            {"role": role, "jwt": jwt},
            f"role {role}",
            "check the role's service account, namespace and audience, and Vault's token reviewer",
        )

    def login_approle(self, role_id: str, secret_id: str | None, mount: str = "approle") -> Login:
        """Log in with an AppRole's role ID, and its secret ID unless the role has ``bind_secret_id=false``.

        Source: https://developer.hashicorp.com/vault/api-docs/auth/approle#login-with-approle

        Raises:
            LoginDenied: role ID or secret ID is invalid or has expired.
        """
        return self._login(
            f"auth/{mount}/login",
            {"role_id": role_id, **({"secret_id": secret_id} if secret_id else {})},
            "AppRole",
            "check role_id; if the secret_id has expired or has no uses left, have a new secret_id issued",
        )

    def login_gcp(self, role: str, jwt: str, mount: str = "gcp") -> Login:
        """Log in with a token that a Google service account or Google's metadata server signed.

        Source: https://developer.hashicorp.com/vault/api-docs/auth/gcp#login

        Raises:
            LoginDenied: the role does not exist, or does not allow the service account or the token.
        """
        return self._login(
            f"auth/{mount}/login",
            {"role": role, "jwt": jwt},
            f"role {role}",
            "check the role's bound_service_accounts, and that the service account and its key still exist",
        )

    def unwrap(self, wrapping_token: str) -> dict[str, Any]:
        """Return the data of a response-wrapping token, which can be unwrapped once.

        Source: https://developer.hashicorp.com/vault/api-docs/system/wrapping-unwrap

        Raises:
            LoginDenied: the token has expired, or was unwrapped before.
        """
        path = "sys/wrapping/unwrap"
        response = self.request("POST", path, {}, token=wrapping_token, idempotent=False)
        if response.status in (400, 403):
            errors = _errors(response)
            raise LoginDenied(
                f"the wrapping token cannot be unwrapped: {'; '.join(errors)}",
                place=f"{self.url}/v1/{path}",
                status=response.status,
                errors=errors,
                remedy="have a new one issued; if it had not expired, find out who unwrapped it and knows its content",
            )
        data: dict[str, Any] = self.checked("POST", path, response)["data"]
        return data

    def renew_self(self, *, token: str | None = None) -> Login:
        """Renew the token. The request is not repeated: Vault reports a token at its maximum TTL with status 500."""
        path = "auth/token/renew-self"
        return _login(self.checked("POST", path, self.request("POST", path, {}, token=token, idempotent=False)))

    def revoke_self(self, *, token: str | None = None) -> None:
        """Revoke the token."""
        path = "auth/token/revoke-self"
        self.checked("POST", path, self.request("POST", path, {}, token=token))

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        token: str | None = None,
        idempotent: bool = True,
    ) -> Response:
        """Send one request; return the response, whatever its status.

        Args:
            method: HTTP method.
            path: path without ``/v1/``.
            body: JSON object to send.
            token: token to send instead of the client's own; an empty string to send none.
            idempotent: False if sending the request twice differs from sending it once; it is then not repeated.

        Raises:
            TLSError: verification of Vault's certificate failed.
            VaultUnavailable: there is no connection, or no response in time.
        """
        used = self.token if token is None else token
        headers = {**self._headers, "X-Vault-Token": used} if used else self._headers
        try:
            return self._api.request(method, f"/v1/{path}", body, headers=headers, idempotent=idempotent)
        except ConnectionFailed as error:
            raise VaultUnavailable(
                f"no response from Vault: {error}",
                place=self.url,
                remedy="check the address, and that Vault is running",
            ) from error

    def close(self) -> None:
        """Close all connections. The token stays valid; see `revoke_self`."""
        self._api.close()

    def _login(self, path: str, body: Mapping[str, Any], who: str, remedy: str) -> Login:
        response = self.request("POST", path, body, token="")
        if response.status in (400, 401, 403, 404):
            errors = _errors(response)
            raise LoginDenied(
                f"log-in denied for {who}: {'; '.join(errors) or f'HTTP status {response.status}'}",
                place=f"{self.url}/v1/{path}",
                status=response.status,
                errors=errors,
                remedy=remedy,
            )
        return _login(self.checked("POST", path, response))

    def _batch(
        self,
        operation: str,
        key: str,
        items: Sequence[TransitItem],
        given: str,
        wanted: str,
        *,
        token: str | None,
        parameters: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Run a Transit operation over all items, with as few requests as the limits of a batch allow."""
        path = f"{self._transit}/{operation}/{key}"
        found: list[str] = []
        for start, batch in _split([_entry(item, given) for item in items]):
            response = self.request("POST", path, {"batch_input": batch, **(parameters or {})}, token=token)
            results = (response.json().get("data") or {}).get("batch_results")
            if not results:
                self.checked("POST", path, response)
                raise VaultError("Vault's response to a batch contains no results", place=path, status=response.status)
            for item, result in zip(items[start : start + len(batch)], results, strict=True):
                if error := result.get("error"):
                    raise self._refused_item(operation, path, item, error, response.status)
                found.append(result[wanted])
        return found

    def _refused_item(self, operation: str, path: str, item: TransitItem, error: str, status: int) -> VaultError:
        said = " ".join(error.split())
        place = item.place or path
        if operation in ("decrypt", "rewrap"):
            return DecryptionFailed(
                f"{path}: Vault could not decrypt the value: {said}",
                place=place,
                status=status,
                errors=(said,),
                remedy="it was sealed for another place or with another Transit key, or its key version is too old",
            )
        return VaultError(f"{path}: {said}", place=item.place, status=status, errors=(said,))

    def checked(self, method: str, path: str, response: Response) -> dict[str, Any]:
        """Return the JSON of a successful response; raise an exception for any other.

        Args:
            method: HTTP method of the request.
            path: its path, without ``/v1/``.
            response: the response that `request` returned.

        Raises:
            VaultSealed: Vault is sealed or not initialised.
            VaultUnavailable: it is overloaded, a standby that does not forward requests, or unreachable from a proxy.
            InvalidToken: the token is invalid or has expired.
            PermissionDenied: its policies lack a capability.
            TransitKeyNotFound: there is no such key.
            VaultError: any other refusal, in Vault's own words.
        """
        if response.ok:
            return response.json()
        status, errors = response.status, _errors(response)
        said = "; ".join(errors) or f"HTTP status {status}"
        if status == 503:
            raise VaultSealed(
                said,
                place=self.url,
                status=status,
                errors=errors,
                remedy="unseal Vault, or wait for its leader",
            )
        if remedy := _UNAVAILABLE.get(status):
            raise VaultUnavailable(said, place=self.url, status=status, errors=errors, remedy=remedy)
        if status == 403 and "invalid token" in said:
            raise InvalidToken(
                f"{path}: {said}",
                status=status,
                errors=errors,
                remedy="log in again: the token has expired or was revoked",
            )
        if status == 403:
            capability = "read" if method == "GET" else "update"
            raise PermissionDenied(
                f"{path}: {said}: the token's policies lack the capability {capability} on this path",
                path=path,
                capability=capability,
                errors=errors,
                remedy="grant it, and check that the path is right" if "/keys/" in path else _REMEDY_403,
            )
        if "encryption key not found" in said or "unknown key type" in said:
            raise TransitKeyNotFound(
                "there is no such Transit key",
                place=path,
                status=status,
                errors=errors,
                remedy="create the key, or check its name",
            )
        raise VaultError(said, place=path, status=status, errors=errors)


_UNAVAILABLE = {
    307: "address the active node: this one is a standby that does not forward requests",
    412: "try again: this node has not yet seen the newest write",
    429: "send fewer requests, or raise the rate limit quota",
    502: "check the proxies or load balancers in front of Vault",
    504: "check the proxies or load balancers in front of Vault",
}
_REMEDY_403 = "grant it, and check that the key exists: Vault reports the same for one that does not"


def _entry(item: TransitItem, field_name: str) -> dict[str, str]:
    is_text = field_name == "ciphertext"
    value = item.value.decode("ascii", "replace") if is_text else base64.b64encode(item.value).decode("ascii")
    entry = {field_name: value}
    if item.context is not None:
        entry["context"] = base64.b64encode(item.context).decode("ascii")
    return entry


def _split(entries: Sequence[dict[str, str]]) -> Iterator[tuple[int, Sequence[dict[str, str]]]]:
    """Yield batches within the limits, each with the index of its first entry."""
    start = size = 0
    for index, entry in enumerate(entries):
        length = sum(map(len, entry.values()))
        if index > start and (index - start == BATCH_ITEMS or size + length > BATCH_BYTES):
            yield start, entries[start:index]
            start, size = index, 0
        size += length
    if entries:
        yield start, entries[start:]


def _login(response: Mapping[str, Any]) -> Login:
    auth = response["auth"]
    return Login(
        auth["client_token"],
        int(auth["lease_duration"]),
        bool(auth["renewable"]),
        auth.get("token_type") == "batch",
    )


def _errors(response: Response) -> tuple[str, ...]:
    """Return Vault's messages, each on one line."""
    return tuple(" ".join(str(error).split()) for error in response.json().get("errors") or ())
