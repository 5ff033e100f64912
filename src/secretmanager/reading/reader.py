"""Reads what requests ask for: each object once, each Transit key in one batch. Caches what the configuration says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from ..errors import DecryptionFailed, KubernetesUnavailable, VaultUnavailable
from ..servers.http import without_waiting
from ..servers.kubernetes import KubernetesClient, Object
from .cache import Cache
from .opening import Decrypt, ObjectKey, open_objects
from .plain import load_json
from .requests import Request, decoded, texts_of

if TYPE_CHECKING:
    from ..config import Config

log = logging.getLogger(__name__)

Plaintexts = dict[str, bytearray]
"""What Vault decrypted, by data key."""


class Reader:
    """Reads Secrets and ConfigMaps.

    Args:
        config: how long values are cached.
        kubernetes: returns the client of the Kubernetes API.
        decrypt: has Vault decrypt items with a Transit key.
    """

    def __init__(
        self,
        config: Config,
        kubernetes: Callable[[], KubernetesClient],
        decrypt: Decrypt,
    ) -> None:
        self._kubernetes = kubernetes
        self._decrypt = decrypt
        limit = config.cache_max_entries
        self._objects: Cache[ObjectKey, Object] = Cache(config.cache_ciphertext_ttl, limit)
        self._plaintexts: Cache[Request, Plaintexts] = Cache(
            config.cache_plaintext_ttl,
            limit,
            stale=config.cache_stale_if_error,
            copy=lambda plaintexts: {key: bytearray(value) for key, value in plaintexts.items()},
            wipe=_wipe,
        )

    def texts(self, request: Request) -> dict[str, str]:
        """Return the texts of an object as they are."""
        return texts_of(self._objects_of([request])[request.object_key], request)

    def plain(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """Read objects that are not sealed."""
        objects = self._objects_of(requests)
        return [_result(texts_of(objects[request.object_key], request), request) for request in requests]

    def sealed(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """Read sealed objects."""
        results = [self._plaintexts.get(request) for request in requests]
        if missing := [index for index, cached in enumerate(results) if cached is None]:
            missing_requests = [requests[index] for index in missing]
            has_fallback = all(self._plaintexts.has_stale(request) for request in missing_requests)
            try:
                with without_waiting() if has_fallback else nullcontext():
                    opened: Sequence[Plaintexts | None] = self._opened(missing_requests)
            except (VaultUnavailable, KubernetesUnavailable) as error:
                opened = [self._plaintexts.stale(request) for request in missing_requests]
                if None in opened:
                    raise
                log.warning("%s: using what was read before: %s", ", ".join(map(str, missing_requests)), error)
            for index, plaintexts in zip(missing, opened, strict=True):
                results[index] = plaintexts
        return [_decoded(plaintexts or {}, request) for plaintexts, request in zip(results, requests, strict=True)]

    def look(self, request: Request) -> Object:
        """Get an object as it is now, whatever is cached."""
        return self._kubernetes().get(*request.object_key)

    def changed(self, api_object: Object, request: Request, *, sealed: bool) -> dict[str, Any]:
        """Read from an object that changed, and update the cache."""
        self._plaintexts.forget(lambda cached_request: cached_request.object_key == request.object_key)
        self._objects.put(request.object_key, api_object)
        if not sealed:
            return _result(texts_of(api_object, request), request)
        return _decoded(self._open({request.object_key: api_object}, [request])[0], request)

    def forget(self) -> None:
        """Forget and wipe everything that is cached."""
        self._objects.forget()
        self._plaintexts.forget()

    def _objects_of(self, requests: Iterable[Request]) -> dict[ObjectKey, Object]:
        """Get each object that the requests are about, once."""
        objects: dict[ObjectKey, Object] = {}
        for request in requests:
            key = request.object_key
            if key in objects:
                continue
            api_object = self._objects.get(key)
            if api_object is None:
                log.debug("getting %s %s/%s", *key)
                api_object = self._kubernetes().get(*key)
                self._objects.put(key, api_object)
            objects[key] = api_object
        return objects

    def _opened(self, requests: Sequence[Request]) -> list[Plaintexts]:
        cached_keys = {request.object_key for request in requests if self._objects.get(request.object_key) is not None}
        try:
            return self._open(self._objects_of(requests), requests)
        except DecryptionFailed:
            if not cached_keys:
                raise
        log.debug("a cached ciphertext does not decrypt; getting the Secret again")
        self._objects.forget(lambda key: key in cached_keys)
        return self._open(self._objects_of(requests), requests)

    def _open(self, objects: Mapping[ObjectKey, Object], requests: Sequence[Request]) -> list[Plaintexts]:
        opened: list[Plaintexts] = [
            {key: bytearray(value) for key, value in values.items()}
            for values in open_objects(objects, requests, self._decrypt)
        ]
        for request, values in zip(requests, opened, strict=True):
            self._plaintexts.put(request, values)
        return opened


def _result(texts: dict[str, str], request: Request) -> dict[str, Any]:
    return load_json(texts[request.read_key], request) if request.read_key else texts


def _decoded(plaintexts: Plaintexts, request: Request) -> dict[str, Any]:
    try:
        return _result({key: decoded(value, request, key) for key, value in plaintexts.items()}, request)
    finally:
        _wipe(plaintexts)


def _wipe(plaintexts: Plaintexts) -> None:
    """Overwrite plaintexts. Copies that Python made of them (str, the response's JSON) cannot be overwritten."""
    for value in plaintexts.values():
        value[:] = bytes(len(value))
