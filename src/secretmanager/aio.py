"""AsyncSecretManager: the same client for services that run on asyncio.

Its requests are made by a few threads of its own, over the same kept-alive connections. A call that is cancelled
leaves its request running to its end, whose result is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from .errors import SecretManagerError, frameless
from .manager import SecretManager, missing_attribute
from .notices.watch import PAUSE, Watch
from .reading.requests import ReadType, Request
from .servers.forking import renewed_in_children
from .servers.kubernetes import KubernetesClient
from .servers.vault import VaultClient

T = TypeVar("T")

log = logging.getLogger(__name__)


@frameless
class AsyncSecretManager:
    """Reads secrets. Its methods are those of `manager.SecretManager`, each to be awaited, with the same errors.

    Args:
        config: as of `manager.SecretManager`; its ``connections`` is also how many requests are made at a time.
        log_level: as of `manager.SecretManager`.

    Raises:
        ConfigError: an option is unknown, missing or wrong.
    """

    def __init__(self, config: Mapping[str, Any] | None = None, log_level: int | str | None = None) -> None:
        self._begin(SecretManager(config, log_level))

    def _begin(self, manager: SecretManager) -> None:
        self._manager = manager
        self._in_child()
        renewed_in_children(self)

    def _in_child(self) -> None:
        """As `forking.Shared._in_child`: the executor's threads are the parent's."""
        self._threads = ThreadPoolExecutor(self._manager.config.connections, "secretmanager")

    @classmethod
    def from_files(
        cls, config_file: str, definition_file: str | None = None, log_level: int | str | None = None
    ) -> Self:
        """Return a manager with options and a definition from files; as `manager.SecretManager.from_files`.

        It is not awaited: it reads the two files, and sends nothing.
        """
        instance = cls.__new__(cls)
        instance._begin(SecretManager.from_files(config_file, definition_file, log_level))
        return instance

    if not TYPE_CHECKING:  # a checker shall know that there is no such attribute

        def __getattr__(self, name: str) -> Any:
            """Say what takes the place of a method of the published client."""
            raise missing_attribute(type(self), name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all watches, revoke the Vault token, forget what is cached and close all connections."""
        await asyncio.to_thread(self._manager.close)
        self._threads.shutdown(wait=False)

    @overload
    async def read_secrets(
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
    async def read_secrets(self, file_name: str, file_type: str = "JSON") -> dict[str, Any]: ...

    @overload
    async def read_secrets(
        self, env_def_file: str | Mapping[str, str], env_file: str | None = None, definition_type: str = "JSON"
    ) -> dict[str, Any]: ...

    async def read_secrets(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Read a secret from the manager's source; as `manager.SecretManager.read_secrets`."""
        return await self._run(self._manager.read_secrets, *args, **options)

    async def read_encrypted_secrets(
        self,
        secret_name: str,
        namespace: str,
        read_type: ReadType = "SECRET",
        read_key: str | None = None,
        transit_key: str | None = None,
        *,
        scope: str | None = None,
    ) -> dict[str, Any]:
        """Read a sealed Secret; as `manager.SecretManager.read_encrypted_secrets`."""
        return await self._run(
            self._manager.read_encrypted_secrets,
            secret_name,
            namespace,
            read_type,
            read_key,
            transit_key,
            scope=scope,
        )

    async def read_many(self, requests: Iterable[Request | Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Read several secrets at once; as `manager.SecretManager.read_many`."""
        return await self._run(self._manager.read_many, requests)

    async def read_defined(self) -> dict[str, Any]:
        """Read all that the definition file names; as `manager.SecretManager.read_defined`."""
        return await self._run(self._manager.read_defined)

    async def read_k8s_secret(
        self, secret_name: str, namespace: str, read_type: ReadType = "SECRET", read_key: str | None = None
    ) -> str | dict[str, str]:
        """Read a Secret or ConfigMap as it is; as `manager.SecretManager.read_k8s_secret`."""
        return await self._run(self._manager.read_k8s_secret, secret_name, namespace, read_type, read_key)

    async def decrypt_data_with_vault(self, transit_key: str, ciphertext: str, context: bytes | None = None) -> str:
        """Decrypt one ciphertext; as `manager.SecretManager.decrypt_data_with_vault`."""
        return await self._run(self._manager.decrypt_data_with_vault, transit_key, ciphertext, context)

    @staticmethod
    async def load_json_secrets(text: str, place: str | None = None) -> dict[str, Any]:
        """Return the JSON object in a text; as `manager.SecretManager.load_json_secrets`."""
        return SecretManager.load_json_secrets(text, place)

    async def watch(
        self,
        secret_name: str,
        namespace: str,
        read_type: ReadType = "SECRET",
        read_key: str | None = None,
        transit_key: str | None = None,
        *,
        scope: str | None = None,
        initial: bool = False,
        on_change: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
        on_error: Callable[[SecretManagerError], Awaitable[None]] | None = None,
    ) -> AsyncWatch:
        """Watch a Secret; as `manager.SecretManager.watch`, with callbacks that are awaited, in a task of their own."""
        blocking_watch = await self._run(
            self._manager.watch,
            secret_name,
            namespace,
            read_type,
            read_key,
            transit_key,
            scope=scope,
            initial=initial,
        )
        watch = AsyncWatch(blocking_watch)
        if on_change:
            watch._start(on_change, on_error)
        return watch

    async def clear_cache(self) -> None:
        """Forget and wipe everything that is cached."""
        self._manager.clear_cache()

    async def rotate_vault_key(self, transit_key: str) -> int:
        """Make a new version of a Transit key; as `manager.SecretManager.rotate_vault_key`."""
        return await self._run(self._manager.rotate_vault_key, transit_key)

    async def rewrap(
        self,
        secret_name: str,
        namespace: str,
        transit_key: str | None = None,
        *,
        gitops: bool = False,
        recreate: bool = False,
    ) -> dict[str, int]:
        """Bring a sealed Secret to the newest version of its key; as `manager.SecretManager.rewrap`."""
        return await self._run(
            self._manager.rewrap, secret_name, namespace, transit_key, gitops=gitops, recreate=recreate
        )

    async def connect_to_k8s(self) -> KubernetesClient:
        """Return the client of the Kubernetes API, which is not asynchronous itself."""
        return await self._run(self._manager.connect_to_k8s)

    async def connect_to_vault(self) -> VaultClient:
        """Return the client of Vault, which is not asynchronous itself."""
        return await self._run(self._manager.connect_to_vault)

    async def get_k8s_service_account_token(
        self, service_account: str | None = None, namespace: str | None = None
    ) -> str:
        """Have Kubernetes issue a token; as `manager.SecretManager.get_k8s_service_account_token`."""
        return await self._run(self._manager.get_k8s_service_account_token, service_account, namespace)

    async def _run(self, function: Callable[..., T], *args: Any, **options: Any) -> T:
        self._manager._check_open()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(function, *args, **options))


@frameless
class AsyncWatch:
    """Yields the secret again after each change, as `notices.watch.Watch` does; to be closed, as by ``async with``."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        # What waits for the next change, also while nobody awaits it, as after a time-out: no change is lost.
        self._next: Future[dict[str, Any] | None] | None = None
        renewed_in_children(self)
        self._task: asyncio.Task[None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        """Wait for the next change; return the new secret, or raise as `notices.watch.Watch.__next__`."""
        if self._next is None:
            if self._watch.closed:
                raise StopAsyncIteration
            self._next = self._wait()
        pending = self._next
        try:
            secrets = await asyncio.wrap_future(pending)
        except Exception:  # none is a cancellation, after which it is awaited again
            self._next = None
            raise
        self._next = None
        if secrets is None:
            raise StopAsyncIteration
        return secrets

    def _in_child(self) -> None:
        """As `forking.Shared._in_child`."""
        self._next = None

    def _wait(self) -> Future[dict[str, Any] | None]:
        """Wait for the next change in a thread of its own, which keeps no process from ending."""
        future: Future[dict[str, Any] | None] = Future()
        future.set_running_or_notify_cancel()  # from now on, a cancellation of who awaits it leaves it

        def run() -> None:
            try:
                future.set_result(next(self._watch, None))
            except BaseException as error:  # noqa: BLE001 - it is raised where the future is awaited
                future.set_exception(error)

        threading.Thread(target=run, name=f"watch {self._watch}", daemon=True).start()
        return future

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the watch; iteration ends."""
        await asyncio.to_thread(self._watch.close)
        if self._task and self._task is not asyncio.current_task():
            await self._task

    def _start(
        self,
        on_change: Callable[[dict[str, Any]], Awaitable[None]],
        on_error: Callable[[SecretManagerError], Awaitable[None]] | None,
    ) -> None:
        async def run() -> None:
            changed: list[dict[str, Any]] = []
            while True:
                try:
                    changed.append(await anext(self))
                except StopAsyncIteration:
                    return
                except SecretManagerError as error:
                    if on_error:
                        await on_error(error)
                    else:
                        log.error("%s", error)  # noqa: TRY400 - its message says all; a trace would show locals
                    await asyncio.sleep(PAUSE)
                else:
                    await on_change(changed.pop())  # so that an error of it has them in no frame of ours

        self._task = asyncio.create_task(run(), name=f"watch {self._watch}")
