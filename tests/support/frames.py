"""What an exception keeps: the frames of its traceback, their variables, and those of what it came from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from secretmanager import errors
from support.client import assert_no_secret

TESTS = str(Path(__file__).parents[1])
"""The frames of tests are those of a user: they keep what they are about."""


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, and all that it came from or holds."""
    pending: list[Any] = [error]
    seen: set[int] = set()
    while pending:
        one = pending.pop()
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            pending += [one.__cause__, one.__context__, *getattr(one, "errors", ())]


def frames(error: BaseException) -> Iterator[FrameType]:
    """Yield the frames of an exception alone, the outermost first."""
    trace = error.__traceback__
    while trace:
        yield trace.tb_frame
        trace = trace.tb_next


def assert_no_frame_of_ours(error: BaseException, *others: str) -> None:
    """Check that an exception keeps no frame below the package's boundary, and no secret but in the user's own frames.

    Args:
        error: the exception.
        others: parts of the paths of libraries that call the user's code, and whose frames may be there.
    """
    for one in chain(error):
        assert_no_secret(f"{one!r} {one} {vars(one)} {getattr(one, 'object', '')!r} {getattr(one, 'doc', '')!r}")
        for frame in frames(one):
            path = frame.f_code.co_filename
            if not path.startswith(TESTS):
                assert path == errors.__file__ or any(part in path for part in others), (
                    f"{path}: {frame.f_code.co_name}"
                )
                for name, value in frame.f_locals.items():
                    assert_no_secret(f"{path}: {name} = {shown(value)}")


def shown(value: Any, depth: int = 3) -> str:
    """Return what a recorder of errors could show of a value: its repr, and those of what it holds."""
    parts = [repr(value)]
    if depth:
        held = [getattr(value, name, ()) for name in ("args", "keywords", "__dict__")]
        for part in [*held, value]:
            items = part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple | set) else ()
            parts += [shown(item, depth - 1) for item in items]
    return " ".join(parts)
