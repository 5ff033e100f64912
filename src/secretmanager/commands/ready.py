"""``kubevault ready``: whether `kubevault files` has written."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..delivery.volume import is_written


@click.command(name="ready")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def command(folder: Path) -> None:
    """End with status 0 if `kubevault files` has written FOLDER, and with 1 if not yet: for a startup probe."""
    sys.exit(0 if is_written(folder) else 1)
