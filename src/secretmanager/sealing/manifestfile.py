"""Sealed Secrets as YAML manifests, to be committed: ciphertext is safe to publish.

What did not change stays byte for byte as it was: other documents, comments, the order of keys, and each value whose
plaintext is the same.

It is not ruamel.yaml, which keeps comments too: of a manifest of 13 lines in which one value changed, ruamel.yaml
rewrote the indentation, the indentation of lists, the spacing of flow mappings and, without an option, the quotes. Here
a change is an edit of the text, which is parsed again and compared with what is wanted. If they differ, the document is
written as a whole.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError, ConflictError, SecretManagerError
from ..sealed import Place, SealedValue, encode, sealed_values
from .plan import OF_THE_SERVER, Object
from .spec import SecretSpec
from .stores import Change

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_WIDTH = 2**31 - 1  # never break a line

_ORDER = ("apiVersion", "kind", "metadata", "type", "immutable", "data")

Edit = tuple[int, int, str]
"""Characters from, to, and what takes their place."""


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
        self._text = self._read()
        self._documents = list(self._parsed(self._text or ""))
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
            if self._read() != self._text:
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

    def _read(self) -> str | None:
        try:
            with self.path.open(encoding="utf-8", newline="") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is not text"
            raise ConfigError(f"{self.path}: {reason}; it should be a YAML file") from error

    def _parsed(self, text: str) -> Iterator[_Document]:
        try:
            events = yaml.parse(text, _LOADER)
            starts = [_mark(event).index for event in events if isinstance(event, yaml.DocumentStartEvent)]
            documents = list(_composed(text))
        except yaml.YAMLError:
            # Not "from" the original, which quotes the file.
            raise ConfigError(f"{self.path}: is not YAML; a file of manifests is needed") from None
        for index, (start, (node, content)) in enumerate(zip(starts, documents, strict=True)):
            end = starts[index + 1] if index + 1 < len(starts) else len(text)
            yield _Document(start, end, node, content)

    def _edited(self, changes: Sequence[Change]) -> str:
        text = self._text or ""
        newline = "\r\n" if "\r\n" in text else "\n"
        by_place = {change.place: change for change in changes}
        edits: list[Edit] = []
        for document in self._documents:
            change = by_place.pop(document.place, None) if document.place else None
            if change is None:
                continue
            if change.secret is None:
                edits.append((document.start, document.end, ""))
            else:
                edits.append((document.start, document.end, _rewritten(text, document, change.secret, newline)))
        text = _applied(text, edits)
        for change in by_place.values():
            if change.secret is not None:
                if text and not text.endswith("\n"):
                    text += newline
                text += f"---{newline}{_dumped(change.secret, newline)}"
        return text

    def _replace(self, text: str) -> None:
        try:
            if not self._after and not text.strip():
                self.path.unlink(missing_ok=True)
                return
            descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                    file.write(text)
                    file.flush()
                    os.fchmod(descriptor, self._mode())
                    os.fsync(descriptor)
                Path(name).replace(self.path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written: {error.strerror}") from error

    def _mode(self) -> int:
        try:
            return self.path.stat().st_mode & 0o7777
        except FileNotFoundError:
            mask = os.umask(0)
            os.umask(mask)
            return 0o666 & ~mask


@dataclass(frozen=True)
class _Document:
    """One document: its position, its nodes and its content."""

    start: int
    end: int
    node: yaml.Node
    content: Any

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


def _composed(text: str) -> Iterator[tuple[yaml.Node, Any]]:
    """Yield each document's nodes and its content, from one pass over the text."""
    loader = _LOADER(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            yield node, loader.construct_document(node)
    finally:
        loader.dispose()


def _rewritten(text: str, document: _Document, secret: Object, newline: str) -> str:
    """Return the text of a document with another content, changed as little as possible."""
    old = text[document.start : document.end]
    if isinstance(document.node, yaml.MappingNode) and not isinstance(document.content.get("stringData"), dict):
        with contextlib.suppress(_NotSimple):
            edits = _mapping_edits(text, document.node, document.content, secret, newline)
            new = _applied(text, edits, document.start, document.end)
            with contextlib.suppress(yaml.YAMLError):
                if list(yaml.load_all(new, _LOADER)) == [secret]:
                    return new
    marker = f"---{newline}" if old.startswith("---") else ""
    return marker + _dumped(secret, newline)


class _NotSimple(Exception):
    """The document is written in a way that is not edited in place."""


def _mapping_edits(
    text: str, node: yaml.MappingNode, old: Mapping[str, Any], new: Mapping[str, Any], newline: str
) -> Iterator[Edit]:
    """Return the edits that make one block mapping another."""
    if node.flow_style or not node.value:
        raise _NotSimple
    for key_node, value_node in node.value:
        key = key_node.value
        if key not in new:
            yield _line_start(text, _mark(key_node).index), _line_end(text, _end(value_node)), ""
        elif isinstance(new[key], dict) and isinstance(old[key], dict) and isinstance(value_node, yaml.MappingNode):
            if new[key] != old[key]:
                yield from _mapping_edits(text, value_node, old[key], new[key], newline)
        elif new[key] != old[key]:
            if not isinstance(value_node, yaml.ScalarNode) or isinstance(new[key], dict | list):
                raise _NotSimple
            start, end = _mark(value_node).index, _end(value_node)
            yield start, end, _scalar(new[key]) if start < end else f" {_scalar(new[key])}"
    added = {key: value for key, value in new.items() if key not in old}
    if added:
        end = _line_end(text, _end(node))
        broken = "" if text[:end].endswith("\n") else newline
        lines = _dump(added).splitlines()
        yield end, end, broken + "".join(f"{' ' * _mark(node.value[0][0]).column}{line}{newline}" for line in lines)


def _mark(item: yaml.Node | yaml.Event) -> Any:
    """Return where something begins in the text."""
    return item.start_mark


def _end(node: yaml.Node) -> int:
    """Return where a node ends in the text, without the comments after it."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    end: Any = node.end_mark
    return int(end.index)


def _line_start(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _line_end(text: str, index: int) -> int:
    """Return the end of the line that holds an end index; a block scalar ends at the start of the next line."""
    if index and text[index - 1] == "\n":
        return index
    found = text.find("\n", index)
    return len(text) if found < 0 else found + 1


def _applied(text: str, edits: Iterable[Edit], start: int = 0, end: int | None = None) -> str:
    """Return a part of the text with edits made, which do not overlap."""
    parts = []
    position, stop = start, len(text) if end is None else end
    # Of two insertions at one position, that of the inner mapping comes first, as given.
    for first, last, replacement in sorted(edits, key=lambda edit: edit[:2]):
        if first < position:
            raise _NotSimple
        parts += [text[position:first], replacement]
        position = last
    return "".join([*parts, text[position:stop]])


def _scalar(value: Any) -> str:
    return str(yaml.dump(value, Dumper=_DUMPER, width=_WIDTH)).removesuffix("...\n").strip()


def _dump(value: Any) -> str:
    return str(yaml.dump(value, Dumper=_DUMPER, sort_keys=False, width=_WIDTH, default_flow_style=False))


def _dumped(secret: Object, newline: str) -> str:
    keys = sorted(secret, key=lambda key: (_ORDER.index(key) if key in _ORDER else len(_ORDER), key))
    data = dict(sorted((secret.get("data") or {}).items()))
    return _dump({key: data if key == "data" else secret[key] for key in keys}).replace("\n", newline)
