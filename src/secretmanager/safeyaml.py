"""Reading YAML that others wrote, within bounds: no file ends the process, or fills its memory.

libyaml makes nodes by recursion in C, which ends in a segmentation fault for many brackets. Aliases of aliases stand
for more values than any memory has. So the events are looked at before, which are read one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MOST_DEEP = 200
"""How deep collections may be in each other."""

MOST_VALUES = 100_000
"""How many values aliases may make of a text that is shorter, in characters."""


class _Loader(_BASE):  # type: ignore[misc]  # the C one has no types
    """Reads a scalar ``=`` and ``<<`` as a text where it is a value, as other parsers do.

    YAML 1.1 gives them types of their own, which PyYAML resolves and does not construct. CRDs of the Prometheus
    operator have ``- =`` in a list.
    """


for _tag in ("tag:yaml.org,2002:value", "tag:yaml.org,2002:merge"):
    _Loader.add_constructor(_tag, yaml.SafeLoader.construct_yaml_str)

LOADER: Any = _Loader


class NotYaml(Exception):
    """A text is not YAML, or not within the bounds. It says why, and quotes nothing of the text.

    Attributes:
        line: line in which that was found, from 1; None if it is not known.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.line = line


def load(text: str | bytes) -> Any:
    """Return the content of a text of one document.

    Raises:
        NotYaml: it is not YAML, or not within the bounds.
    """
    for _ in events(text):
        pass
    return _built(lambda: yaml.load(text, LOADER))  # noqa: S506 - it is a safe loader


def load_all(text: str) -> list[Any]:
    """Return the contents of a text of several documents; raises as `load`."""
    for _ in events(text):
        pass
    return [content for _, content in documents(text)]


def events(text: str | bytes) -> Iterator[yaml.Event]:
    """Yield the events of a text; raises as `load`."""
    bounds = _Bounds(max(MOST_VALUES, len(text)))
    parsed = yaml.parse(text, LOADER)
    while (event := _built(lambda: next(parsed, None))) is not None:
        bounds.count(event)
        yield event


def documents(text: str) -> Iterator[tuple[yaml.Node, Any]]:
    """Yield each document's nodes and its content, from one pass over a text whose events were looked at.

    Raises:
        NotYaml: a value is not of its type, such as a date that does not exist.
    """
    loader = LOADER(text)
    try:
        while _built(loader.check_node):
            node = _built(loader.get_node)
            yield node, _built(lambda node=node: loader.construct_document(node))
    finally:
        loader.dispose()


class _Bounds:
    """Counts the values that events stand for, with those of aliases."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._anchors: dict[str, int] = {}
        self._open: list[tuple[str | None, int]] = []
        self._values = 0

    def count(self, event: yaml.Event) -> None:
        match event:
            case yaml.CollectionStartEvent():
                self._open.append((event.anchor, self._values))
                self._add(1, event)
            case yaml.CollectionEndEvent():
                anchor, before = self._open.pop()
                self._name(anchor, self._values - before)
            case yaml.ScalarEvent():
                self._add(1, event)
                self._name(event.anchor, 1)
            case yaml.AliasEvent():
                if event.anchor not in self._anchors:
                    raise NotYaml("is not read: it has an alias of what it is in, or of nothing", _line(event))
                self._add(self._anchors[event.anchor], event)

    def _add(self, values: int, event: yaml.Event) -> None:
        self._values += values
        if len(self._open) > MOST_DEEP:
            raise NotYaml(f"is not read: it has more than {MOST_DEEP} collections in each other", _line(event))
        if self._values > self._most:
            raise NotYaml(f"is not read: its aliases stand for more than {self._most} values", _line(event))

    def _name(self, anchor: str | None, values: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = values


def _line(event: yaml.Event) -> int | None:
    mark = event.start_mark
    return mark.line + 1 if mark else None


def _built(build: Any) -> Any:
    """Return what a function of yaml returns; its errors quote the text, and are of many types."""
    try:
        return build()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        foreign = isinstance(error, yaml.constructor.ConstructorError) and "determine a constructor" in str(error)
        reason = "is not read: a value has a tag that is not one of YAML's own" if foreign else "is not YAML"
        failure = NotYaml(reason, mark.line + 1 if mark else None)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        failure = NotYaml("is not YAML: a value is not of its type")  # such as a date that does not exist
    raise failure  # here, so that the original is not its context
