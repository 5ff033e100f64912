"""SecretManager: reads secrets for a service. Its methods have the names of an earlier client."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from inspect import signature
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload
from weakref import WeakSet

from .config import Config, Source
from .errors import ConfigError, FormerMethod, ManagerClosed, SecretManagerError, check_arguments, guarded
from .login.methods import JWT_LIFE, method_of
from .login.session import VaultSession
from .reading.plain import load_json, read_environment, read_file, read_object
from .reading.reader import Reader
from .reading.requests import ReadType, Request, decoded, request_from
from .servers.forking import renewed_in_children
from .servers.kubernetes import KubernetesClient
from .servers.vault import TransitItem, VaultClient

if TYPE_CHECKING:
    from .notices.watch import Watch

log = logging.getLogger(__name__)

_NO_CONFIG = "config: found nothing; allowed is a mapping of options, as SecretManager({'SOURCE': 'KUBEVAULT', ...})"


@guarded
class SecretManager:
    """Reads secrets. Threads may share one, and should: it keeps its connections and its Vault token.

    Nothing is sent before the first read. Use it as a context manager, or `close` it, to revoke the token.

    Args:
        config: options by name, as `config.Config` documents them; ``SOURCE`` says where secrets come from. It is
            required; without one, as the published client allows, the error says so.
        log_level: level of the logger ``secretmanager``; None leaves it as it is. No level shows a value.

    Raises:
        ConfigError: an option is unknown, missing or wrong.
    """

    def __init__(self, config: Mapping[str, Any] | None = None, log_level: int | str | None = None) -> None:
        if config is None:
            raise ConfigError(_NO_CONFIG)
        if log_level is not None:
            try:
                logging.getLogger("secretmanager").setLevel(log_level)
            except (TypeError, ValueError):
                raise ConfigError(f"log_level: found {log_level!r}; allowed is a level of logging") from None
        self.config = Config.from_dict(config)
        self._lock = threading.Lock()
        renewed_in_children(self)
        self._closed = False
        self._kubernetes: KubernetesClient | None = None
        self._vault: VaultClient | None = None
        self._session: VaultSession | None = None
        self._given_token: str | None = None
        self._watches: WeakSet[Watch] = WeakSet()
        self._definition: Mapping[str, Any] | None = None
        self._reader = Reader(self.config, self.connect_to_k8s, self._decrypt)

    @classmethod
    def from_files(
        cls, config_file: str, definition_file: str | None = None, log_level: int | str | None = None
    ) -> Self:
        """Return a manager with options and a definition from files, such as a ConfigMap mounts.

        Args:
            config_file: path of a file with the options, often ``secretcfg.json``. The name of a YAML file ends in
                ``.yaml`` or ``.yml``; all others are JSON.
            definition_file: path of a file with what `read_defined` reads, often ``secretdef.json``: the arguments of
                `read_secrets` by name, or such arguments for each of several names.
            log_level: as of the class.

        Raises:
            SecretFileError: a file is missing or not readable.
            SecretFormatError: it is not a JSON or YAML object.
            ConfigError: an option is unknown, missing or wrong.
        """
        manager = cls(read_object(config_file), log_level)
        if definition_file is not None:
            manager._definition = read_object(definition_file)
        return manager

    if not TYPE_CHECKING:  # a checker shall know that there is no such attribute

        def __getattr__(self, name: str) -> Any:
            """Say what takes the place of a method of the published client."""
            raise missing_attribute(type(self), name)

    def _in_child(self) -> None:
        """As `forking.Shared._in_child`."""
        self._lock = threading.Lock()
        self._watches = WeakSet()

    def __getattr__(self, name: str) -> Any:
        """Say what is called today in place of a method of dekeyrej-secretmanager."""
        raise missing_attribute(type(self), name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all watches, revoke the Vault token, clear the caches, close all connections. Closing twice is fine."""
        with self._lock:
            self._closed = True
            session, vault, kubernetes = self._session, self._vault, self._kubernetes
            watches = list(self._watches)
        for watch in watches:
            watch.close()
        self.clear_cache()
        if session:
            session.close()
        if vault:
            vault.close()
        if kubernetes:
            kubernetes.close()

    # Reading

    @overload
    def read_secrets(
        self,
        secret_name: str,
        namespace: str,
        read_type: ReadType = "SECRET",
        read_key: str | None = None,
        transit_key: str | None = None,
        *,
        scope: str | None = None,
    ) -> dict[str, Any]: ...

    @overload
    def read_secrets(self, file_name: str, file_type: str = "JSON") -> dict[str, Any]: ...

    @overload
    def read_secrets(
        self, env_def_file: str | Mapping[str, str], env_file: str | None = None, definition_type: str = "JSON"
    ) -> dict[str, Any]: ...

    def read_secrets(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Read a secret from the manager's source.

        Args:
            args: for the sources KUBEVAULT and KUBERNETES as `read_encrypted_secrets`; for FILE as
                `reading.plain.read_file`; for ENVIRONMENT as `reading.plain.read_environment`.
            options: the same by name.

        Returns:
            With ``read_key`` the JSON object in that data key; without, the text of each data key. Of a file its JSON
            object, of the environment the text of each variable.

        Raises:
            SecretNotFound, SecretKeyNotFound, SecretFileError: it does not exist.
            SecretFormatError: the value is not a JSON object.
            SealedDataError, DecryptionFailed: it is not sealed, or the key does not open it here.
            LoginDenied, PermissionDenied, Forbidden: a permission is missing; the message names it.
            VaultUnavailable, KubernetesUnavailable: a server is unreachable.
            TLSError: verification of a server's certificate failed.
            ConfigError: an argument is unknown, missing or wrong.
        """
        check_arguments(_reader_of(self.config.source), len(args), options, "read_secrets")
        if self.config.source == "KUBEVAULT":
            return self.read_encrypted_secrets(*args, **options)
        if self.config.source == "KUBERNETES":
            return self._reader.plain([Request(*args, **options)])[0]
        return read_file(*args, **options) if self.config.source == "FILE" else read_environment(*args, **options)

    def read_encrypted_secrets(
        self,
        secret_name: str,
        namespace: str,
        read_type: ReadType = "SECRET",
        read_key: str | None = None,
        transit_key: str | None = None,
        *,
        scope: str | None = None,
    ) -> dict[str, Any]:
        """Read a sealed Secret: get it from Kubernetes and have Vault decrypt it.

        Args:
            secret_name: name of the Secret or ConfigMap.
            namespace: its namespace.
            read_type: "SECRET" or "CONFIG_MAP".
            read_key: data key that holds a JSON object; None for all data keys, each a text.
            transit_key: Transit key that decrypts it, and no other; required if the Secret has no manifest, which names
                it.
            scope: the scope that it must be sealed in, such as "strict"; None for any.

        Returns, raises:
            As `read_secrets`.
        """
        return self._reader.sealed([Request(secret_name, namespace, read_type, read_key, transit_key, scope)])[0]

    def read_many(self, requests: Iterable[Request | Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Read several secrets: each Secret is requested once, and each Transit key is used in one batch.

        Args:
            requests: what to read, as `reading.requests.Request` or as mappings of the arguments of `read_secrets`.

        Returns:
            One result each, as of `read_secrets`, in the same order.

        Raises:
            As `read_secrets`: if one cannot be read, none is returned.
        """
        if isinstance(requests, str | Mapping) or not isinstance(requests, Iterable):
            raise ConfigError(f"requests: found {type(requests).__name__}; allowed is a list of Requests or mappings")
        if self.config.source in ("FILE", "ENVIRONMENT"):
            return [self.read_secrets(**_named(request)) for request in requests]
        parsed_requests = [request if isinstance(request, Request) else request_from(request) for request in requests]
        read = self._reader.plain if self.config.source == "KUBERNETES" else self._reader.sealed
        return read(parsed_requests)

    def read_defined(self) -> dict[str, Any]:
        """Read all that the definition file of `from_files` names.

        Returns:
            For one definition the secret, as of `read_secrets`; for several a secret for each name.

        Raises:
            ConfigError: there is no definition, or an argument in it is unknown, missing or wrong.
            SecretManagerError: as `read_secrets`; if one cannot be read, none is returned.
        """
        definition = self._definition
        if not definition:
            raise ConfigError("there is no definition of what to read", remedy="give from_files a definition_file")
        allowed = _arguments_of(self.config.source)
        several = not definition.keys() & allowed and all(isinstance(one, Mapping) for one in definition.values())
        definitions = definition if several else {"": definition}
        for name, arguments in definitions.items():
            place = f"definition of {name}" if name else "definition"
            if unknown := sorted(arguments.keys() - allowed, key=str):
                message = f"{', '.join(map(str, unknown))}: unknown; allowed are {', '.join(allowed)}"
                raise ConfigError(message, place=place)
            if missing := [
                argument for argument, required in allowed.items() if required and argument not in arguments
            ]:
                raise ConfigError(f"{', '.join(missing)}: is missing", place=place)
        results = self.read_many(definitions.values())
        return dict(zip(definitions, results, strict=True)) if several else results[0]

    def read_k8s_secret(
        self, secret_name: str, namespace: str, read_type: ReadType = "SECRET", read_key: str | None = None
    ) -> str | dict[str, str]:
        """Read a Secret or ConfigMap as it is, ciphertext as ciphertext.

        Returns:
            The text of ``read_key``, or without it the text of each data key.

        Raises:
            SecretNotFound, SecretKeyNotFound, Forbidden, KubernetesUnavailable, TLSError: as `read_secrets`.
            SecretFormatError: a value is not valid UTF-8.
        """
        texts = self._reader.texts(Request(secret_name, namespace, read_type, read_key))
        return texts[read_key] if read_key else texts

    def decrypt_data_with_vault(self, transit_key: str, ciphertext: str, context: bytes | None = None) -> str:
        """Decrypt one ciphertext.

        Args:
            transit_key: Vault's key.
            ciphertext: ``vault:vN:...``.
            context: what a derived key was given, as `sealed.Place.context`; None for others.

        Raises:
            DecryptionFailed, TransitKeyNotFound, PermissionDenied, LoginDenied, VaultUnavailable, TLSError: as
                `read_secrets`.
            SecretFormatError: the plaintext is not valid UTF-8.
        """
        (plaintext,) = self._decrypt(transit_key, [TransitItem(ciphertext.encode(), context)])
        return decoded(plaintext)

    @staticmethod
    def load_json_secrets(text: str, place: str | None = None) -> dict[str, Any]:
        """Return the JSON object in a text.

        Raises:
            SecretFormatError: the text is not JSON, or not an object; names the place, not the text.
        """
        return load_json(text, place)

    def watch(
        self,
        secret_name: str,
        namespace: str,
        read_type: ReadType = "SECRET",
        read_key: str | None = None,
        transit_key: str | None = None,
        *,
        scope: str | None = None,
        initial: bool = False,
        on_change: Callable[[dict[str, Any]], None] | None = None,
        on_error: Callable[[SecretManagerError], None] | None = None,
    ) -> Watch:
        """Watch a Secret: return the new secret, or call back with it, after each change.

        Notices come by Redis if ``redis_url`` is set, and by a watch of the Kubernetes API otherwise, and while
        Redis is unreachable. Changes that happen meanwhile are found afterwards, because versions are compared.

        Args:
            secret_name: name of the Secret or ConfigMap.
            namespace: its namespace.
            read_type: "SECRET" or "CONFIG_MAP".
            read_key: as `read_encrypted_secrets`.
            transit_key: as `read_encrypted_secrets`.
            scope: as `read_encrypted_secrets`.
            initial: whether the current secret comes first, so that nothing can happen between reading and watching.
            on_change: called with the new secret, by a thread of the watch's own; without it, iterate over the watch.
            on_error: called if a changed secret cannot be read, or the watch is refused; without it such an error
                is logged. It needs ``on_change``: an iteration raises.

        Returns:
            The watch, to be closed; it is a context manager, and without ``on_change`` an iterator.

        Raises:
            As `read_secrets`; NoticeError if Redis refuses.
        """
        from .notices.watch import Watch, start

        request = Request(secret_name, namespace, read_type, read_key, transit_key, scope)
        watch = Watch(self.config, self._reader, self.connect_to_k8s, request, initial=initial)
        with self._lock:
            self._watches.add(watch)
        if on_change:
            start(watch, on_change, on_error)
        return watch

    def clear_cache(self) -> None:
        """Forget and wipe everything that is cached."""
        self._reader.forget()

    # Rotation

    def rotate_vault_key(self, transit_key: str) -> int:
        """Make a new version of a Transit key. Older ones still decrypt; `rewrap` brings it to this one.

        Returns:
            The new version.

        Raises:
            PermissionDenied: the role may not rotate or read the key; the policy ``kubevault-rotator-KEY`` may.
            TransitKeyNotFound, LoginDenied, VaultUnavailable, TLSError: as `read_secrets`.
        """
        vault, session = self._connected()
        session.call(lambda token: vault.rotate_key(transit_key, token=token))
        version = int(session.call(lambda token: vault.read_key(transit_key, token=token))["latest_version"])
        log.debug("Transit key %s has version %d now", transit_key, version)
        return version

    def rewrap(
        self,
        secret_name: str,
        namespace: str,
        transit_key: str | None = None,
        *,
        gitops: bool = False,
        recreate: bool = False,
    ) -> dict[str, int]:
        """Bring the values of a sealed Secret to the newest version of its Transit key. No plaintext leaves Vault.

        The Secret is written whole, and only if nobody else changed it in between; otherwise that is rewrapped.

        Args:
            secret_name: name of the Secret.
            namespace: its namespace.
            transit_key: Transit key whose values are rewrapped, also those that an older tool sealed; without it, that
                of the Secret's manifest.
            gitops: also if Argo CD or Flux owns the Secret, which may put it back as it is in Git.
            recreate: also if it is immutable: it is deleted and made again.

        Returns:
            The new version of each value that was behind, by data key; empty if nothing was.

        Raises:
            As `rotation.single.rewrap_secret`.
        """
        from .rotation.single import rewrap_secret

        return rewrap_secret(
            self.connect_to_k8s(),
            _LoggedIn(self._connected),
            namespace,
            secret_name,
            transit_key,
            gitops=gitops,
            recreate=recreate,
        )

    # Connections and identity

    def connect_to_k8s(self, kube_config: str | Mapping[str, Any] | None = None) -> KubernetesClient:
        """Return the client of the Kubernetes API, created at the first use; nothing is sent.

        Args:
            kube_config: another kubeconfig file, or its content, from now on. The client of the one before is closed.

        Raises:
            ConfigError: no kubeconfig, or one that cannot be used.
            ManagerClosed: the manager was closed.
        """
        with self._lock:
            self._check_open()
            if kube_config and kube_config != self.config.kube_config:
                self.config = self.config.changed(kube_config=kube_config)
                if self._kubernetes:
                    self._kubernetes.close()
                    self._kubernetes = None
            if self._kubernetes is None:
                config = self.config
                self._kubernetes = KubernetesClient.from_kubeconfig(
                    config.kube_config,
                    config.context,
                    proxy=config.kube_proxy,
                    timeout=config.timeout,
                    connections=config.connections,
                    retries=config.retries,
                    election_timeout=config.election_timeout,
                )
            return self._kubernetes

    def connect_to_vault(
        self,
        vault_url: str | None = None,
        role: str | None = None,
        k8s_token: str | None = None,
        ca_path: bool | str | None = None,
    ) -> VaultClient:
        """Return the client of Vault, created at the first use; nothing is sent, and it holds no token.

        With an argument that changes something, the token of the session before is revoked and its client closed.

        Args:
            vault_url: another address, from now on.
            role: another role, from now on.
            k8s_token: the service account's token to log in with, instead of asking for one.
            ca_path: another CA, as the option ``ca_cert``; True for that of the configuration.

        Raises:
            ConfigError: the address or the CA cannot be used.
            ManagerClosed: the manager was closed.
        """
        overrides = {"vault_url": vault_url, "role": role, "ca_cert": ca_path}
        changes: dict[str, Any] = {
            name: value for name, value in overrides.items() if value not in (None, True, getattr(self.config, name))
        }
        if not changes and not k8s_token:
            return self._connected()[0]
        with self._lock:
            self.config = self.config.changed(**changes)
            session, self._session = self._session, None
            vault, self._vault = self._vault, None
            self._given_token = k8s_token
        if session:
            session.close()
        if vault:
            vault.close()
        return self._connected()[0]

    def get_k8s_service_account_token(self, service_account: str | None = None, namespace: str | None = None) -> str:
        """Have Kubernetes issue a token of a service account, for the configuration's audience, for 10 minutes.

        Args:
            service_account: None for the configuration's.
            namespace: None for the configuration's.

        Raises:
            SecretNotFound: there is no such service account.
            Forbidden: RBAC lacks ``create`` on ``serviceaccounts/token``.
            KubernetesUnavailable, TLSError: as `read_secrets`.
        """
        account, space = service_account or self.config.service_account, namespace or self.config.namespace
        log.debug("asking for a token of service account %s/%s", space, account)
        return self.connect_to_k8s().create_token(space, account, self.config.audience, JWT_LIFE)

    def _connected(self) -> tuple[VaultClient, VaultSession]:
        with self._lock:
            self._check_open()
            if self._vault is None or self._session is None:
                config = self.config
                if config.source != "KUBEVAULT":
                    raise ConfigError(f"SOURCE: found {config.source}; only KUBEVAULT uses Vault")
                self._vault = VaultClient(
                    config.vault_url,
                    ca_cert=config.ca_cert,
                    ca_path=config.ca_path,
                    client_cert=config.vault_client_cert,
                    client_key=config.vault_client_key,
                    tls_server_name=config.vault_tls_server_name,
                    proxy=config.vault_proxy,
                    loopback_http=config.vault_loopback_http,
                    namespace=config.vault_namespace,
                    timeout=config.timeout,
                    transit_mount=config.transit_mount,
                    retries=config.retries,
                    election_timeout=config.election_timeout,
                    connections=config.connections,
                )
                credentials = config.credentials
                if self._given_token:
                    credentials = replace(credentials, jwt=self._given_token)
                method = method_of(credentials, self.connect_to_k8s)
                self._session = VaultSession(self._vault, partial(method.log_in, self._vault))
            return self._vault, self._session

    def _check_open(self) -> None:
        if self._closed:
            raise ManagerClosed("the manager was closed", remedy="make a new one")

    def _decrypt(self, transit_key: str, items: Sequence[TransitItem]) -> list[bytes]:
        vault, session = self._connected()
        log.debug("decrypting %d values with Transit key %s", len(items), transit_key)
        return session.call(lambda token: vault.decrypt(transit_key, items, token=token))


class _LoggedIn:
    """Runs Transit operations with the token of a session, which is renewed if need be."""

    def __init__(self, connected: Callable[[], tuple[VaultClient, VaultSession]]) -> None:
        self._connected = connected

    def rewrap(self, key: str, items: Sequence[TransitItem]) -> list[str]:
        vault, session = self._connected()
        return session.call(lambda token: vault.rewrap(key, items, token=token))

    def hmac(self, key: str, inputs: Sequence[bytes]) -> list[str]:
        vault, session = self._connected()
        return session.call(lambda token: vault.hmac(key, inputs, token=token))

    def are_hmacs(self, key: str, pairs: Sequence[tuple[bytes, str]]) -> list[bool]:
        vault, session = self._connected()
        return session.call(lambda token: vault.are_hmacs(key, pairs, token=token))


def _arguments_of(source: Source) -> dict[str, bool]:
    """Return the names of the arguments of `SecretManager.read_secrets` for a source, and whether each is required."""
    return {item.name: item.default is item.empty for item in signature(_reader_of(source)).parameters.values()}


def _reader_of(source: Source) -> Callable[..., Any]:
    """Return what has the arguments of `SecretManager.read_secrets` for a source."""
    readers: Mapping[str, Callable[..., Any]] = {"FILE": read_file, "ENVIRONMENT": read_environment}
    return readers.get(source, Request)


def _named(request: Request | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(request, Request):
        raise ConfigError(f"{request}: is asked of Kubernetes, and SOURCE is another")
    if not isinstance(request, Mapping):
        raise ConfigError(f"found a request of type {type(request).__name__}; allowed is a mapping")
    return {str(name): value for name, value in request.items()}


_FORMER = {
    "execute": 'read_secrets(**secretdef) for "READ", close() for "LOGOUT", rotate_vault_key(key) for "ROTATE", nothing'
    ' for "INIT", since the first read connects, and kubevault_secret or `kubevault seal` for "CREATE"',
    "configure_secret_type": "SecretManager(config), a new manager for another source",
    "read_secrets_from_file": 'read_secrets(file_name, file_type) with SOURCE "FILE"',
    "read_secrets_from_env": 'read_secrets(env_def_file, env_file, definition_type) with SOURCE "ENVIRONMENT"',
    "read_data_from_file": 'read_secrets(file_name) with SOURCE "FILE"',
    "create_k8s_secret": "kubevault_secret or `kubevault seal`, which seal; a service does not",
    "encrypt_data_with_vault": "kubevault_secret or `kubevault seal`, which seal; a service does not",
    "authenticate_vault_with_kubernetes": "nothing: the first read logs in",
    "load_yaml_secrets": 'read_secrets(file_name, "YAML") with SOURCE "FILE"',
}
"""What takes the place of the methods of dekeyrej-secretmanager, by their names."""


def missing_attribute(kind: type, name: str) -> AttributeError:
    """Return the error for an attribute that a class does not have: of dekeyrej-secretmanager's, what to call."""
    if name in _FORMER:
        remedy = f"use {_FORMER[name]} (docs/secretmanager.md, Coming from dekeyrej-secretmanager)"
        return FormerMethod(f"{kind.__name__} has no {name}, which is dekeyrej-secretmanager's", remedy=remedy)
    return AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")
