"""Values by the names that programs know them by: of files, and of variables of the environment. Pure functions."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping

from ..errors import ConfigError, SecretFormatError
from ..names import VARIABLE, variable_of

MOST_OF_ONE = 32 * os.sysconf("SC_PAGE_SIZE") if sys.platform == "linux" else sys.maxsize
"""Size that one variable may have, with its name, the equals sign and a NUL byte, in bytes (execve(2))."""

_DECODER = json.JSONDecoder()
_STRUCTURAL = re.compile(r"\s*([{:,}])\s*")


def named(opened: Iterable[tuple[str, str | None, Mapping[str, bytes]]]) -> dict[str, bytes]:
    """Return the values of several Secrets by name: the data key, or the name of a member of its JSON object.

    Args:
        opened: of each place its text, its data key and what is sealed there. With a data key, the members of the JSON
            object in it count; without, all data keys.

    Raises:
        SecretFormatError: the value of a data key is not a JSON object.
        ConfigError: a name is in several of them.
    """
    combined: dict[str, bytes] = {}
    for place, key, values in opened:
        secret_values = values if key is None else members(values[key], place)
        if duplicates := sorted(combined.keys() & secret_values.keys()):
            raise ConfigError(f"{', '.join(duplicates)}: is in several of the Secrets")
        combined |= secret_values
    return combined


def check_name(name: str, place: str = "") -> None:
    """Check the name of a file: it is allowed as a data key of a Secret.

    Args:
        name: the name.
        place: where it comes from, for errors.

    Raises:
        ConfigError: it is another.
    """
    if not re.fullmatch(r"[-._A-Za-z0-9]+", name) or name == "." or name.startswith(".."):
        raise ConfigError(
            f"{name!r} is not allowed as a file's name; allowed are letters, digits, '-', '_', '.', not two dots first",
            place=place,
        )


def variables(values: Mapping[str, bytes], prefix: str = "", place: str = "") -> dict[str, str]:
    """Return environment variables for values.

    Args:
        values: plaintext by data key. What is not allowed in a variable's name becomes an underscore.
        prefix: first part of the variables' names.
        place: where the values come from, for errors.

    Raises:
        SecretFormatError: a value is not text, holds a NUL byte, which no variable can, or is too large for one
            (`MOST_OF_ONE`).
        ConfigError: two data keys result in one name, or a name begins with a digit.
    """
    environment: dict[str, str] = {}
    origin: dict[str, str] = {}
    for key, value in values.items():
        name = variable_of(prefix + key)
        if name in environment:
            raise ConfigError(f"data keys {origin[name]} and {key} both result in the variable {name}", place=place)
        if not name or name[0].isdigit():
            raise ConfigError(
                f"data key {key} does not result in a valid variable name: {name!r}",
                place=place,
                remedy="give a prefix",
            )
        text = text_of(value)
        if text is None or "\0" in text:
            raise SecretFormatError(
                f"data key {key} is not text that fits a variable", place=place, remedy="have it as a file"
            )
        if (size := len(name.encode()) + len("=") + len(value) + len("\0")) > MOST_OF_ONE:
            raise SecretFormatError(
                f"data key {key} is too large for a variable: {size:,} bytes with its name, of at most {MOST_OF_ONE:,}",
                place=place,
                remedy="have it as a file (kubevault exec --files; kubevault files without --exec)",
            )
        environment[name], origin[name] = text, key
    return environment


def renamed_variables(values: Mapping[str, bytes], names: Mapping[str, str], place: str = "") -> dict[str, str]:
    """Return environment variables of other names than `variables` gives them.

    Args:
        values: plaintext by data key.
        names: the data key of each variable, by the variable's name.
        place: where the values come from, for errors.

    Raises:
        SecretFormatError, ConfigError: as of `variables`; or there is no such data key.
    """
    if missing := sorted(set(names.values()) - values.keys()):
        raise ConfigError(f"there is no {', '.join(missing)}; there is {', '.join(sorted(values))}", place=place)
    renamed: dict[str, str] = {}
    for name, key in names.items():
        if not VARIABLE.fullmatch(name):
            raise ConfigError(f"{name!r} is not allowed as a variable's name; allowed are letters, digits and '_'")
        renamed |= variables({name: values[key]}, place=place)
    return renamed


def members(value: bytes, place: str) -> dict[str, bytes]:
    """Return the members of a JSON object (RFC 8259 section 4): of texts what they say, others as they are written.

    A number read and written again could differ: 1.10, 1E5, or one with more digits than a float has.

    Raises:
        SecretFormatError: the value is not a JSON object.
    """
    try:
        return {name: text.encode() for name, text in _members(value.decode())}
    except (ValueError, RecursionError):  # UnicodeError, of half a character, is a ValueError
        problem = SecretFormatError("the value is not a JSON object", place=place, remedy="leave the data key out")
    raise problem  # here, because the original's text holds the value


def _members(text: str) -> Iterator[tuple[str, str]]:
    """Yield names and texts of an object's members; raise ValueError where the text is no object."""
    json.loads(text, parse_constant=_refuse)
    mark = _structural(text, 0)
    while mark[1] != "}" and text[mark.end()] != "}":
        name, end = _DECODER.raw_decode(text, mark.end())
        start = _structural(text, end).end()
        value, end = _DECODER.raw_decode(text, start)
        yield name, value if isinstance(value, str) else text[start:end]
        mark = _structural(text, end)


def _structural(text: str, position: int) -> re.Match[str]:
    """Find one of an object's structural characters (RFC 8259 section 2)."""
    match = _STRUCTURAL.match(text, position)
    if not match:
        raise ValueError("not an object")
    return match


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def text_of(value: bytes) -> str | None:
    """Return the text of a value; None if it is none."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
