"""Sealed Secrets as YAML manifests, to be committed: ciphertext is safe to publish.

What did not change stays byte for byte as it was: other documents, comments, the order of keys, and each value whose
plaintext is the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import documents
from ..errors import ConfigError, ConflictError, SecretManagerError
from ..sealed import Place, SealedValue, encode, sealed_values
from .plan import OF_THE_SERVER, Object
from .spec import SecretSpec
from .stores import Change

_ORDER = ("apiVersion", "kind", "metadata", "type", "immutable", "data")


class ManifestFile:
    """Secrets in one YAML file, a document each. Documents of other kinds are left alone.

    Args:
        path: the file; created if it is missing, and deleted with its last document.

    Attributes:
        unplaced: its Secrets without a namespace, which are left alone.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.realpath(Path(path).expanduser()))
        self._text: str | None = None
        self._documents: list[_Document] = []
        self._after: dict[str, Object] = {}
        self.unplaced: list[Object] = []

    def find(self, wanted: Sequence[SecretSpec]) -> dict[str, Object]:
        """Return those of the Secrets that exist, by ``namespace/name``; raises as `load`."""
        found = self.load()
        return {item.place: found[item.place] for item in wanted if item.place in found}

    def load(self) -> dict[str, Object]:
        """Read the file; return all its Secrets that have a namespace, by ``namespace/name``.

        Raises:
            ConfigError: the file cannot be read, or is not YAML, or holds a Secret twice.
        """
        self._text = documents.read(self.path)
        self._documents = [_Document(**vars(each)) for each in documents.parse(self._text or "", str(self.path))]
        found: dict[str, Object] = {}
        for document in self._documents:
            if place := document.place:
                if place in found:
                    raise ConfigError(f"{self.path}: Secret {place} occurs twice", remedy="remove one of them")
                found[place] = document.secret
        self._after = dict(found)
        self.unplaced = [document.secret for document in self._documents if document.is_secret and not document.place]
        return found

    def write(
        self, changes: Sequence[Change], *, check: bool, done: Callable[[Change], None]
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
            done(change)
        return {}

    def sealed_values(self) -> dict[Place, SealedValue]:
        """Return each sealed value by its place, as they are after `write`."""
        return {
            Place(secret["metadata"]["namespace"], secret["metadata"]["name"], key): value
            for secret in self._after.values()
            for key, value in sealed_values(secret).items()
        }

    def _edited(self, changes: Sequence[Change]) -> str:
        text = self._text or ""
        newline = documents.newline_of(text)
        by_place = {change.place: change for change in changes}
        edits: list[documents.Edit] = []
        for document in self._documents:
            change = by_place.pop(document.place, None) if document.place else None
            if change is None:
                continue
            if change.secret is None:
                edits.append((document.start, document.end, ""))
            else:
                edits.append((document.start, document.end, _rewritten(text, document, change.secret)))
        text = documents.applied(text, edits)
        for change in by_place.values():
            if change.secret is not None:
                if text and not text.endswith("\n"):
                    text += newline
                text += f"---{newline}{_dumped(change.secret, newline)}"
        return text

    def _replace(self, text: str) -> None:
        if self._after or text.strip():
            documents.replace(self.path, text)
            return
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be deleted: {error.strerror}") from error


@dataclass(frozen=True)
class _Document(documents.Document):
    """One document, which may be a Secret."""

    @property
    def place(self) -> str | None:
        """``namespace/name`` of a Secret; None for other documents."""
        metadata = self.content["metadata"] if self.is_secret else {}
        return f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else None

    @property
    def is_secret(self) -> bool:
        """Whether it is a Secret that has a name."""
        content = self.content if isinstance(self.content, dict) else {}
        metadata = content.get("metadata")
        return content.get("kind") == "Secret" and isinstance(metadata, dict) and bool(metadata.get("name"))

    @property
    def secret(self) -> Object:
        """The Secret as the API would take it: ``stringData`` merged into ``data``, and nothing that the API sets."""
        secret = {key: value for key, value in self.content.items() if key != "stringData"}
        secret["metadata"] = {key: value for key, value in secret["metadata"].items() if key not in OF_THE_SERVER}
        plain = {key: encode(str(text).encode()) for key, text in (self.content.get("stringData") or {}).items()}
        return {**secret, "data": {**(secret.get("data") or {}), **plain}}


def _rewritten(text: str, document: _Document, secret: Object) -> str:
    """Return the text of a document with another content, changed as little as possible."""
    new = None
    if not isinstance(document.content.get("stringData"), dict):
        new = documents.edited(text, document, secret)
    return new or documents.marker(text, document) + _dumped(secret, documents.newline_of(text))


def _dumped(secret: Object, newline: str) -> str:
    keys = sorted(secret, key=lambda key: (_ORDER.index(key) if key in _ORDER else len(_ORDER), key))
    data = dict(sorted((secret.get("data") or {}).items()))
    return documents.dump({key: data if key == "data" else secret[key] for key in keys}).replace("\n", newline)
