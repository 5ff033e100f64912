"""What the header of a program or a shared library says: System V ABI, chapters 4 and 5; elf(5)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MACHINES = {62: "amd64", 183: "arm64"}
"""Architectures by ELF's number, as Go names them; others are not built for."""

_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_NEEDED, _STRINGS = 1, 5


@dataclass(frozen=True)
class Elf:
    """A program or a shared library.

    Attributes:
        architecture: as Go names it, such as "amd64"; another one by its number.
        needed: names of the shared libraries that it needs, such as "libc.so.6".
        interpreter: path of the program that loads it; empty for a library and a static program.
    """

    architecture: str
    needed: tuple[str, ...]
    interpreter: str


def parse(content: bytes) -> Elf | None:
    """Return what a file says; None if it is not a 64-bit little-endian ELF file.

    Raises:
        ValueError: the file is damaged.
    """
    if content[:6] != b"\x7fELF\x02\x01":
        return None
    try:
        return _parse(content)
    except struct.error as error:
        raise ValueError(f"damaged ELF file: {error}") from error


def _parse(content: bytes) -> Elf:
    (machine,) = struct.unpack_from("<H", content, 18)
    (table,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    segments = [struct.unpack_from("<IIQQQQ", content, table + number * size) for number in range(count)]
    needed: list[int] = []
    strings, interpreter = 0, ""
    for kind, _, offset, _, _, length in segments:
        if kind == _INTERPRETER:
            interpreter = content[offset : offset + length].rstrip(b"\0").decode()
        if kind == _DYNAMIC:
            for tag, value in struct.iter_unpack("<QQ", content[offset : offset + length]):
                if tag == _NEEDED:
                    needed.append(value)
                elif tag == _STRINGS:
                    strings = value
    # The table of strings is named by its address in memory.
    for kind, _, offset, address, _, length in segments:
        if kind == _LOAD and address <= strings < address + length:
            strings += offset - address
            break
    names = (content[strings + name : content.index(b"\0", strings + name)].decode() for name in needed)
    return Elf(MACHINES.get(machine, str(machine)), tuple(names), interpreter)
