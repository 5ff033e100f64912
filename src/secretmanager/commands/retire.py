"""``kubevault retire``: disable the older versions of a Transit key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..rotation.rotation import Steps
from . import rotation


@click.command(name="retire")
@click.option("--trim", is_flag=True, help="Also delete the older versions, for ever.")
@click.option(
    "--manifest",
    "manifests",
    multiple=True,
    type=click.Path(path_type=Path),
    help="YAML file of sealed Secrets, or a folder of such files, which counts as well.",
)
@rotation.common
def command(trim: bool, output: str, **options: Any) -> None:
    """Disable the older versions of a Transit key.

    If Secrets still need one, they are named, and nothing is changed.
    """
    rotation.perform(Steps(retire=True, trim=trim), output, **options)
