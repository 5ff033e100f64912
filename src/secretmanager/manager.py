"""SecretManager: reads secrets for a service. Its methods have the names that users of the seed know."""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self

from .config import Config
from .errors import ConfigError, SealedDataError, SecretFormatError, SecretKeyNotFound
from .kubeconfig import MountedToken
from .kubernetes import KubernetesClient
from .sealed import MANIFEST_KEY, Place, key_version, manifest_of
from .session import VaultSession
from .vault import Login, TransitItem, VaultClient

log = logging.getLogger(__name__)

ReadType = Literal["SECRET", "CONFIG_MAP"]
_RESOURCES: dict[str, Literal["secrets", "configmaps"]] = {"SECRET": "secrets", "CONFIG_MAP": "configmaps"}

JWT_LIFE = 600
"""Life of the service account's token, in seconds: the least that Kubernetes allows."""


class SecretManager:
    """Reads secrets. Threads may share one.

    Args:
        config: options by name, as `config.Config` documents them; ``SOURCE`` says where secrets come from.

    Raises:
        ConfigError: an option is unknown, missing or wrong.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = Config.from_dict(config)
        self._lock = threading.Lock()
        self._kubernetes: KubernetesClient | None = None
        self._session: VaultSession | None = None
        self._vault: VaultClient | None = None
        self._jwt: tuple[str, float] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Revoke the Vault token and close all connections. The manager may be used again; it then starts anew."""
        with self._lock:
            session, vault, kubernetes = self._session, self._vault, self._kubernetes
            self._session = self._vault = self._kubernetes = self._jwt = None
        if session:
            session.close()
        if vault:
            vault.close()
        if kubernetes:
            kubernetes.close()

    # Reading

    def read_secrets(
        self,
        secret_name: str,
        namespace: str,
        read_type: ReadType = "SECRET",
        read_key: str | None = None,
        transit_key: str | None = None,
    ) -> dict[str, Any]:
        """Read a secret from the manager's source.

        Args:
            secret_name: name of the Secret or ConfigMap.
            namespace: its namespace.
            read_type: "SECRET" or "CONFIG_MAP".
            read_key: data key that holds a JSON object; None for all data keys.
            transit_key: Vault's key that opens it; needed where the Secret does not say it itself (its manifest does).

        Returns:
            With ``read_key`` the JSON object in it; without, the text of each data key.

        Raises:
            SecretNotFound, SecretKeyNotFound: there is no such Secret or data key.
            SecretFormatError: the value is no JSON object.
            SealedDataError, DecryptionFailed: it is not sealed, or the key does not open it here.
            LoginDenied, PermissionDenied, Forbidden: somebody lacks a right; the message names it.
            VaultUnavailable, KubernetesUnavailable, TLSError: a server is out of reach, or not to be trusted.
        """
        if self.config.source == "KUBEVAULT":
            return self.read_encrypted_secrets(secret_name, namespace, read_type, read_key, transit_key)
        if self.config.source == "KUBERNETES":
            found = self.read_k8s_secret(secret_name, namespace, read_type, read_key)
            if isinstance(found, str):
                return self.load_json_secrets(found, f"{namespace}/{secret_name}[{read_key}]")
            return found
        raise ConfigError(f"SOURCE: {self.config.source} is not read by read_secrets(name, namespace, ...)")

    def read_encrypted_secrets(
        self,
        secret_name: str,
        namespace: str,
        read_type: ReadType = "SECRET",
        read_key: str | None = None,
        transit_key: str | None = None,
    ) -> dict[str, Any]:
        """Read a sealed Secret; arguments, result and errors as of `read_secrets`."""
        found = self._object(secret_name, namespace, read_type)
        data = found.get("data") or {}
        keys = [read_key] if read_key else sorted(data.keys() - {MANIFEST_KEY})
        values = {key: self._value(data, Place(namespace, secret_name, key), read_type) for key in keys}
        opened = self._open(found, namespace, secret_name, values, transit_key)
        if read_key is None:
            return opened
        return self.load_json_secrets(opened[read_key], str(Place(namespace, secret_name, read_key)))

    def read_k8s_secret(
        self, secret_name: str, namespace: str, read_type: ReadType = "SECRET", read_key: str | None = None
    ) -> str | dict[str, str]:
        """Read a Secret or ConfigMap as it is, ciphertext as ciphertext.

        Returns:
            The text of ``read_key``, or without it the text of each data key.

        Raises:
            SecretNotFound, SecretKeyNotFound, Forbidden, KubernetesUnavailable: as `read_secrets`.
            SecretFormatError: a value is no UTF-8 text.
        """
        data = self._object(secret_name, namespace, read_type).get("data") or {}
        if read_key:
            return self._value(data, Place(namespace, secret_name, read_key), read_type)
        return {key: self._value(data, Place(namespace, secret_name, key), read_type) for key in data}

    def decrypt_data_with_vault(self, transit_key: str, ciphertext: str, context: bytes | None = None) -> str:
        """Decrypt one ciphertext.

        Args:
            transit_key: Vault's key.
            ciphertext: ``vault:vN:...``.
            context: what a derived key was given; None for others.

        Raises:
            DecryptionFailed, TransitKeyNotFound, PermissionDenied, LoginDenied, VaultUnavailable, TLSError.
            SecretFormatError: the plaintext is no UTF-8 text.
        """
        return self._decrypt(transit_key, {"": TransitItem(ciphertext.encode(), context)})[""]

    @staticmethod
    def load_json_secrets(text: str, place: str | None = None) -> dict[str, Any]:
        """Give the JSON object in a text.

        Raises:
            SecretFormatError: the text is no JSON, or no object.
        """
        try:
            found = json.loads(text)
        except ValueError:
            # Not "from" the original, which holds the text.
            raise SecretFormatError("the value is no JSON", place=place, remedy="seal a JSON object there") from None
        if not isinstance(found, dict):
            raise SecretFormatError(
                f"the value is JSON, but a {type(found).__name__}", place=place, remedy="seal a JSON object there"
            )
        return found

    # Connections and identity

    def connect_to_k8s(self) -> KubernetesClient:
        """Give the client of the Kubernetes API, made at its first use.

        Raises:
            ConfigError: no kubeconfig, or one that cannot be used.
        """
        with self._lock:
            if self._kubernetes is None:
                self._kubernetes = KubernetesClient.from_kubeconfig(
                    self.config.kube_config, self.config.context, timeout=self.config.timeout
                )
            return self._kubernetes

    def connect_to_vault(self) -> VaultClient:
        """Give the client of Vault, made at its first use. It holds no token; the manager's session does.

        Raises:
            ConfigError: address or CA is not usable.
        """
        self._vault_session()
        if self._vault is None:
            raise ConfigError("the manager was closed meanwhile")
        return self._vault

    def get_k8s_service_account_token(self, service_account: str | None = None, namespace: str | None = None) -> str:
        """Have Kubernetes issue a token of a service account, for the configuration's audience, for 10 minutes.

        Args:
            service_account: None for the configuration's.
            namespace: None for the configuration's.

        Raises:
            SecretNotFound, Forbidden, KubernetesUnavailable: as `kubernetes.KubernetesClient.create_token`.
        """
        config = self.config
        return self.connect_to_k8s().create_token(
            namespace or config.namespace, service_account or config.service_account, config.audience, JWT_LIFE
        )

    def _vault_session(self) -> VaultSession:
        with self._lock:
            if self._session is None:
                config = self.config
                self._vault = VaultClient(
                    config.vault_url,
                    ca_cert=config.ca_cert,
                    namespace=config.vault_namespace,
                    timeout=config.timeout,
                    transit_mount=config.transit_mount,
                )
                self._session = VaultSession(self._vault, self._log_in)
            return self._session

    def _log_in(self) -> Login:
        config, vault = self.config, self.connect_to_vault()
        mount = config.auth_mount or config.auth
        if config.auth == "approle":
            return vault.login_approle(config.role_id, config.secret_id, mount)
        return vault.login_kubernetes(config.role, self._service_account_token(), mount)

    def _service_account_token(self) -> str:
        """Give the service account's token: the projected one, or one that was issued lately."""
        if self.config.token_file:
            return MountedToken(self.config.token_file)()
        now = time.monotonic()
        if self._jwt is None or now > self._jwt[1]:
            self._jwt = (self.get_k8s_service_account_token(), now + JWT_LIFE * 0.8)
        return self._jwt[0]

    # Parts of reading

    def _object(self, name: str, namespace: str, read_type: str) -> dict[str, Any]:
        if read_type not in _RESOURCES:
            raise ConfigError(f"read_type: found {read_type!r}; allowed are {', '.join(_RESOURCES)}")
        log.debug("reading %s %s/%s", read_type, namespace, name)
        return self.connect_to_k8s().get(_RESOURCES[read_type], namespace, name)

    @staticmethod
    def _value(data: Mapping[str, str], place: Place, read_type: str) -> str:
        if place.key not in data:
            known = ", ".join(sorted(data.keys() - {MANIFEST_KEY})) or "none"
            raise SecretKeyNotFound("there is no such data key", place=str(place), remedy=f"it has {known}")
        try:
            return data[place.key] if read_type == "CONFIG_MAP" else base64.b64decode(data[place.key]).decode()
        except ValueError:
            raise SecretFormatError("the value is no UTF-8 text", place=str(place)) from None

    def _open(
        self,
        found: Mapping[str, Any],
        namespace: str,
        name: str,
        values: Mapping[str, str],
        transit_key: str | None,
    ) -> dict[str, str]:
        """Decrypt values of one Secret, in one request."""
        manifest = manifest_of(found)
        key_name = transit_key or (manifest.transit_key if manifest else None)
        if key_name is None:
            raise ConfigError(
                f"transit_key: is missing, and {namespace}/{name} does not say it: an older tool sealed it"
            )
        items = {}
        for key, text in values.items():
            place = Place(namespace, name, key)
            if key_version(text) is None:
                raise SealedDataError(
                    "the value is not sealed: it does not begin with vault:vN:",
                    place=str(place),
                    remedy="seal it, or read it with SOURCE KUBERNETES",
                )
            ours = manifest is not None and key in manifest.digests
            context = place.context(manifest.scope) if manifest and ours else None
            items[key] = TransitItem(text.encode(), context, str(place))
        return self._decrypt(key_name, items)

    def _decrypt(self, transit_key: str, items: Mapping[str, TransitItem]) -> dict[str, str]:
        session, vault = self._vault_session(), self.connect_to_vault()
        plain = session.call(lambda token: vault.decrypt(transit_key, list(items.values()), token=token))
        try:
            return {key: value.decode() for key, value in zip(items, plain, strict=True)}
        except UnicodeDecodeError:
            places = ", ".join(item.place or "the value" for item in items.values())
            raise SecretFormatError("the plaintext is no UTF-8 text", place=places) from None
