"""The fenced blocks of the README and of docs, and a prompt of Python that runs them as one would type them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .ansible import ROOT

PAGES = [path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]

_FENCE = re.compile(r"(?P<indent> *)(?P<marks>`{3,}|~{3,})(?P<language>.*)")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: path of its page, from the top folder.
        heading: the heading that it is under.
        language: what its fence names; empty for none.
        line: number of its first line in the page.
        text: its lines, without the indentation of the fence.
    """

    page: str
    heading: str
    language: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.first}"

    @property
    def first(self) -> str:
        """Its first line."""
        return self.text.partition("\n")[0]


class Place(NamedTuple):
    """Which block is meant, so that its text may change: the first of its language under a heading, or a later one."""

    page: str
    heading: str
    language: str = ""
    number: int = 0

    def __str__(self) -> str:
        return f"{self.page}: {self.heading}: {self.language or 'plain'} {self.number}"

    def find(self) -> Block:
        """Return the block; if it is gone, the test fails."""
        found = [block for block in BLOCKS if (block.page, block.heading, block.language) == self[:3]]
        assert len(found) > self.number, f"{self} is gone"
        return found[self.number]


def blocks_of(page: str, text: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page, those of lists too."""
    heading, fence, start, lines = "", None, 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        match = _FENCE.fullmatch(line)
        if fence is None and match:
            fence, start, lines = match, number + 1, []
        elif fence is None:
            heading = re.sub(r"^#+ ", "", line) if re.match("#+ ", line) else heading
        elif match and match["marks"] == fence["marks"] and not match["language"]:
            indent = fence["indent"]
            yield Block(
                page, heading, fence["language"], start, "".join(f"{one.removeprefix(indent)}\n" for one in lines)
            )
            fence = None
        else:
            lines.append(line)
    assert fence is None, f"{page}:{start}: the block has no end"


BLOCKS = [block for page in PAGES for block in blocks_of(page, (ROOT / page).read_text(encoding="utf-8"))]

PROMPT = textwrap.dedent(
    """
    import ast, asyncio, inspect, sys
    names = {"__name__": "__main__"}
    with asyncio.Runner() as loop:
        for statement in ast.parse(sys.stdin.read()).body:
            typed = ast.Interactive([statement])
            result = eval(compile(typed, "page", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
            if inspect.iscoroutine(result):
                loop.run(result)
    """
)
"""A program that does what its standard input says, as `python -m asyncio` does: it prints what expressions return."""
