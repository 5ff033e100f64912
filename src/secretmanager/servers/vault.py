"""The part of Vault's API that sealing and reading need: log-in, Transit, renewal and revocation of tokens.

Sources: https://developer.hashicorp.com/vault/api-docs/secret/transit, /auth/kubernetes, /auth/approle, /auth/token.
"""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from ..errors import (
    ConfigError,
    DecryptionFailed,
    InvalidToken,
    LoginDenied,
    PermissionDenied,
    TransitKeyNotFound,
    VaultError,
    VaultSealed,
    VaultUnavailable,
    frameless,
)
from .http import (
    ANSWER,
    ELECTION_TIMEOUT,
    ConnectionFailed,
    JsonApi,
    Parsed,
    Response,
    credential,
    load_client_cert,
    tls_context,
    understood,
)

Key = TypeVar("Key", bound=Hashable)
Label = TypeVar("Label")
Payload = TypeVar("Payload")
Result = TypeVar("Result")

BATCH_ITEMS = 1000
"""Items that one Transit batch holds at most; Vault takes arrays of 10,000 (``max_json_array_element_count``)."""

BATCH_BYTES = 8 * 1024 * 1024
"""Base64 that one batch holds at most, in bytes; Vault takes requests of 32 MiB (``max_request_size``).

What is in front of Vault may take less; after status 413 batches are halved.
"""

BATCH_ANSWER = 4 * BATCH_BYTES
"""Size that the answer to a batch may have, in bytes; of each value about as much comes back."""


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


_HMAC = re.compile(r"vault:v([1-9][0-9]{0,8}):")
"""How an HMAC begins, with the version of its key."""


def batched_by_key(
    items: Iterable[tuple[Key, Label, Payload]], send: Callable[[Key, list[Payload]], Sequence[Result]]
) -> Iterator[tuple[Label, Result]]:
    """Send items grouped by their Transit key, one call for each key.

    Args:
        items: the Transit key (its name, or name and version), a label and the payload of each item.
        send: sends the payloads of one Transit key, and returns a result for each.

    Yields:
        The label and the result of each item.
    """
    batches: dict[Key, list[tuple[Label, Payload]]] = {}
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


@frameless
class VaultClient:
    """A client of one Vault. Threads may share it.

    Args:
        url: Vault's address, as ``https://127.0.0.1:8200``; or those of its nodes, as a list or separated by commas,
            which are tried in turn.
        ca_cert: path of the CA's PEM file; True for the system's own CAs.
        ca_path: folder of PEM files of CAs, instead of ``ca_cert``.
        client_cert: path of the PEM file of a client certificate, for a listener that requires one.
        client_key: path of the PEM file of its key.
        tls_server_name: name that Vault's certificate must hold; None for the address's.
        proxy: address of an HTTP proxy, ``http://[USER:PASSWORD@]HOST:PORT``; "environment" for what ``HTTPS_PROXY``
            and ``NO_PROXY`` say; None for no proxy.
        namespace: Vault namespace (Enterprise, OpenBao).
        timeout: time that one request may take, with its whole response, in seconds.
        token: token to authenticate with; with the attribute ``token_source``, what that returns for each request.
        transit_mount: where the Transit engine is mounted.
        retries: how often a request is repeated that may succeed later.
        election_timeout: how long it is repeated while Vault has no leader, in seconds.
        connections: how many connections are kept alive.
        loopback_http: whether ``http://`` is allowed for an address of this machine's loopback, as of a Vault Agent or
            Vault Proxy. It is reached without a proxy.
        ca_option: name of the option that the CA comes from, for errors.

    Raises:
        ConfigError: an address, a file or the proxy cannot be used.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        ca_cert: bool | str = True,
        ca_path: str | None = None,
        client_cert: str | None = None,
        client_key: str | None = None,
        tls_server_name: str | None = None,
        proxy: str | None = None,
        namespace: str | None = None,
        timeout: float = 30.0,
        token: str | None = None,
        transit_mount: str = "transit",
        retries: int = 4,
        election_timeout: float = ELECTION_TIMEOUT,
        connections: int = 10,
        loopback_http: bool = False,
        ca_option: str = "ca_cert",
    ) -> None:
        def context() -> ssl.SSLContext:
            tls = tls_context(ca_cert, ca_path=ca_path, option=ca_option)
            load_client_cert(tls, client_cert, client_key, ("vault_client_cert", "vault_client_key"))
            return tls

        self._api = JsonApi(
            [item.strip() for item in url.split(",")] if isinstance(url, str) else url,
            option="vault_url",
            context=context(),
            renewed=context,
            timeout=timeout,
            connections=connections,
            retries=retries,
            election_timeout=election_timeout,
            recovers=_recovers,
            elsewhere=_elsewhere,
            proxy=proxy,
            proxy_option="vault_proxy",
            server_name=tls_server_name,
            ca_option="vault_ca_cert (ca_cert is that of Kubernetes)" if ca_option == "vault_ca_cert" else ca_option,
            plain=loopback_http,
            plain_option="vault_loopback_http",
        )
        self._headers = {"X-Vault-Request": "true"}
        if namespace:
            self._headers["X-Vault-Namespace"] = credential(namespace, "vault_namespace")
        self._transit = transit_mount.strip("/")
        self._batch_bytes = BATCH_BYTES
        self.token = token
        self.token_source: Callable[[], str] | None = None

    @property
    def url(self) -> str:
        """Address of the node that is in use."""
        return self._api.url

    @classmethod
    def from_options(cls, options: Mapping[str, Any], **arguments: Any) -> VaultClient:
        """Return a client for options that have the names of `options.VAULT_CONNECTION` and `options.TRANSIT`.

        Args:
            options: the options; None counts as not given.
            arguments: further arguments of the class.

        Raises:
            ConfigError: the address is missing, or as the class.
        """
        if not options["vault_url"]:
            raise ConfigError("vault_url is missing", remedy="give it, or set VAULT_ADDR")
        names = ("ca_cert", "ca_path", "client_cert", "client_key", "tls_server_name", "proxy", "namespace", "timeout")
        by_name = {name: options.get(f"vault_{name}") for name in (*names, "loopback_http")}
        by_name |= {name: options.get(name) for name in ("election_timeout", "transit_mount")}
        chosen = {name: value for name, value in by_name.items() if value is not None}
        return cls(options["vault_url"], **{"ca_option": "vault_ca_cert", **chosen, **arguments})

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
        return _whole(
            self._each("encrypt", key, items, "plaintext", "ciphertext", token=token, parameters=only_existing)
        )

    def decrypt(self, key: str, items: Sequence[TransitItem], *, token: str | None = None) -> list[bytes]:
        """Decrypt each item; return the plaintexts in order.

        Raises:
            DecryptionFailed: the key does not decrypt an item; names its place.
            TransitKeyNotFound: there is no such key.
            PermissionDenied: the token lacks the capability.
        """
        try:
            texts = _whole(self._each("decrypt", key, items, "ciphertext", "plaintext", token=token))
        except PermissionDenied:
            if any(item.context is None for item in items):
                raise
            # A policy that limits the context allows no batch (`admin.definitions`).
            texts = [self._decrypted(key, item, token) for item in items]
        return understood(lambda: [base64.b64decode(text) for text in texts], self._not_base64)

    def _decrypted(self, key: str, item: TransitItem, token: str | None) -> str:
        """Decrypt one item, not in a batch; return the plaintext in base64."""
        path = f"{self._transit}/decrypt/{key}"
        response = self.request("POST", path, _entry(item, "ciphertext"), token=token, size=BATCH_ANSWER)
        try:
            answer = self.checked("POST", path, response)
        except VaultError as error:
            if error.status != 400 or isinstance(error, TransitKeyNotFound):
                raise
            raise self._refused_item("decrypt", path, item, "; ".join(error.errors), 400) from error
        return understood(lambda: str(answer["data"]["plaintext"]), self._not_base64)

    def hmac(self, key: str, inputs: Sequence[bytes], *, key_version: int = 0, token: str | None = None) -> list[str]:
        """Return the HMAC-SHA256 (``vault:vN:...``) of each input with a version of the key; 0 is the newest.

        Raises:
            VaultError: with status 400, if Vault does not use this version any more.
        """
        items = [TransitItem(value) for value in inputs]
        parameters = {"key_version": key_version}
        return _whole(self._each("hmac", key, items, "input", "hmac", token=token, parameters=parameters))

    def are_hmacs(self, key: str, pairs: Sequence[tuple[bytes, str]], *, token: str | None = None) -> list[bool]:
        """Return of each pair of an input and a text whether the text is the input's HMAC, by any version of the key.

        Raises:
            VaultError: as `hmac`; a version that Vault does not use any more is no error.
        """

        def made(version: int, inputs: Sequence[bytes]) -> list[str]:
            try:
                return self.hmac(key, inputs, key_version=version, token=token)
            except VaultError as error:
                if error.status != 400 or isinstance(error, TransitKeyNotFound):
                    raise
                return [""] * len(inputs)

        versions = enumerate(_HMAC.match(text) for _, text in pairs)
        items = ((int(version[1]), index, pairs[index][0]) for index, version in versions if version)
        hmacs = dict(batched_by_key(items, made))
        return [hmacs.get(index) == text for index, (_, text) in enumerate(pairs)]

    def rewrap(self, key: str, items: Sequence[TransitItem], *, token: str | None = None) -> list[str]:
        """Encrypt each ciphertext again with the newest version of the key; the plaintext does not leave Vault.

        Raises:
            DecryptionFailed: as `decrypt`.
        """
        return _whole(self._each("rewrap", key, items, "ciphertext", "ciphertext", token=token))

    def rewrap_each(
        self, key: str, items: Sequence[TransitItem], *, token: str | None = None
    ) -> list[str | VaultError]:
        """Rewrap as `rewrap`; return for an item that Vault refuses the error instead of raising it."""
        by_index: dict[int, str | VaultError] = {}
        for derived in (True, False):  # in one batch, Vault wants a context for all items or for none
            some = {index: item for index, item in enumerate(items) if (item.context is not None) is derived}
            try:
                results = self._each("rewrap", key, list(some.values()), "ciphertext", "ciphertext", token=token)
            except VaultError as error:
                if derived or not any(_NO_CONTEXT in text for text in error.errors):
                    raise
                # The key is derived, so it opens none of them.
                path, reason = f"{self._transit}/rewrap/{key}", "; ".join(error.errors)
                results = [self._refused_item("rewrap", path, item, reason, 400) for item in some.values()]
            by_index |= zip(some, results, strict=True)
        return [by_index[index] for index in range(len(items))]

    def rotate_key(self, key: str, *, token: str | None = None) -> None:
        """Make a new version of a Transit key.

        Source: https://developer.hashicorp.com/vault/api-docs/secret/transit#rotate-key
        """
        self._post(f"{self._transit}/keys/{key}/rotate", {}, token)

    def configure_key(self, key: str, parameters: Mapping[str, Any], *, token: str | None = None) -> None:
        """Set parameters of a Transit key, such as ``min_decryption_version``.

        Source: https://developer.hashicorp.com/vault/api-docs/secret/transit#update-key-configuration
        """
        self._post(f"{self._transit}/keys/{key}/config", parameters, token)

    def trim_key(self, key: str, min_available_version: int, *, token: str | None = None) -> None:
        """Delete the versions of a Transit key that are older than this one, for ever.

        Source: https://developer.hashicorp.com/vault/api-docs/secret/transit#trim-key
        """
        self._post(f"{self._transit}/keys/{key}/trim", {"min_available_version": min_available_version}, token)

    def refused_versions(self, key: str, versions: Iterable[int], *, token: str | None = None) -> set[int]:
        """Return the versions of a Transit key that Vault does not encrypt with.

        Those are the versions that cannot be decrypted (below ``min_decryption_version``, trimmed, or newer than the
        newest), and those below ``min_encryption_version``. The token needs no permission but to encrypt: an empty text
        is encrypted with each version.

        Raises:
            As `encrypt`.
        """
        path = f"{self._transit}/encrypt/{key}"
        candidates = [0, *sorted(versions)]  # 0 is the newest, which is not refused
        # A key that is not derived ignores the context.
        batch = [{"plaintext": "", "context": "a3ViZXZhdWx0", "key_version": version} for version in candidates]
        body = {"batch_input": batch, "type": "existing-only", "partial_failure_response_code": 200}
        _, texts = self._sent_batch(path, body, "ciphertext", token)
        return {version for version, (_, error) in zip(candidates, texts, strict=True) if error and not texts[0][1]}

    def read_key(self, key: str, *, token: str | None = None) -> dict[str, Any]:
        """Return the attributes of a Transit key: ``latest_version``, ``derived``, ``supports_encryption``, ...

        Raises:
            TransitKeyNotFound: there is no such key.
        """
        return self.read_key_as(key, dict, token=token)

    def read_key_as(
        self, key: str, parse: Callable[[Mapping[str, Any]], Parsed], *, token: str | None = None
    ) -> Parsed:
        """Return what a function takes from the attributes of a Transit key; raises as `read_key`."""
        path = f"{self._transit}/keys/{key}"
        response = self.request("GET", path, token=token)
        if response.status == 404:
            raise TransitKeyNotFound(
                "there is no such Transit key", place=path, status=404, remedy="create it, or check its name"
            )
        body = self.checked("GET", path, response)
        return self._understood(response, lambda: parse(body["data"]))

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
        body = self.checked("POST", path, response)
        return self._understood(response, lambda: dict(body["data"]))

    def renew_self(self, *, token: str | None = None) -> Login:
        """Renew the token. The request is not repeated: Vault reports a token at its maximum TTL with status 500."""
        path = "auth/token/renew-self"
        return self._issued(path, self.request("POST", path, {}, token=token, idempotent=False))

    def revoke_self(self, *, token: str | None = None) -> None:
        """Revoke the token."""
        path = "auth/token/revoke-self"
        self.checked("POST", path, self.request("POST", path, {}, token=token))

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | Iterable[bytes] | None = None,
        *,
        token: str | None = None,
        idempotent: bool = True,
        size: int = ANSWER,
    ) -> Response:
        """Send one request; return the response, whatever its status.

        Args:
            method: HTTP method.
            path: path without ``/v1/``.
            body: JSON object to send; or the parts of a binary body, iterated over for each time that it is sent.
            token: token to send instead of the client's own; an empty string to send none.
            idempotent: False if sending the request twice differs from sending it once; it is then repeated only while
                Vault says that it did nothing and has no leader.
            size: size that the response may have, in bytes.

        Raises:
            TLSError: verification of Vault's certificate failed.
            VaultUnavailable: there is no connection, no whole response in time, or a response that is not Vault's.
            VaultError: something in front of Vault takes no request of this size (status 413).
        """
        source = self.token_source if token is None else None
        sent_token = source() if source else self.token if token is None else token
        response = self._sent(method, path, body, sent_token, idempotent=idempotent, size=size)
        # A request waits for an election longer than some tokens live.
        if source and _is_invalid_token(response) and (fresh := source()) != sent_token:
            response = self._sent(method, path, body, fresh, idempotent=idempotent, size=size)
        return response

    def _sent(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | Iterable[bytes] | None,
        token: str | None,
        *,
        idempotent: bool,
        size: int,
    ) -> Response:
        headers = {**self._headers, "X-Vault-Token": token} if token else self._headers
        try:
            response = self._api.request(method, f"/v1/{path}", body, headers=headers, idempotent=idempotent, size=size)
        except ConnectionFailed as error:
            raise VaultUnavailable(
                f"no response from Vault: {error}",
                place=self.url,
                remedy=error.remedy or "check the address, and that Vault is running",
            ) from error
        if not _is_own(method, response):
            raise self._foreign(response)
        return response

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
        return self._issued(path, response)

    def _issued(self, path: str, response: Response) -> Login:
        body = self.checked("POST", path, response)
        return self._understood(response, lambda: _login(body["auth"]))

    def _understood(self, response: Response, parse: Callable[[], Parsed]) -> Parsed:
        """Return what a function takes from a response; a form that is not Vault's raises VaultUnavailable."""
        return understood(parse, lambda: self._foreign(response))

    def _foreign(self, response: Response) -> VaultError:
        message, remedy = response.foreign("Vault")
        kind = VaultError if response.status == 413 else VaultUnavailable
        return kind(message, place=self.url, status=response.status, remedy=remedy)

    def _not_base64(self) -> VaultError:
        return VaultUnavailable("this is not an answer of Vault: a plaintext is not base64", place=self.url)

    def _post(self, path: str, body: Mapping[str, Any], token: str | None) -> None:
        self.checked("POST", path, self.request("POST", path, body, token=token, idempotent=False))

    def _each(
        self,
        operation: str,
        key: str,
        items: Sequence[TransitItem],
        input_field: str,
        output_field: str,
        *,
        token: str | None,
        parameters: Mapping[str, Any] | None = None,
    ) -> list[str | VaultError]:
        """Run a Transit operation over all items, with as few requests as the limits of a batch allow.

        Returns:
            The result of each, or the error that Vault gave for it.
        """
        path = f"{self._transit}/{operation}/{key}"
        entries = [_entry(item, input_field) for item in items]

        values: list[str | VaultError] = []
        most = BATCH_ITEMS
        while (start := len(values)) < len(entries):
            batch = _first_batch(entries[start : start + most], self._batch_bytes)
            some = items[start : start + len(batch)]
            try:
                status, texts = self._sent_batch(
                    path, {"batch_input": batch, **(parameters or {})}, output_field, token
                )
            except VaultError as error:
                if not _is_of_an_item(error):
                    raise
                if len(batch) == 1:
                    refused = any(_NOT_OF_THE_KEY in text for text in error.errors)
                    values.append(
                        self._refused_item(operation, path, some[0], error.message, 400) if refused else error
                    )
                    most = BATCH_ITEMS
                elif error.status == 413:
                    self._batch_bytes = sum(map(_size, batch)) // 2
                else:
                    most = len(batch) // 2
                continue
            for item, (text, reason) in zip(some, texts, strict=True):
                values.append(self._refused_item(operation, path, item, reason, status) if reason else text)
        return values

    def _sent_batch(
        self, path: str, body: Mapping[str, Any], output_field: str, token: str | None
    ) -> tuple[int, list[tuple[str, str]]]:
        """Send one batch; return the response's status, and text and error of each item, as of `_texts`."""
        response = self.request("POST", path, body, token=token, size=BATCH_ANSWER)
        if (results := _results(response)) is None:
            self.checked("POST", path, response)
            raise self._foreign(response)
        count = len(body["batch_input"])
        return response.status, self._understood(response, partial(_texts, results, output_field, count))

    def _refused_item(self, operation: str, path: str, item: TransitItem, error: str, status: int) -> VaultError:
        reason = " ".join(error.split())
        place = item.place or path
        if operation in ("decrypt", "rewrap"):
            failure = DecryptionFailed(
                f"{path}: Vault could not decrypt the value: {reason}", place=place, status=status, errors=(reason,)
            )
            failure.remedy = _UNDECRYPTED.get(failure.reason)
            return failure
        return VaultError(f"{path}: {reason}", place=item.place, status=status, errors=(reason,))

    def checked(self, method: str, path: str, response: Response) -> dict[str, Any]:
        """Return the JSON of a successful response; raise an exception for any other.

        Args:
            method: HTTP method of the request.
            path: its path, without ``/v1/``.
            response: the response that `request` returned.

        Raises:
            VaultSealed: Vault says that it is sealed or not initialised.
            VaultUnavailable: it is overloaded, without a leader, or a standby that does not forward requests.
            InvalidToken: the token is invalid or has expired.
            PermissionDenied: its policies lack a capability.
            TransitKeyNotFound: there is no such key.
            VaultError: any other refusal, in Vault's own words.
        """
        if response.ok:
            return response.json()
        status, errors = response.status, _errors(response)
        reason = "; ".join(errors) or f"HTTP status {status}"
        if _is_sealed(response):
            raise VaultSealed(reason, place=self.url, status=status, errors=errors, remedy="unseal Vault")
        remedy = _UNAVAILABLE.get(status) or ("wait until Vault has a leader" if _recovers(response) else None)
        if remedy:
            raise VaultUnavailable(reason, place=self.url, status=status, errors=errors, remedy=remedy)
        if _is_invalid_token(response):
            raise InvalidToken(
                f"{path}: {reason}",
                status=status,
                errors=errors,
                remedy="log in again: the token has expired or was revoked",
            )
        if status == 403:
            capability = "read" if method == "GET" else "update"
            raise PermissionDenied(
                f"{path}: {reason}: the token's policies lack the capability {capability} on this path",
                path=path,
                capability=capability,
                errors=errors,
                remedy=_remedy_403(path),
            )
        if "encryption key not found" in reason or "unknown key type" in reason:
            raise TransitKeyNotFound(
                "there is no such Transit key",
                place=path,
                status=status,
                errors=errors,
                remedy="create the key, or check its name",
            )
        raise VaultError(reason, place=path, status=status, errors=errors)


def version_times(key: Mapping[str, Any]) -> dict[int, float]:
    """Return when each version was made that still decrypts, in seconds since the epoch.

    Args:
        key: a Transit key, as of `VaultClient.read_key`. Of a symmetric key it has seconds, and a text of other ones.
    """
    return {int(version): _seconds(entry) for version, entry in key["keys"].items()}


def _seconds(entry: Any) -> float:
    if isinstance(entry, Mapping):
        from datetime import datetime

        return datetime.fromisoformat(str(entry["creation_time"])).timestamp()
    return float(entry)


_UNDECRYPTED = {
    "version": "this version of the key may not decrypt any more: lower min_decryption_version, or seal it again",
    "does not fit": "it was sealed for another place or with another Transit key, or it is damaged",
}
"""What to do by the reason of a `DecryptionFailed`."""

_UNAVAILABLE = {
    307: "wait until Vault has a leader, or address it: this node is a standby that does not forward requests",
    412: "try again: this node has not yet seen the newest write",
    429: "send fewer requests, or raise the rate limit quota",
    472: "address the primary cluster: this one is a secondary for disaster recovery",
    473: "address the active node: this one is a performance standby",
    474: "wait until this standby reaches the active node, or see that the network lets it",
}
_NO_LEADER = ("local node not active", "node is not the leader", "leadership lost", "during forwarding rpc request")
"""What Vault says with status 500 while it has no leader, or loses it (``http/handler.go``, hashicorp/raft)."""


_NO_CONTEXT = "missing 'context' for key derivation"


def _remedy_403(path: str) -> str:
    """Say what to do where a token may not; nobody but readers should be granted decryption."""
    if "/decrypt/" in path:
        return (
            "log in as a workload that reads with this key, by auth method kubernetes, its role and service account:"
            " who seals or operates may not; Vault reports the same for a key that does not exist"
        )
    if "/keys/" in path:
        return "grant it, and check that the path is right"
    return "grant it, and check that the key exists: Vault reports the same for one that does not"


def _entry(item: TransitItem, field_name: str) -> dict[str, str]:
    is_text = field_name == "ciphertext"
    value = item.value.decode("ascii", "replace") if is_text else base64.b64encode(item.value).decode("ascii")
    entry = {field_name: value}
    if item.context is not None:
        entry["context"] = base64.b64encode(item.context).decode("ascii")
    return entry


def _size(entry: Mapping[str, str]) -> int:
    return sum(map(len, entry.values()))


def _first_batch(entries: Sequence[dict[str, str]], limit: int) -> Sequence[dict[str, str]]:
    """Return the first entries, as many as hold no more than a number of bytes, but at least one."""
    size = 0
    for index, entry in enumerate(entries):
        size += _size(entry)
        if index and size > limit:
            return entries[:index]
    return entries


def _whole(results: Sequence[str | VaultError]) -> list[str]:
    """Return the results of a batch; raise the first error among them."""
    values = []
    for result in results:
        if isinstance(result, VaultError):
            raise result
        values.append(result)
    return values


def _results(response: Response) -> list[Any] | None:
    """Return the results of a batch; Vault sends them with status 400 too, if an item failed."""
    data = response.json().get("data")
    results = data.get("batch_results") if isinstance(data, dict) else None
    return results if isinstance(results, list) else None


def _texts(results: list[Any], field_name: str, count: int) -> list[tuple[str, str]]:
    """Return text and error of each result of a batch; one of them is empty."""
    texts = [("", str(item["error"])) if item.get("error") else (str(item[field_name]), "") for item in results]
    if len(texts) != count:
        raise ValueError
    return texts


def _login(auth: Mapping[str, Any]) -> Login:
    return Login(
        str(auth["client_token"]),
        int(auth["lease_duration"]),
        bool(auth["renewable"]),
        auth.get("token_type") == "batch",
    )


def _is_own(method: str, response: Response) -> bool:
    """Whether a response is one of Vault's API: a JSON object, which of a refusal holds its errors, or no content."""
    if not response.body:
        return (response.ok and method != "GET") or response.status == 307
    body = response.json()
    # Of the states that sys/health gives by its status, there is no list of errors.
    return response.is_object and (response.ok or not {"errors", "request_id", "initialized"}.isdisjoint(body))


_NOT_OF_THE_KEY = "failed to RSA decrypt the ciphertext"


def _is_of_an_item(error: VaultError) -> bool:
    """Whether a batch was refused as a whole for what one of its items is, so that the others are sent without it.

    That is an item of more bytes than a limit allows, which Vault tells with status 500, or of a key of RSA one that it
    does not open (``max_json_string_value_length``, and ``builtin/logical/transit/path_rewrap.go``).
    """
    reasons = ("exceeds allowed length", _NOT_OF_THE_KEY)
    in_text = error.status == 500 and any(reason in text for text in error.errors for reason in reasons)
    return in_text or error.status == 413


def _is_sealed(response: Response) -> bool:
    """Whether Vault says that it is sealed or not initialised; what is in front of it sends status 503, too."""
    body, text = response.json(), " ".join(_errors(response)).lower()
    by_state = body.get("sealed") is True or body.get("initialized") is False
    return response.status in (501, 503) and (by_state or "sealed" in text or "initialized" in text)


def _is_invalid_token(response: Response) -> bool:
    return response.status == 403 and "invalid token" in "; ".join(_errors(response))


def _recovers(response: Response) -> bool:
    """Whether Vault has no leader, or what is in front of it has no Vault: an election may end that.

    With status 307 and no content, a standby says that it cannot forward the request yet, or does not at all.
    """
    if response.status == 500:
        text = " ".join(_errors(response)).lower()
        return any(words in text for words in _NO_LEADER)
    waiting = response.status == 307 and not response.body
    return waiting or (response.status in (502, 503, 504) and not _is_sealed(response))


def _elsewhere(response: Response) -> bool:
    """Whether this node says that it serves no requests, so that another one may."""
    return (
        response.status in (307, 472, 473)
        or _is_sealed(response)
        or any(_NO_LEADER[0] in error for error in _errors(response))
    )


def _errors(response: Response) -> tuple[str, ...]:
    """Return Vault's messages, each on one line."""
    errors = response.json().get("errors")
    return tuple(" ".join(str(error).split()) for error in errors) if isinstance(errors, list) else ()
