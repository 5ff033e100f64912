"""Which files the values become: by default each one of its own, or what a configuration says. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ..errors import ConfigError, SecretFormatError, quoted
from .values import check_name, text_of
from .volume import File

PROGRAM = "kubevault-exec"
"""Name of the program that gives another one its variables."""

VARIABLES = ".env"
"""Name of the file that it reads them from, beside itself."""

_FIELDS = ("path", "template", "value", "mode", "owner")


_PLACEHOLDER = re.compile(r"\$\$(?=\{)|\$\{(?P<name>[-._A-Za-z0-9]+)\}|(?P<wrong>\$\{)")
"""In a template ``${NAME}`` stands for a value, and ``$${`` for ``${``. Any other ``$`` stays as it is."""


@dataclass(frozen=True)
class Entry:
    """One file of a configuration.

    Attributes:
        path: its path in the folder.
        place: the entry's place in the configuration, for errors.
        template: its content with names of values in it; None for one value alone.
        value: name of that value.
        mode: its permission bits; None for the default.
        owner: numbers of its user and its group; None for those of this process and of the folder.
    """

    path: str
    place: str
    template: str | None = None
    value: str | None = None
    mode: int | None = None
    owner: tuple[int, int] | None = None


def entries(config: Mapping[str, Any], place: str) -> list[Entry]:
    """Return the files that a configuration names.

    Args:
        config: a mapping with the list ``files``; each has ``path``, and ``template`` or ``value``, and may have
            ``mode`` and ``owner``.
        place: where it is from, for errors.

    Raises:
        ConfigError: a field is unknown, missing or wrong; names its place.
    """
    files = config.get("files")
    if set(config) != {"files"} or not isinstance(files, list) or not files:
        raise ConfigError("allowed is the list files alone, and it is not empty", place=place)
    parsed = [_entry(item, f"{place}: files[{index}]") for index, item in enumerate(files)]
    paths: set[PurePosixPath] = set()
    for entry in parsed:
        path = PurePosixPath(entry.path)
        if any(path == other or path in other.parents or other in path.parents for other in paths):
            raise ConfigError(f"path: {entry.path} is taken by another file", place=entry.place)
        paths.add(path)
    return parsed


def files(values: Mapping[str, bytes], config: list[Entry] | None, mode: int | None = None) -> dict[str, File]:
    """Return the files for values, by path.

    Args:
        values: plaintext by name.
        config: the files; None for one of each value, by its name.
        mode: permission bits of files that name none; None for `volume.default_mode`.

    Raises:
        ConfigError: a name is not allowed for a file, or a template or entry names a value that there is not.
        SecretFormatError: a template names a value that is not text.
    """
    if config is None:
        for name in values:
            check_name(name)
        return {name: File(value, mode) for name, value in values.items()}
    return {
        entry.path: File(_content(entry, values), mode if entry.mode is None else entry.mode, entry.owner)
        for entry in config
    }


def environment(variables: Mapping[str, str], mode: int | None = None) -> dict[str, File]:
    """Return the file of variables for the program `PROGRAM`: ``NAME=VALUE``, each followed by a NUL byte.

    Args:
        variables: values by name.
        mode: permission bits; None for `volume.default_mode`.
    """
    content = "".join(f"{name}={value}\0" for name, value in variables.items())
    return {VARIABLES: File(content.encode(), mode)}


def mode_of(text: object, place: str) -> int:
    """Return permission bits in octal text.

    Raises:
        ConfigError: it is not text, or something else than three octal digits after a zero.
    """
    if not isinstance(text, str) or not re.fullmatch(r"0?[0-7]{3}", text):
        raise ConfigError(f'mode: found {quoted(text)}; allowed is octal text, as "0440"', place=place)
    return int(text, 8)


def _entry(item: object, place: str) -> Entry:
    if not isinstance(item, Mapping):
        raise ConfigError(f"found a value of type {type(item).__name__}; allowed is a mapping", place=place)
    if unknown := sorted(item.keys() - set(_FIELDS), key=str):
        raise ConfigError(f"{', '.join(map(str, unknown))}: unknown; allowed are {', '.join(_FIELDS)}", place=place)
    texts = {name: item[name] for name in ("path", "template", "value", "owner") if name in item}
    for name, text in texts.items():
        if not isinstance(text, str):
            raise ConfigError(f"{name}: found a value of type {type(text).__name__}; allowed is text", place=place)
    if "path" not in texts:
        raise ConfigError("path: is missing", place=place)
    if ("template" in texts) == ("value" in texts):
        raise ConfigError("needs either template or value", place=place)
    if "template" in texts:
        _check_template(texts["template"], place)
    path = texts["path"]
    if path.startswith("/"):
        raise ConfigError(f"path: found {path}; allowed is a path in the folder, without a leading slash", place=place)
    for part in path.split("/"):
        check_name(part, f"{place}: path")
    return Entry(
        path,
        place,
        texts.get("template"),
        texts.get("value"),
        mode_of(item["mode"], place) if "mode" in item else None,
        _owner(texts["owner"], place) if "owner" in texts else None,
    )


def _check_template(text: str, place: str) -> None:
    for match in _PLACEHOLDER.finditer(text):
        if match["wrong"]:
            line = text.count("\n", 0, match.start()) + 1
            raise ConfigError(
                f"template: line {line}: '${{' begins the name of a value, which is not there",
                place=place,
                remedy="write ${NAME}, or $${ for the characters themselves",
            )


def _owner(text: str, place: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,10}):([0-9]{1,10})", text)
    if not match:
        raise ConfigError(f"owner: found {text!r}; allowed are numbers, as 1000:1000", place=place)
    return int(match[1]), int(match[2])


def _content(entry: Entry, values: Mapping[str, bytes]) -> bytes:
    if entry.value is not None:
        if entry.value not in values:
            raise _unknown(entry.value, values, f"{entry.place}: value")
        return values[entry.value]
    place = f"{entry.place}: template of {entry.path}"

    def replaced(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return "$"
        if name not in values:
            raise _unknown(name, values, place)
        text = text_of(values[name])
        if text is None:
            raise SecretFormatError(f"{name} is not text", place=place, remedy="have it as a file of its own, by value")
        return text

    return _PLACEHOLDER.sub(replaced, entry.template or "").encode()


def _unknown(name: str, values: Mapping[str, bytes], place: str) -> ConfigError:
    return ConfigError(f"there is no value {name}; there are {', '.join(sorted(values)) or 'none'}", place=place)
