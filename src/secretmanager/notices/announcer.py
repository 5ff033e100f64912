"""Tells over Redis what sealing changed, once it is written: place and version, never ciphertext or plaintext."""

from __future__ import annotations

from ..sealed import sealed_values
from ..sealing.plan import Object
from ..sealing.stores import Change
from .redis import Notice, Notices


class Announcer:
    """Collects what a `stores.KubernetesStore` wrote, for `publish`; its ``written``.

    Args:
        notices: the Redis.
    """

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self._written: list[Notice] = []

    def __call__(self, change: Change, secret: Object | None) -> None:
        """Take note of a Secret that was written; ``secret`` is None where it was deleted."""
        namespace, _, name = change.place.partition("/")
        version = secret["metadata"]["resourceVersion"] if secret else ""
        newest: dict[str, int] = {}
        for value in sealed_values(secret or {}).values():
            if value.transit_key:
                newest[value.transit_key] = max(value.version, newest.get(value.transit_key, 0))
        self._written.append(Notice(namespace, name, version, newest))

    def publish(self) -> None:
        """Send a notice for each, once.

        Raises:
            NoticeError, TLSError: as of `notices.Notices.publish`. What was written stays written.
        """
        while self._written:
            self._notices.publish(self._written[0])
            self._written.pop(0)
