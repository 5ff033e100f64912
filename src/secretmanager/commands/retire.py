"""``kubevault retire``: have a Transit key decrypt nothing that its older versions sealed."""

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
def command(trim: bool, output: str, **given: Any) -> None:
    """Have a Transit key decrypt nothing that its older versions sealed, unless a Secret still needs them.

    Those that do are named, and nothing is changed.
    """
    rotation.perform(Steps(retire=True, trim=trim), output, **given)
