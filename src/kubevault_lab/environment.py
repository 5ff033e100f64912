"""Read the file ``env`` in the lab's folder: addresses and paths that a client of the lab needs."""

from __future__ import annotations

import shlex
from pathlib import Path


def read(lab: str | Path) -> dict[str, str]:
    """Return the variables of the file ``env``, by name.

    Args:
        lab: the lab's folder.

    Raises:
        OSError: the file does not exist, so there is no lab.
    """
    lines = (Path(lab) / "env").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: shlex.split(value)[0] for name, _, value in pairs}
