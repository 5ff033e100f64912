"""``kubevault rotate``: make a new version of a Transit key, and by options bring all to it."""

from __future__ import annotations

from typing import Any

import click

from ..rotation.keys import duration
from ..rotation.rotation import Steps
from . import rotation


@click.command(name="rotate")
@click.option(
    "--older-than",
    default="30d",
    show_default=True,
    help="Least age of the newest version, such as 30d or 12h; 0 rotates in any case.",
)
@click.option("--rewrap", is_flag=True, help="Bring the Secrets to the newest version.")
@click.option("--retire", is_flag=True, help="Then have the key decrypt nothing older.")
@click.option("--trim", is_flag=True, help="Also delete the older versions, for ever.")
@rotation.rewrapping
@rotation.common
def command(older_than: str, rewrap: bool, retire: bool, trim: bool, output: str, **given: Any) -> None:
    """Make a new version of a Transit key, unless the newest one is young enough.

    It never sees a plaintext.
    """
    if trim and not retire:
        raise click.UsageError("--trim needs --retire")
    rotation.perform(Steps(True, duration(older_than, "--older-than"), rewrap, retire, trim), output, **given)
