"""Files of lines ``KEY=VALUE``, as ``kubectl create secret generic --from-env-file`` reads them."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping

from ..errors import ConfigError
from ..names import DATA_KEY

_SPACE = "".join(map(chr, [*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)])) + (
    "\u2028\u2029\u202f\u205f\u3000"
)
"""What Go's ``unicode.IsSpace`` takes for white space; Python's own has four separators besides."""

_NAME = re.compile(r"[-._A-Za-z][-._A-Za-z0-9]*")


def parse(content: bytes, place: str, environment: Mapping[str, str], *, allow_empty: bool = False) -> dict[str, str]:
    """Return the pairs of a file. There are no quotes, no escapes and no ``export``.

    A line ends with a line feed, before which a carriage return may stand. White space before a name, empty lines and
    lines that begin with ``#`` do not count. A name alone stands for the variable of the environment. Unlike kubectl,
    which ends silently at a line of 64 KiB, lines may be of any length.

    Args:
        content: the bytes of the file.
        place: where it comes from, for errors.
        environment: variables, by name.
        allow_empty: whether a name alone may stand for a variable that is not set, which is empty then.

    Raises:
        ConfigError: a line is not text, or has no valid name, or that of another line; says which, and quotes nothing.
    """
    found: dict[str, str] = {}
    allowed = "allowed is KEY=VALUE, or the name of a variable"
    for number, raw in enumerate(content.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        where = f"{place}, line {number}"
        try:
            line = raw.removesuffix(b"\r").decode().lstrip(_SPACE)
        except UnicodeDecodeError:
            raise ConfigError(f"{where}: is not UTF-8") from None
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not _NAME.fullmatch(key) or not DATA_KEY.allows(key):
            raise ConfigError(f"{where}: {allowed}; a name has letters, digits, '-', '_' and '.', and no digit first")
        if not equals:
            if key not in environment and not allow_empty:
                raise ConfigError(f"{where}: has no '=', and no variable has this name; {allowed}")
            value = environment.get(key, "")
            if not _is_text(value):
                raise ConfigError(f"{where}: the variable of this name is not UTF-8")
        if key in found:
            raise ConfigError(f"{where}: its name occurs twice")
        found[key] = value
    return found


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
