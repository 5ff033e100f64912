"""YAML files of several documents, such as Kubernetes manifests: parsed, edited in place, and written.

What did not change stays byte for byte as it was: other documents, comments, the order of keys, quotes, line ends.

It is not ruamel.yaml, which keeps comments too: of a manifest of 13 lines in which one value changed, ruamel.yaml
rewrote the indentation, the indentation of lists, the spacing of flow mappings and, without an option, the quotes. Here
a change is an edit of the text, which is parsed again and compared with what is wanted. If they differ, the caller
writes the document as a whole (`dump`).
"""

from __future__ import annotations

import codecs
import contextlib
import difflib
import json
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from . import safeyaml
from .errors import ConfigError

_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_WIDTH = 2**31 - 1  # never break a line

Edit = tuple[int, int, str]
"""Characters from, to, and what takes their place."""


@dataclass(frozen=True)
class Document:
    """One document: its position in the text, its nodes and its content; an empty one has the content None."""

    start: int
    end: int
    node: yaml.Node
    content: Any


def parse(text: str, place: str) -> list[Document]:
    """Return the documents of a text.

    Args:
        text: YAML, of which JSON is a part.
        place: where the text comes from, for errors.

    Raises:
        ConfigError: it is not YAML.
    """
    try:
        events = safeyaml.events(text)
        starts = [_mark(event).index for event in events if isinstance(event, yaml.DocumentStartEvent)]
        documents = list(safeyaml.documents(text))
    except safeyaml.NotYaml as error:
        line = f" (line {error.line})" if error.line else ""
        remedy = "give what `helm template` renders, not a template" if "{{" in text else None
        raise ConfigError(f"{place}: {error}{line}; a file of manifests is needed", remedy=remedy) from None
    ends = [*starts, len(text)][1:]
    return [Document(start, end, *each) for start, end, each in zip(starts, ends, documents, strict=True)]


def edited(text: str, document: Document, content: Any) -> str | None:
    """Return the text of a document with another content, changed as little as possible.

    Args:
        text: the whole text.
        document: one of its documents.
        content: the content that it shall have.

    Returns:
        None if the document is written in a way that is not edited in place.
    """
    new = _edited_json(text[document.start : document.end], document.content, content)
    if new is None:
        with contextlib.suppress(_NotSimple):
            # Lines are what is edited, so the last one has to end as the others do.
            missing = "" if text.endswith("\n", document.start, document.end) else newline_of(text)
            whole = text[: document.end] + missing
            edits = _Editor(whole, document).edits(content)
            new = applied(whole, edits, document.start, document.end + len(missing))
            new = new.removesuffix(missing)
    if new is not None:
        with contextlib.suppress(safeyaml.NotYaml):
            if safeyaml.load_all(new) == [content]:
                return new
    return None


def dump(value: Any, *, indent_lists: bool = False) -> str:
    """Return a value as YAML in block style, without anchors, its lines ended by a line feed.

    Args:
        value: what JSON can hold.
        indent_lists: whether the items of a list are indented below their key.
    """
    dumper = _IndentedDumper if indent_lists else _PlainDumper
    return str(yaml.dump(value, Dumper=dumper, sort_keys=False, width=_WIDTH, default_flow_style=False))


GONE: Any = object()
"""In place of the content of a document that is to be removed."""


def with_contents(
    text: str,
    documents: Sequence[Document],
    contents: Sequence[Any],
    place: str,
    dumped: Callable[[Any], str] = dump,
    anew: Collection[Document] = (),
) -> str:
    """Return a text whose documents have other contents; those that have the same stay as they are written.

    Args:
        text: the text.
        documents: its documents.
        contents: the new content of each, or `GONE`; then those of further documents.
        place: where the text comes from, for errors.
        dumped: returns the text of a document that cannot be edited, its lines ended by a line feed.
        anew: documents that are not edited, but written as a whole.

    Raises:
        ConfigError: the result would not have these documents, and no others; so it is not to be written.
    """
    newline = newline_of(text)
    edits = []
    for document, content in zip(documents, contents, strict=False):
        if content is GONE:
            edits.append((document.start, document.end, ""))
        elif content != document.content:
            new = None if document in anew else edited(text, document, content)
            new = new or marker(text, document) + dumped(content).replace("\n", newline)
            edits.append((document.start, document.end, new))
    added = contents[len(documents) :]
    if not edits and not added:
        return text
    text = applied(text, edits)
    for content in added:
        end = newline if text and not text.endswith("\n") else ""
        text += end + f"---\n{dumped(content)}".replace("\n", newline)
    _require_contents(text, [content for content in contents if content is not GONE], place)
    return text


def _require_contents(text: str, contents: Sequence[Any], place: str) -> None:
    try:
        parsed = safeyaml.load_all(text)
    except safeyaml.NotYaml:
        parsed = []
    if parsed != contents:
        raise ConfigError(
            f"{place}: is written in a way that cannot be edited without damage, so nothing was written",
            remedy="please report it with the file's structure, without its values",
        )


def line_of(document: Document, *path: str | int) -> int:
    """Return the line, from 1, in which a part of a document begins, given by keys and indices."""
    node = document.node
    for step in path:
        if isinstance(node, yaml.MappingNode):
            node = next(value for key, value in node.value if key.value == step)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
    return int(node.start_mark.line) + 1


def applied(text: str, edits: Iterable[Edit], start: int = 0, end: int | None = None) -> str:
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


def marker(text: str, document: Document) -> str:
    """Return the line ``---`` of a document that has one, else an empty text."""
    return f"---{newline_of(text)}" if text.startswith("---", document.start) else ""


def newline_of(text: str) -> str:
    """Return how the lines of a text end."""
    return "\r\n" if "\r\n" in text else "\n"


def read(path: Path) -> str | None:
    """Return the text of a file with its line ends as they are; None if there is no such file.

    A byte order mark is set aside, since parsers of YAML do not count it. `replace` puts it back.

    Raises:
        ConfigError: it cannot be read, or is not text.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not text"
        raise ConfigError(f"{path}: {reason}; it should be a YAML file") from error


def replace(path: Path, text: str) -> None:
    """Write a file at once, so that nobody reads half of it; its mode stays, and so does a byte order mark.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(_byte_order_mark(path) + text)
                file.flush()
                os.fchmod(descriptor, _mode(path))
                os.fsync(descriptor)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def _byte_order_mark(path: Path) -> str:
    """Return the byte order mark of a file; an empty text if it has none, or does not exist."""
    try:
        with path.open("rb") as file:
            return codecs.BOM_UTF8.decode() if file.read(3) == codecs.BOM_UTF8 else ""
    except FileNotFoundError:
        return ""


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode & 0o7777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


class _PlainDumper(_DUMPER):  # type: ignore[misc]  # the C one has no types
    """Writes an object that occurs twice as often as it occurs."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return whether no alias is made."""
        return True


class _IndentedDumper(yaml.SafeDumper):
    """Indents lists below their key. The C dumper cannot."""

    ignore_aliases = _PlainDumper.ignore_aliases

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        """Begin a collection."""
        return super().increase_indent(flow, False)


class _NotSimple(Exception):
    """The document is written in a way that is not edited in place."""


def _edited_json(text: str, old: Any, new: Any) -> str | None:
    """Return the text of a document that is JSON as `json.dumps` writes it, with another content; else None."""
    body = text.removeprefix("---").strip()
    if not body.startswith(("{", "[")):
        return None
    indent = re.match(r"[{\[]\r?\n([ \t]+)", body)
    for ascii_only in (False, True):
        for separators in ((",", ": "), (",", ":")) if indent else ((", ", ": "), (",", ":")):

            def dumped(value: Any, ascii_only: bool = ascii_only, separators: Any = separators) -> str:
                style = {"indent": indent[1] if indent else None, "separators": separators}
                return json.dumps(value, ensure_ascii=ascii_only, **style).replace("\n", newline_of(text))

            with contextlib.suppress(TypeError):  # YAML after all: it holds a date
                if dumped(old) == body:
                    return text.replace(body, dumped(new))
    return None


class _Editor:
    """Finds the edits that give a document another content."""

    def __init__(self, text: str, document: Document) -> None:
        self._text = text
        self._newline = newline_of(text)
        self._document = document
        self._done: set[int] = set()
        self._indent_lists = next(_lists_indented(document.node), False)
        first = document.node.start_mark.index
        self._is_json = text.startswith(("{", "["), first) and _is_json(text[first : document.end])

    def edits(self, content: Any) -> Iterator[Edit]:
        """Yield the edits."""
        yield from self._collection(self._document.node, self._document.content, content, None)

    def _collection(self, node: yaml.Node, old: Any, new: Any, front: int | None) -> Iterator[Edit]:
        """Yield the edits of a mapping or a list that stays one and is neither empty before nor after.

        Args:
            node: the old one.
            old: its content.
            new: its new content.
            front: where lines can be put before those of a list.
        """
        if id(node) in self._done:
            return  # an alias; its anchor was edited already
        self._done.add(id(node))
        if isinstance(node, yaml.MappingNode) and isinstance(old, dict) and isinstance(new, dict) and old and new:
            yield from (self._flow_mapping if node.flow_style else self._mapping)(node, old, new)
        elif isinstance(node, yaml.SequenceNode) and isinstance(old, list) and isinstance(new, list) and old and new:
            yield from self._flow_list(node, old, new) if node.flow_style else self._list(node, old, new, front)
        else:
            raise _NotSimple

    def _mapping(self, node: yaml.MappingNode, old: Mapping[Any, Any], new: Mapping[Any, Any]) -> Iterator[Edit]:
        own = _own(node)
        if not own:
            raise _NotSimple
        column = own[0][0].start_mark.column
        for key_node, value_node in own:
            key = _key(key_node)
            if key not in new:
                yield self._cut(key_node.start_mark.index, _value_end(key_node, value_node))
            elif new[key] != old[key]:
                yield from self._value(key_node, value_node, old[key], new[key], column)
        if added := {key: value for key, value in new.items() if key not in old}:
            yield self._lines(_line_end(self._text, _end(node)), added, column)

    def _value(self, key_node: yaml.Node, node: yaml.Node, old: Any, new: Any, column: int) -> Iterator[Edit]:
        """Yield the edits of the value of a key of a block mapping."""
        start, end = node.start_mark.index, _value_end(key_node, node)
        if start < key_node.end_mark.index and not _is_filled(old):
            raise _NotSimple  # an alias of a scalar
        if _is_filled(old) and _is_filled(new):
            yield from self._collection(node, old, new, _line_end(self._text, key_node.end_mark.index))
        elif _is_filled(old):
            if isinstance(new, dict | list) and not getattr(node, "flow_style", True):  # the last item goes
                colon = self._text.index(":", key_node.end_mark.index) + 1
                yield colon, colon, f" {self._flow(new)}"
                yield self._cut(_line_end(self._text, colon), end)
            else:
                yield start, end, self._flow(new)
        elif _is_filled(new):
            blanks = len(self._text[:start]) - len(self._text[:start].rstrip(" "))
            yield start - blanks, end, ""
            width = 2 if isinstance(new, dict) or self._indent_lists else 0
            yield self._lines(_line_end(self._text, end), new, column + width)
        else:
            yield start, end, self._flow(new) if start < end else f" {self._flow(new)}"

    def _list(
        self, node: yaml.SequenceNode, old: Sequence[Any], new: Sequence[Any], front: int | None
    ) -> Iterator[Edit]:
        items = node.value
        dashes = [self._dash(item) for item in items]
        column = dashes[0] - _line_start(self._text, dashes[0])
        for index, other in _aligned(old, new):
            if other is None:
                yield self._cut(dashes[index], _end(items[index]))
            elif isinstance(other, _Added):
                place = _line_end(self._text, _end(items[index - 1])) if index else front
                if place is None:
                    raise _NotSimple
                yield self._lines(place, [new[other.index]], column)
            elif old[index] != new[other]:
                if _is_filled(old[index]):
                    yield from self._collection(items[index], old[index], new[other], None)
                else:
                    yield items[index].start_mark.index, _end(items[index]), self._flow(new[other])

    def _flow_mapping(self, node: yaml.MappingNode, old: Mapping[Any, Any], new: Mapping[Any, Any]) -> Iterator[Edit]:
        pairs = _own(node)
        keys = [_key(key_node) for key_node, _ in pairs]
        spans = [(key.start_mark.index, _value_end(key, value)) for key, value in pairs]
        yield from self._flow_cuts(spans, [key in new for key in keys])
        for key, (_, value_node) in zip(keys, pairs, strict=True):
            if key in new and new[key] != old[key]:
                yield from self._flow_value(value_node, old[key], new[key])
        for key in new:
            if key not in old:
                yield spans[-1][1], spans[-1][1], ", " + self._flow({key: new[key]})[1:-1]

    def _flow_list(self, node: yaml.SequenceNode, old: Sequence[Any], new: Sequence[Any]) -> Iterator[Edit]:
        spans = [(item.start_mark.index, item.end_mark.index) for item in node.value]
        steps = list(_aligned(old, new))
        kept_indexes = {index for index, other in steps if isinstance(other, int)}
        if not kept_indexes:
            yield node.start_mark.index, node.end_mark.index, self._flow(list(new))
            return
        yield from self._flow_cuts(spans, [index in kept_indexes for index in range(len(old))])
        for index, other in steps:
            if isinstance(other, _Added):
                before = index > min(kept_indexes)
                place = spans[index - 1][1] if before else spans[0][0]
                item = self._flow(new[other.index])
                yield place, place, f", {item}" if before else f"{item}, "
            elif other is not None and old[index] != new[other]:
                yield from self._flow_value(node.value[index], old[index], new[other])

    def _flow_value(self, node: yaml.Node, old: Any, new: Any) -> Iterator[Edit]:
        if _is_filled(old) and _is_filled(new) and type(old) is type(new):
            yield from self._collection(node, old, new, None)
        elif node.start_mark.index < node.end_mark.index:
            yield node.start_mark.index, node.end_mark.index, self._flow(new)
        else:
            raise _NotSimple

    @staticmethod
    def _flow_cuts(spans: Sequence[tuple[int, int]], stays_at: Sequence[bool]) -> Iterator[Edit]:
        """Yield the edits that remove items of a flow collection, each with one comma."""
        for index, stays in enumerate(stays_at):
            if not stays and any(stays_at[:index]):
                yield spans[index - 1][1], spans[index][1], ""
            elif not stays and index + 1 < len(spans):
                yield spans[index][0], spans[index + 1][0], ""
            elif not stays:
                raise _NotSimple

    def _dash(self, item: yaml.Node) -> int:
        """Return where the dash of an item is."""
        position = self._text.rfind("-", 0, item.start_mark.index)
        if position < 0 or self._text[position + 1 : item.start_mark.index].strip():
            raise _NotSimple
        return position

    def _cut(self, start: int, end: int) -> Edit:
        """Return the edit that removes whole lines."""
        first, last = _line_start(self._text, start), _line_end(self._text, end)
        if self._text[first:start].strip():
            raise _NotSimple
        return first, last, ""

    def _lines(self, place: int, value: Any, column: int) -> Edit:
        """Return the edit that adds a mapping's keys, or a list's items, as lines before the line at a place."""
        lines = [f"{' ' * column}{line}" if line else "" for line in self._block(value).splitlines()]
        return place, place, "".join(line + self._newline for line in lines)

    def _block(self, value: Any) -> str:
        return dump(value, indent_lists=self._indent_lists)

    def _flow(self, value: Any) -> str:
        if self._is_json:
            return json.dumps(value, ensure_ascii=False)
        if not isinstance(value, dict | list):
            # Within a list, so that what would end it is quoted.
            return self._flow([value])[1:-1]
        return str(
            yaml.dump(value, Dumper=_PlainDumper, sort_keys=False, width=_WIDTH, default_flow_style=True)
        ).strip()


@dataclass(frozen=True)
class _Added:
    """An item of the new list that the old one lacks."""

    index: int


def _aligned(old: Sequence[Any], new: Sequence[Any]) -> Iterator[tuple[int, int | _Added | None]]:
    """Yield for each item of the old list its index in the new one, or None; and what is added before the index."""
    names, new_names = _identities(old, new)
    matcher = difflib.SequenceMatcher(None, names, new_names, autojunk=False)
    for _, first, last, start, stop in matcher.get_opcodes():
        if last - first == stop - start:
            yield from zip(range(first, last), range(start, stop), strict=True)
            continue
        yield from ((index, None) for index in range(first, last))
        yield from ((last, _Added(index)) for index in range(start, stop))


def _identities(*lists: Sequence[Any]) -> list[list[str]]:
    """Return what the items of each list are recognised by: their names if these are unique, else all that they are."""
    if all(isinstance(item, dict) and item.get("name") for items in lists for item in items):
        names = [[str(item["name"]) for item in items] for items in lists]
        if all(len(set(each)) == len(each) for each in names):
            return names
    return [[repr(item) for item in items] for items in lists]


def _is_filled(value: Any) -> bool:
    """Return whether a value is a collection that is not empty."""
    return isinstance(value, dict | list) and bool(value)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _lists_indented(node: yaml.Node) -> Iterator[bool]:
    """Yield for each list in block style below a key whether its items are indented."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style:
        for key_node, value_node in _own(node):
            if isinstance(value_node, yaml.SequenceNode) and not value_node.flow_style and value_node.value:
                # Its own mark may be that of an anchor on the line of the key.
                yield value_node.value[0].start_mark.column - key_node.start_mark.column > len("- ")
            yield from _lists_indented(value_node)
    elif isinstance(node, yaml.SequenceNode) and not node.flow_style:
        for item in node.value:
            yield from _lists_indented(item)


def _own(node: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
    """Return the keys and values of a mapping that are written in it, not merged into it by ``<<``."""
    start, end = node.start_mark.index, node.end_mark.index
    return [(key, value) for key, value in node.value if start <= key.start_mark.index < end]


def _key(node: yaml.Node) -> Any:
    """Return a key as the content has it: 1 for ``1``, the text for ``'1'``."""
    if node.tag.endswith((":value", ":merge")):
        return node.value  # as `safeyaml` reads it
    return yaml.constructor.SafeConstructor().construct_object(node, deep=True)


def _mark(item: yaml.Node | yaml.Event) -> Any:
    """Return where something begins in the text."""
    return item.start_mark


def _value_end(key_node: yaml.Node, node: yaml.Node) -> int:
    """Return where a value ends; of an alias, whose node is elsewhere, the end of its key."""
    return key_node.end_mark.index if node.start_mark.index < key_node.end_mark.index else _end(node)


def _end(node: yaml.Node) -> int:
    """Return where a node ends in the text, without the comments after it."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        start = node.start_mark.index
        if isinstance(node, yaml.MappingNode):
            if not (own := _own(node)):
                raise _NotSimple
            key_node, node = own[-1]
            if node.start_mark.index < key_node.end_mark.index:
                return int(key_node.end_mark.index)
        else:
            node = node.value[-1]
            if node.start_mark.index < start:
                raise _NotSimple  # an alias as an item
    end: Any = node.end_mark
    return int(end.index)


def _line_start(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _line_end(text: str, index: int) -> int:
    """Return the end of the line that holds an end index; a block scalar ends at the start of the next line."""
    if index and text[index - 1] == "\n":
        return index
    end = text.find("\n", index)
    return len(text) if end < 0 else end + 1
