"""Waiting for Vault and Kubernetes while a pod starts, and the reason where kubelet finds it."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..errors import (
    Forbidden,
    InvalidToken,
    KubernetesUnavailable,
    LoginDenied,
    PermissionDenied,
    SecretNotFound,
    VaultUnavailable,
)
from ..servers.http import without_waiting

T = TypeVar("T")

AWAY = (VaultUnavailable, KubernetesUnavailable)
"""Errors that end when a server is there again, or unsealed."""

REFUSED = (LoginDenied, PermissionDenied, InvalidToken, Forbidden, SecretNotFound)
"""Errors that end when somebody grants a permission, or seals the Secret, as another part of the same roll-out may."""

REFUSED_FOR = 30.0
"""How long those are waited for, in seconds: usually they are mistakes, which should be seen soon."""

MAX_PAUSE = 30.0
"""Longest pause between two attempts, in seconds."""

TERMINATION_LOG = Path("/dev/termination-log")
"""Where a container leaves the reason of its end, unless its ``terminationMessagePath`` says another.
Source: https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
"""

TERMINATION_VARIABLE = "KUBEVAULT_TERMINATION_LOG"
"""Environment variable for another path."""

_MESSAGE = 2048  # bytes; kubelet takes 4096 of a container, and 12 KiB of all of a pod


def backoff(attempt: int) -> float:
    """Return the pause after a failed attempt, in seconds: exponential, with jitter, so that pods do not come in step.

    Args:
        attempt: number of the attempts that failed before it.
    """
    return min(MAX_PAUSE, 2.0 ** min(attempt, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def patiently(attempt: Callable[[], T], seconds: float, say: Callable[[str], None]) -> T:
    """Repeat what fails because a server is away or a permission is missing, until it succeeds.

    Args:
        attempt: what to do.
        seconds: how long further attempts are made; 0 for one attempt alone. After a refusal, `REFUSED_FOR` at most.
        say: called with the reason before each pause.

    Raises:
        SecretManagerError: the last attempt's; at once what no waiting ends.
    """
    start = time.monotonic()
    refused_since: float | None = None
    failed = 0
    while True:
        try:
            with without_waiting():  # for an election: that is done here
                result = attempt()
        except (*AWAY, *REFUSED) as error:
            now = time.monotonic()
            refused_since = (refused_since or now) if isinstance(error, REFUSED) else None
            end = start + seconds
            if refused_since is not None:
                end = min(end, refused_since + REFUSED_FOR)
            pause = min(backoff(failed), end - now)
            if pause <= 0:
                raise
            failed += 1
            say(f"waiting for up to {end - now:.0f} s, next attempt in {pause:.1f} s: {error}")
            leave_reason(str(error))
        else:
            if failed:
                leave_reason("")
            return result
        time.sleep(pause)


def leave_reason(text: str) -> None:
    """Write one line to the container's termination message, or empty it; without such a file, do nothing.

    Raises:
        OSError: the file cannot be written.
    """
    log_path = os.environ.get(TERMINATION_VARIABLE)
    if log_path or TERMINATION_LOG.exists():
        line = " ".join(text.split()).encode()[:_MESSAGE]
        Path(log_path or TERMINATION_LOG).write_bytes(line)
