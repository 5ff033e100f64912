"""What to read of a Secret or ConfigMap, and how its values are taken apart, by pure functions."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from ..errors import ConfigError, SealedDataError, SecretFormatError, SecretKeyNotFound, WrongTransitKey, quoted
from ..sealed import MANIFEST_KEY, Manifest, Place, Scope, key_version
from ..servers.kubernetes import Object, Resource
from ..servers.vault import TransitItem

ReadType = Literal["SECRET", "CONFIG_MAP"]

_RESOURCES: dict[str, Resource] = {"SECRET": "secrets", "CONFIG_MAP": "configmaps"}


@dataclass(frozen=True)
class Request:
    """What to read.

    Attributes:
        secret_name: name of the Secret or ConfigMap.
        namespace: its namespace.
        read_type: "SECRET" or "CONFIG_MAP".
        read_key: data key that holds a JSON object; None for all data keys, each a text.
        transit_key: Transit key that decrypts it; required if the Secret has no manifest, which names it.
        scope: the scope that its manifest must name, as of `sealed.Scope`; None for any.

    Raises:
        ConfigError: a part has the wrong type, or is not allowed.
    """

    secret_name: str
    namespace: str
    read_type: ReadType = "SECRET"
    read_key: str | None = None
    transit_key: str | None = None
    scope: str | None = None

    def __post_init__(self) -> None:
        for name in ("secret_name", "namespace", "read_key", "transit_key"):
            value = getattr(self, name)
            optional = name.endswith("_key")
            if not (isinstance(value, str) and value and value.isprintable()) and not (optional and value is None):
                raise ConfigError(
                    f"{name}: found {quoted(value)}; allowed is a name" + (", or None" if optional else "")
                )
        if self.read_type not in list(_RESOURCES):
            raise ConfigError(f"read_type: found {quoted(self.read_type)}; allowed are {', '.join(_RESOURCES)}")
        if self.scope is not None and self.scope not in list(Scope):
            raise ConfigError(f"scope: found {self.scope!r}; allowed are {', '.join(Scope)}, or None")

    @property
    def resource(self) -> Resource:
        """The kind of object, as the API names it."""
        return _RESOURCES[self.read_type]

    @property
    def object_key(self) -> tuple[Resource, str, str]:
        """What identifies the object."""
        return (self.resource, self.namespace, self.secret_name)

    def place(self, key: str) -> Place:
        """Return the place of one of its values."""
        return Place(self.namespace, self.secret_name, key)

    def __str__(self) -> str:
        """Return its place, as errors name it."""
        return str(self.place(self.read_key)) if self.read_key else f"{self.namespace}/{self.secret_name}"


_PARTS = tuple(item.name for item in fields(Request))


def request_from(options: Mapping[str, Any]) -> Request:
    """Return the request in a mapping, by the names of its parts.

    Raises:
        ConfigError: it is no mapping, or a name is unknown or missing.
    """
    if not isinstance(options, Mapping):
        raise ConfigError(f"found a request of type {type(options).__name__}; allowed is a Request or a mapping")
    if unknown := sorted(options.keys() - set(_PARTS), key=str):
        raise ConfigError(f"{', '.join(map(str, unknown))}: unknown; allowed are {', '.join(_PARTS)}")
    if missing := [name for name in ("secret_name", "namespace") if name not in options]:
        raise ConfigError(f"{', '.join(missing)}: is missing")
    return Request(**options)


def texts_of(api_object: Object, request: Request) -> dict[str, str]:
    """Return the text of each requested data key, as Kubernetes holds it, except the manifest.

    Raises:
        SecretKeyNotFound: there is no such data key.
        SecretFormatError: a value is not valid UTF-8.
    """
    data: Mapping[str, str] = api_object.get("data") or {}
    key = request.read_key
    if key is None:
        return {name: _text(data[name], request, name) for name in sorted(data.keys() - {MANIFEST_KEY})}
    if key not in data or key == MANIFEST_KEY:
        names = ", ".join(sorted(data.keys() - {MANIFEST_KEY}))
        remedy = f"it has {names}" if names else "it has no data at all"
        raise SecretKeyNotFound("there is no such data key", place=str(request), remedy=remedy)
    return {key: _text(data[key], request, key)}


def sealed_items(
    api_object: Object, manifest: Manifest | None, request: Request
) -> Iterator[tuple[str, str, TransitItem]]:
    """Yield for each requested data key its name, the Transit key that decrypts it, and what to decrypt.

    Args:
        api_object: the object, as the Kubernetes API returns it.
        manifest: its manifest, as `sealed.manifest_of` returns it.
        request: what to read.

    Raises:
        SecretKeyNotFound, SecretFormatError: as `texts_of`.
        SealedDataError: a value is not sealed, or for another Secret or in another scope than the request names, or its
            Transit key is unknown.
        WrongTransitKey: the manifest names another Transit key than the request.
    """
    for key, text in texts_of(api_object, request).items():
        place = request.place(key)
        if key_version(text) is None:
            raise SealedDataError(
                "the value is not sealed: it is not of the form vault:vN:...",
                place=str(place),
                remedy="seal it, or read it with SOURCE KUBERNETES",
            )
        ours = manifest if manifest and key in manifest.digests else None
        transit_key = request.transit_key or (ours.transit_key if ours else None)
        if transit_key is None:
            raise SealedDataError(
                "its Transit key is unknown: an older tool sealed it", place=str(place), remedy="name transit_key"
            )
        if ours and transit_key != ours.transit_key:
            raise WrongTransitKey(asked=transit_key, found=ours.transit_key, place=str(place))
        if request.scope and (ours is None or ours.scope != request.scope):
            found_scope = f"in scope {ours.scope}" if ours else "without a manifest"
            raise SealedDataError(
                f"it is sealed {found_scope}; asked for is scope {request.scope}",
                place=str(place),
                remedy=f"seal it in scope {request.scope}",
            )
        if ours and not ours.is_of(f"{place.namespace}/{place.name}"):
            raise SealedDataError(
                f"the Secret is a copy: its values were sealed for {ours.place}, scope {ours.scope}",
                place=str(place),
                remedy="seal them here, or in scope cluster-wide with a key that is not derived",
            )
        yield key, transit_key, TransitItem(text.encode(), place.context(ours.scope) if ours else None, str(place))


def decoded(plaintext: bytes | bytearray, request: Request | None = None, key: str = "") -> str:
    """Return the text that was sealed.

    Args:
        plaintext: what Vault decrypted.
        request: the request for it.
        key: the data key that holds it.

    Raises:
        SecretFormatError: it is not valid UTF-8.
    """
    try:
        return plaintext.decode()
    except UnicodeDecodeError:
        pass
    # Outside of "except": the original holds the value, and an exception keeps what it was raised in.
    place = str(request.place(key)) if request else None
    raise SecretFormatError("what was sealed is not valid UTF-8", place=place, remedy="seal a text there")


def _text(encoded: str, request: Request, key: str) -> str:
    if request.read_type == "CONFIG_MAP":
        return encoded
    try:
        return base64.b64decode(encoded).decode()
    except ValueError:
        pass
    raise SecretFormatError("the value is not valid UTF-8", place=str(request.place(key)))
