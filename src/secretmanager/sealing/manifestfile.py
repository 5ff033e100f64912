"""Sealed Secrets as YAML manifests, to be committed: ciphertext is safe to publish.

What did not change stays byte for byte as it was: other documents, comments, the order of keys, and each value whose
plaintext is the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import documents
from ..errors import ConfigError, ConflictError, SecretManagerError, quoted
from ..sealed import Place, SealedValue, encode, sealed_values
from .plan import OF_THE_SERVER, Object
from .spec import SecretSpec
from .stores import Change

_ORDER = ("apiVersion", "kind", "metadata", "type", "immutable", "data")
_LISTS = ("List", "SecretList")


class ManifestFile:
    """Secrets in one YAML file, each a document or an item of a List. Objects of other kinds are left alone.

    Args:
        path: the file; created if it is missing, and deleted with its last document.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.realpath(Path(path).expanduser()))
        self._text: str | None = None
        self._documents: list[documents.Document] = []
        self._placed: dict[str, _Entry] = {}
        self._unplaced: list[_Entry] = []
        self._after: dict[str, Object] = {}

    @property
    def unplaced(self) -> list[Object]:
        """Its Secrets without a namespace, which are left alone unless `find` asks for one of their name."""
        return [entry.secret for entry in self._unplaced]

    def find(self, specs: Sequence[SecretSpec]) -> dict[str, Object]:
        """Return those of the Secrets that exist, by ``namespace/name``.

        A Secret without a namespace, as most are in Git, is the one wanted of its name, and gets the namespace.

        Raises:
            ConfigError: as `load`; or which Secret of a name is wanted is not clear.
        """
        self.load()
        names = [spec.name for spec in specs]
        for spec in specs:
            same = [entry for entry in self._unplaced if entry.name == spec.name]
            if not same:
                continue
            if len(same) > 1 or spec.place in self._placed or names.count(spec.name) > 1:
                lines = ", ".join(str(entry.line) for entry in (*same, *filter(None, [self._placed.get(spec.place)])))
                raise ConfigError(
                    f"{self.path}: which Secret is {spec.place} is not clear; those of its name begin in line {lines}",
                    remedy="write the namespace into each",
                )
            self._unplaced.remove(same[0])
            self._placed[spec.place] = replace(same[0], namespace=spec.namespace)
            self._after[spec.place] = self._placed[spec.place].secret
        return {spec.place: self._after[spec.place] for spec in specs if spec.place in self._after}

    def load(self) -> dict[str, Object]:
        """Read the file; return all its Secrets that have a namespace, by ``namespace/name``.

        Raises:
            ConfigError: the file cannot be read, or is not YAML, or holds a Secret twice, or one of a form that
                Kubernetes does not take.
        """
        self._text = documents.read(self.path)
        self._documents = documents.parse(self._text or "", str(self.path))
        entries = [entry for number, each in enumerate(self._documents) for entry in _entries(number, each)]
        for entry in entries:
            if problem := _misformed(entry.content):
                raise ConfigError(f"{self.path}: the Secret in line {entry.line}: {problem}", remedy="correct the file")
        self._placed, self._unplaced = {}, [entry for entry in entries if not entry.place]
        for entry in entries:
            if entry.place in self._placed:
                raise ConfigError(f"{self.path}: Secret {entry.place} occurs twice", remedy="remove one of them")
            if entry.place:
                self._placed[entry.place] = entry
        self._after = {place: entry.secret for place, entry in self._placed.items()}
        return dict(self._after)

    def write(
        self, changes: Sequence[Change], *, check: bool, on_written: Callable[[Change], None]
    ) -> dict[str, SecretManagerError]:
        """Write all Secrets, or none; as `stores.Store.write`.

        Raises:
            ConfigError: the file cannot be written.
        """
        if not changes:
            return {}
        for change in changes:
            if change.secret is None:
                self._after.pop(change.place, None)
            else:
                self._after[change.place] = change.secret
        if not check:
            if documents.read(self.path) != self._text:
                error = ConflictError(
                    "somebody else wrote the file in between", place=str(self.path), remedy="run again"
                )
                return {change.place: error for change in changes}
            self._replace(self._edited(changes))
        for change in changes:
            on_written(change)
        return {}

    def sealed_values(self) -> dict[Place, SealedValue]:
        """Return each sealed value by its place, as they are after `write`."""
        return {
            Place(secret["metadata"]["namespace"], secret["metadata"]["name"], key): value
            for secret in self._after.values()
            for key, value in sealed_values(secret).items()
        }

    def _edited(self, changes: Sequence[Change]) -> str:
        by_place = {change.place: change for change in changes}
        changed: list[list[tuple[_Entry, Change]]] = [[] for _ in self._documents]
        for place, entry in self._placed.items():
            if place in by_place:
                changed[entry.number].append((entry, by_place.pop(place)))
        pairs = list(zip(self._documents, changed, strict=True))
        return documents.with_contents(
            self._text or "",
            self._documents,
            [_with_changes(document.content, entries) for document, entries in pairs]
            + [change.secret for change in by_place.values() if change.secret is not None],
            str(self.path),
            _dumped,
            # So that no comment of plaintext stays.
            [document for document, entries in pairs if any(entry.is_plain for entry, _ in entries)],
        )

    def _replace(self, text: str) -> None:
        if self._after or text.strip():
            documents.replace(self.path, text)
            return
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be deleted: {error.strerror}") from error


@dataclass(frozen=True)
class _Entry:
    """A Secret in the file.

    Attributes:
        number: index of its document.
        index: its index among the items of a List; None if it is the document.
        line: line in which it begins, from 1.
        content: what the file says of it.
        namespace: its namespace; empty if it has none.
    """

    number: int
    index: int | None
    line: int
    content: Mapping[str, Any]
    namespace: str

    @property
    def name(self) -> str:
        return str(self.content["metadata"]["name"])

    @property
    def is_plain(self) -> bool:
        """Whether it has values as text."""
        return isinstance(self.content.get("stringData"), dict)

    @property
    def place(self) -> str | None:
        """``namespace/name``; None without a namespace."""
        return f"{self.namespace}/{self.name}" if self.namespace else None

    @property
    def secret(self) -> Object:
        """The Secret as the API would take it: ``stringData`` merged into ``data``, and nothing that the API sets."""
        secret = {"apiVersion": "v1", "kind": "Secret", **self.content}
        secret.pop("stringData", None)
        metadata = {key: value for key, value in secret["metadata"].items() if key not in OF_THE_SERVER}
        secret["metadata"] = {**metadata, "namespace": self.namespace} if self.namespace else metadata
        data = {key: text or "" for key, text in (secret.get("data") or {}).items()}
        plain = {key: encode(str(text).encode()) for key, text in (self.content.get("stringData") or {}).items()}
        return {**secret, "data": {**data, **plain}}


def _entries(number: int, document: documents.Document) -> Iterator[_Entry]:
    """Yield the Secrets that have a name, of a document or of a List.

    Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#collections
    """
    content = document.content if isinstance(document.content, dict) else {}
    listed = content.get("kind") in _LISTS and isinstance(content.get("items"), list)
    items: Iterable[tuple[int | None, Any]] = enumerate(content["items"]) if listed else [(None, content)]
    for index, item in items:
        # The items of a SecretList need not say their kind.
        default = "Secret" if content.get("kind") == "SecretList" else None
        kind = item.get("kind", default) if isinstance(item, dict) else None
        metadata = item.get("metadata") if kind == "Secret" else None
        if isinstance(metadata, dict) and metadata.get("name"):
            line = documents.line_of(document, *(() if index is None else ("items", index)))
            yield _Entry(number, index, line, item, str(metadata.get("namespace") or ""))


def _misformed(secret: Mapping[str, Any]) -> str | None:
    """Say what of a Secret is of a form that Kubernetes does not take, or from which no place could be made."""
    metadata = secret["metadata"]
    for field in ("namespace", "name"):
        if not _is_part(name := metadata.get(field) or "-"):
            return f"metadata.{field}: found {quoted(name):.60}; allowed is a name"
    mappings = {f"metadata.{field}": metadata.get(field) or {} for field in ("labels", "annotations")}
    mappings |= {field: secret.get(field) or {} for field in ("data", "stringData")}
    for field, mapping in mappings.items():
        if not isinstance(mapping, dict) or not all(isinstance(key, str) for key in mapping):
            return f"{field}: allowed is a mapping with text as keys"
        if not field.startswith("metadata") and not all(map(_is_part, mapping)):
            return f"{field}: allowed are keys of letters, digits, '-', '_' and '.'"
    if not all(isinstance(text, str | None) for text in mappings["data"].values()):
        return "data: allowed are values of base64, as text"
    return None


def _is_part(text: object) -> bool:
    """Whether a text may be a part of the place of a value.

    Kubernetes has further rules, but a file may be a template that is filled in before it gets there.
    """
    return isinstance(text, str) and text.isascii() and "/" not in text


def _with_changes(content: Any, changes: Sequence[tuple[_Entry, Change]]) -> Any:
    """Return the content of a document with changes."""
    if not changes:
        return content
    if changes[0][0].index is None:
        return changes[0][1].secret or documents.GONE
    secrets = {entry.index: change.secret for entry, change in changes}
    items = [secrets.get(index, item) for index, item in enumerate(content["items"])]
    remaining = [item for item in items if item is not None]
    return {**content, "items": remaining} if remaining else documents.GONE


def _dumped(content: Object) -> str:
    """Return a Secret, or a List, as text: of the former the keys and the data keys in a fixed order."""
    if "items" not in content:
        keys = sorted(content, key=lambda key: (_ORDER.index(key) if key in _ORDER else len(_ORDER), key))
        data = dict(sorted((content.get("data") or {}).items()))
        content = {key: data if key == "data" else content[key] for key in keys}
    return documents.dump(content)
