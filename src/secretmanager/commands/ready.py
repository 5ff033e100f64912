"""``kubevault ready``: check whether `kubevault files` has written."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..delivery.volume import is_written


@click.command(name="ready")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def command(folder: Path) -> None:
    """Check whether `kubevault files` has written, for a probe.

    The status is 0 if it has written FOLDER, and 1 if not yet.
    """
    sys.exit(0 if is_written(folder) else 1)
