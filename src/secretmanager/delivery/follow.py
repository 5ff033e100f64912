"""Following changes of Secrets: the files of a running pod stay those that are sealed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NoReturn, Self

from ..config import Config
from ..errors import SecretManagerError
from ..notices.watch import Watch
from ..reading.requests import Request
from ..servers.kubernetes import KubernetesClient, Object
from .waiting import backoff

Say = Callable[[str], None]


class Changes:
    """Knows that one of several Secrets changed since it was made. A rewrap does not count: see `notices.watch.Watch`.

    Args:
        kubernetes: client that may get and watch the Secrets.
        requests: the Secrets.

    Raises:
        SecretNotFound, Forbidden, KubernetesUnavailable, TLSError: Kubernetes does not show a Secret.
    """

    def __init__(self, kubernetes: KubernetesClient, requests: Sequence[Request]) -> None:
        self._changed = threading.Event()
        self._kubernetes = kubernetes
        config = Config(source="KUBEVAULT")
        with ExitStack() as stack:
            self._watches = [
                stack.enter_context(Watch(config, _Looks(kubernetes), lambda: kubernetes, request))
                for request in requests
            ]
            self._close = stack.pop_all().close

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def begin(self, say: Say) -> None:
        """Begin to wait for changes, each Secret in a thread of its own; ``say`` is called with what hinders it."""
        for watch in self._watches:
            threading.Thread(target=self._run, args=(watch, say), daemon=True).start()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until one changed since the last wait, or for a number of seconds."""
        self._changed.wait(seconds)
        self._changed.clear()

    def _run(self, watch: Watch, say: Say) -> None:
        failed = 0
        while not watch.closed:
            try:
                for _ in watch:
                    failed = 0
                    self._changed.set()
            except SecretManagerError as error:
                pause = backoff(failed + 3)
                failed += 1
                say(f"changes are not seen, next attempt in {pause:.0f} s: {error}")
                time.sleep(pause)
                self._changed.set()  # for what may have been missed


class _Looks:
    """Looks at Secrets and decrypts nothing; see `notices.watch.Looks`."""

    def __init__(self, kubernetes: KubernetesClient) -> None:
        self._kubernetes = kubernetes

    def look(self, request: Request) -> Object:
        return self._kubernetes.get(*request.object_key)

    def changed(self, api_object: Object, request: Request, *, sealed: bool) -> dict[str, Any]:
        return {}


def follow(changes: Changes, update: Callable[[], None], say: Say) -> NoReturn:
    """Update after each change, for ever. What fails is repeated after a pause, or at the next change.

    Args:
        changes: what changed.
        update: brings the files up to date, in one thread.
        say: called with the reason of a failure; the files stay as they are.
    """
    failed, pause = 0, None
    while True:
        changes.wait(pause)
        try:
            update()
        except SecretManagerError as error:
            pause = backoff(failed)
            failed += 1
            say(f"the files stay as they are, next attempt in {pause:.0f} s: {error}")
        else:
            failed, pause = 0, None
