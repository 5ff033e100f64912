"""Notifies over Redis of what sealing changed, once it is written: place and version, never ciphertext or plaintext."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import NoticeError, TLSError
from ..sealed import sealed_values
from ..sealing.plan import Object
from ..sealing.stores import Change

if TYPE_CHECKING:
    from .redis import Notice, Notices


@contextmanager
def announcing(options: Mapping[str, Any], warn: Callable[[str], None]) -> Iterator[Announcer | None]:
    """Yield what takes note of Secrets that a `sealing.stores.KubernetesStore` writes; notify Redis in the end.

    Args:
        options: options that have the names of `options.REDIS`. Without ``redis_url``, None is yielded.
        warn: called if Redis cannot be notified. What was written stays written.

    Raises:
        ConfigError: an option cannot be used, or the package redis is missing.
    """
    if not options["redis_url"]:
        yield None
        return
    from .redis import Notices

    with Notices(
        options["redis_url"],
        password_file=options["redis_password_file"],
        ca_cert=options["redis_ca_cert"] or True,
        client_cert=options["redis_client_cert"],
        client_key=options["redis_client_key"],
        channel=options["redis_channel"],
    ) as notices:
        announcer = Announcer(notices)
        try:
            yield announcer
        finally:
            try:
                announcer.publish()
            except (NoticeError, TLSError) as error:
                warn(f"the Secrets are written, but not announced: {error}")


class Announcer:
    """Collects what a `sealing.stores.KubernetesStore` wrote, to `publish` it.

    Args:
        notices: sends them.
    """

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self._written: list[Notice] = []

    def __call__(self, change: Change, secret: Object | None) -> None:
        """Take note of a Secret that was written; ``secret`` is None if it was deleted."""
        from .redis import Notice

        namespace, _, name = change.place.partition("/")
        version = secret["metadata"]["resourceVersion"] if secret else ""
        newest: dict[str, int] = {}
        for value in sealed_values(secret or {}).values():
            if value.transit_key:
                newest[value.transit_key] = max(value.version, newest.get(value.transit_key, 0))
        self._written.append(Notice(namespace, name, version, newest))

    def publish(self) -> None:
        """Send one notice for each Secret.

        Raises:
            NoticeError, TLSError: as of `notices.redis.Notices.publish`. What was written stays written.
        """
        while self._written:
            self._notices.publish(self._written[0])
            self._written.pop(0)
