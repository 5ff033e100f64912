"""Several requests at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def each(call: Callable[[T], R], items: Sequence[T], concurrency: int) -> Iterator[R]:
    """Call for each item by several threads; yield the results in order.

    Args:
        call: what to call.
        items: its arguments.
        concurrency: number of threads.
    """
    if len(items) <= 1 or concurrency == 1:
        yield from map(call, items)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(concurrency, len(items))) as pool:
        yield from pool.map(call, items)
