"""Watches a Secret for changes, by Redis or by the Kubernetes API."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, Self
from weakref import WeakSet

from ..config import Config
from ..errors import (
    ConfigError,
    Forbidden,
    KubernetesError,
    KubernetesUnavailable,
    ManagerClosed,
    NoticeError,
    SecretManagerError,
    SecretNotFound,
    VaultUnavailable,
    guarded,
)
from ..reading.requests import Request
from ..sealed import SealedSecret, text_of
from ..servers.forking import renewed_in_children
from ..servers.kubernetes import Events, KubernetesClient, Object

if TYPE_CHECKING:
    from .redis import Subscription

log = logging.getLogger(__name__)

LOOK_AGAIN = 60.0
"""How often a Secret is looked at if no notice comes, in seconds: one may have been lost."""

WATCH = 300
"""How long one watch of the Kubernetes API lasts, in seconds."""

PAUSE = 5.0
"""Pause before a failed attempt is repeated, in seconds."""

_LISTEN = 1.0  # seconds; how long a watch that is closed may go on to listen to Redis


_live: WeakSet[Watch] = WeakSet()
_lock = threading.Lock()  # held while that is used


def _say_after_fork() -> None:
    """Warn once of each watch that goes on in this process: a process that was forked does not have it.

    It is said by the parent: in the child, a lock of a handler of logging may be held by a thread that is not there.
    """
    with _lock:
        watches = [watch for watch in _live if not watch.closed]
        _live.clear()
    for watch in watches:
        log.warning(
            "%s: process %d was forked, and its watch goes on there alone; begin one after the fork, in each process"
            " that needs it",
            watch._request,
            os.getpid(),
        )


def _renew_lock() -> None:
    global _lock  # the former one may be held by a thread of the parent
    _lock = threading.Lock()
    _live.clear()


os.register_at_fork(after_in_parent=_say_after_fork, after_in_child=_renew_lock)


class Waiter(Protocol):
    """Waits until a Secret may have changed."""

    def wait(self, version: str | None) -> None:
        """Wait until a Secret may have changed from this version; None if it does not exist."""
        ...

    def close(self) -> None:
        """End it; a waiting thread stops waiting."""
        ...


class Looks(Protocol):
    """Looks at Secrets, as a `reading.reader.Reader` does."""

    def look(self, request: Request) -> Object:
        """Get an object as it is now."""
        ...

    def changed(self, found: Object, request: Request, *, sealed: bool) -> dict[str, Any]:
        """Return what a watch yields for an object that changed."""
        ...


@guarded
class Watch:
    """Yields the secret again after each change. One thread may iterate over it; any may close it.

    Versions are compared, so that nothing is missed while a connection was lost, and a change that leaves the values
    unchanged does not count: one of labels, or a rewrap, which leaves the digests in the manifest. If a server is
    unreachable, it waits and tries again. An error that is not temporary is raised; iteration can continue after it.

    Args:
        config: where the secret comes from, and Redis.
        reader: reads the secret.
        kubernetes: returns the client of the Kubernetes API.
        request: which secret.
        initial: whether the current secret comes first.

    Raises:
        As `manager.SecretManager.watch`.
    """

    def __init__(
        self,
        config: Config,
        reader: Looks,
        kubernetes: Callable[[], KubernetesClient],
        request: Request,
        *,
        initial: bool = False,
    ) -> None:
        if config.source not in ("KUBEVAULT", "KUBERNETES"):
            raise ConfigError(f"SOURCE: found {config.source}; watched are KUBEVAULT and KUBERNETES")
        self._sealed = config.source == "KUBEVAULT"
        self._reader = reader
        self._request = request
        self._stop = threading.Event()
        renewed_in_children(self)
        self._inherited = False
        with _lock:
            _live.add(self)
        # It listens before it looks, so that no change falls between.
        self._waiter = _waiter(config, kubernetes, request, self._stop)
        self._pending = initial
        self._seen: Object | None = None
        self._failed = False  # whether what was seen could not be read
        if not initial:
            try:
                self._seen = reader.look(request)
            except BaseException:
                self.close()
                raise

    def _in_child(self) -> None:
        """As `forking.Shared._in_child`: the watch is the parent's, and here it has ended."""
        self._inherited = not self._stop.is_set()
        self._stop = threading.Event()
        self._stop.set()
        self._waiter = _Ended()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Any]:
        """Wait for the next change; return the new secret.

        Raises:
            As `manager.SecretManager.read_secrets`; NoticeError if Redis refuses.
        """
        while not self._stop.is_set():
            try:
                if not self._pending:
                    self._waiter.wait(_version(self._seen))
                if not self._stop.is_set() and (value := self._changed()) is not None:
                    return value
            except (VaultUnavailable, KubernetesUnavailable) as error:
                log.warning("%s: will look again in %g s: %s", self._request, PAUSE, error)
                self._pending = True
                self._stop.wait(PAUSE)
            except ManagerClosed:
                break
        if self._inherited:
            self._inherited = False
            log.warning("%s: the watch goes on in the parent of this process alone; begin one here", self._request)
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._stop.is_set()

    def close(self) -> None:
        """End the watch; iteration ends."""
        self._stop.set()
        self._waiter.close()

    def _changed(self) -> dict[str, Any] | None:
        """Look at the object; read the secret if its data changed."""
        try:
            resource = self._reader.look(self._request)
        except SecretNotFound:
            if self._pending:
                raise
            if self._seen is not None:
                log.warning("%s: was deleted; waiting for a new one", self._request)
            self._seen = None
            return None
        before, self._seen = self._seen, resource
        if not self._pending and before is not None and self._same(before, resource):
            return None
        log.debug("%s: changed to version %s", self._request, _version(resource))
        self._pending = False
        self._failed = True
        secrets = self._reader.changed(resource, self._request, sealed=self._sealed)
        self._failed = False
        return secrets

    def _same(self, before: Object, after: Object) -> bool:
        """Whether two versions of the object hold the same values."""
        if before.get("data") == after.get("data"):
            return True
        # What could not be read may be the same value, sealed anew with a version that decrypts.
        by_digest = self._sealed and self._request.resource == "secrets" and not self._failed
        return by_digest and _marks(before) == _marks(after)


def start(
    watch: Watch,
    on_change: Callable[[dict[str, Any]], None],
    on_error: Callable[[SecretManagerError], None] | None,
) -> threading.Thread:
    """Iterate over a watch in a thread of its own, and call back."""

    def run() -> None:
        changed: list[dict[str, Any]] = []
        with watch:
            while True:
                try:
                    changed.append(next(watch))
                except StopIteration:
                    return
                except SecretManagerError as error:
                    if on_error:
                        on_error(error)
                    else:
                        log.error("%s", error)  # noqa: TRY400 - its message says all; a trace would show locals
                    watch._stop.wait(PAUSE)
                else:
                    on_change(changed.pop())  # so that an error of it has them in no frame of ours

    thread = threading.Thread(target=run, name=f"watch {watch._request}", daemon=True)
    thread.start()
    return thread


def _marks(secret: Object) -> Mapping[str, str]:
    """Return by data key what differs if the value does: its digest, or of a value without one the data itself."""
    sealed = SealedSecret.of(secret)
    manifest, data = sealed.manifest, sealed.data
    if manifest is None:
        return secret.get("data") or {}
    marks = dict(data)
    for key in sealed.managed_keys & marks.keys():
        # A digest says nothing of a ciphertext that another tool put there.
        if manifest.is_intact(key, text_of(data[key])):
            marks[key] = manifest.digests[key]
    return marks


def _version(resource: Object | None) -> str | None:
    return str(resource["metadata"]["resourceVersion"]) if resource else None


def _waiter(
    config: Config, kubernetes: Callable[[], KubernetesClient], request: Request, stop: threading.Event
) -> Waiter:
    watch = KubernetesWatch(kubernetes, request, stop)
    if not config.redis_url:
        return watch
    if request.resource != "secrets":
        raise ConfigError(f"read_type: found {request.read_type}; notices by Redis are about Secrets")
    return RedisNotices(config, request, stop, watch)


class _Ended:
    """Waits for nothing, and closes nothing."""

    def wait(self, version: str | None) -> None:
        """As `Waiter.wait`."""

    def close(self) -> None:
        """As `Waiter.close`."""


class KubernetesWatch:
    """Waits by a watch of the Kubernetes API."""

    def __init__(self, kubernetes: Callable[[], KubernetesClient], request: Request, stop: threading.Event) -> None:
        self._kubernetes = kubernetes
        self._request = request
        self._stop = stop
        self._events: Events | None = None

    def wait(self, version: str | None, seconds: int = WATCH) -> None:
        """As `Waiter.wait`, for a number of seconds at most.

        Raises:
            Forbidden: RBAC lacks ``watch``.
            KubernetesUnavailable: the connection was lost.
        """
        self._events = events = self._kubernetes().watch(*self._request.object_key, version, seconds)
        try:
            if not self._stop.is_set():
                next(iter(events), None)
        except KubernetesError as error:
            if error.status != 410:  # Gone: too much happened since that version
                raise
        finally:
            events.close()

    def close(self) -> None:
        """As `Waiter.close`."""
        if self._events:
            self._events.close()


class RedisNotices:
    """Waits by notices over Redis, and while it is unreachable by another waiter."""

    def __init__(self, config: Config, request: Request, stop: threading.Event, fallback: KubernetesWatch) -> None:
        from .redis import Notices

        assert config.redis_url  # noqa: S101 - for the type checker
        self._notices = Notices(
            config.redis_url,
            password_file=config.redis_password_file,
            ca_cert=config.redis_ca_cert,
            client_cert=config.redis_client_cert,
            client_key=config.redis_client_key,
            channel=config.redis_channel,
            timeout=config.timeout,
        )
        self._request = request
        self._stop = stop
        self._fallback = fallback
        self._lock = threading.Lock()  # held while it listens
        self._subscription: Subscription | None = None
        self._subscribe()

    def wait(self, version: str | None) -> None:
        """As `Waiter.wait`.

        Raises:
            NoticeError: Redis refuses.
            TLSError: verification of its certificate failed.
        """
        if self._subscription is None:
            self._subscribe()
        if self._subscription is None:
            self._wait_otherwise(version)
            return
        until = time.monotonic() + LOOK_AGAIN
        try:
            while time.monotonic() < until:
                with self._lock:
                    if self._stop.is_set() or self._subscription.wait(_LISTEN):
                        return
        except NoticeError as error:
            self._subscription.close()
            self._subscription = None
            self._check(error)

    def close(self) -> None:
        """As `Waiter.close`."""
        self._fallback.close()
        with self._lock:
            self._notices.close()

    def _subscribe(self) -> None:
        try:
            self._subscription = self._notices.listen(self._request.namespace, self._request.secret_name)
        except NoticeError as error:
            self._check(error)

    def _check(self, error: NoticeError) -> None:
        if error.reason != "unreachable":
            raise error
        log.warning("%s: watching Kubernetes meanwhile: %s", self._request, error)

    def _wait_otherwise(self, version: str | None) -> None:
        try:
            self._fallback.wait(version, int(PAUSE))
        except Forbidden as error:
            log.warning("%s: looking every %g s: %s", self._request, PAUSE, error)
            self._stop.wait(PAUSE)
