"""What other programs of the same user may see of this process: its memory and its environment hold secrets."""

from __future__ import annotations

import sys
from functools import cache

_PR_SET_DUMPABLE = 4

CoreLimit = tuple[int, int]
"""Soft and hard limit of a core file's size, as of setrlimit(2)."""


@cache
def protect() -> CoreLimit:
    """Have this process, and those that it forks, write no core file, and other processes not read them.

    On Linux, only root may then read the memory, ``/proc/PID/environ`` and the open files of this process, or trace it
    (PR_SET_DUMPABLE, prctl(2)). A program that it becomes or starts is not concerned: execve(2) ends that. Other
    systems have no such call.

    Returns:
        The limit of core files before, for such a program.
    """
    import resource

    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, before[1]))  # the soft one, which a program can have back
    if sys.platform == "linux":
        import ctypes  # 3 ms, which other commands do not pay for

        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return before
