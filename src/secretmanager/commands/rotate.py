"""``kubevault rotate``: rotate a Transit key, and re-encrypt what it sealed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..rotation.keys import duration
from ..rotation.rotation import Steps
from . import rotation, textfile


@click.command(name="rotate")
@click.option(
    "--older-than",
    default="30d",
    show_default=True,
    help="Rotate only if the newest version is at least this old, such as 30d or 12h; 0 always rotates.",
)
@click.option("--rewrap", is_flag=True, help="Re-encrypt the Secrets with the newest version.")
@click.option("--retire", is_flag=True, help="Then disable the older versions.")
@click.option("--trim", is_flag=True, help="Also delete the older versions, for ever.")
@click.option(
    "--metrics",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="After a success, write its time to this file of node_exporter's textfile collector, such as rotation.prom.",
)
@rotation.rewrapping
@rotation.common
def command(
    older_than: str, rewrap: bool, retire: bool, trim: bool, metrics: Path | None, output: str, **options: Any
) -> None:
    """Rotate a Transit key if its newest version is old.

    With --rewrap, Vault re-encrypts the Secrets, whose plaintext never leaves it.
    """
    if trim and not retire:
        raise click.UsageError("--trim needs --retire")
    age = rotation.usage(lambda: duration(older_than, "--older-than"))
    rotation.perform(Steps(True, age, rewrap, retire, trim), output, **options)
    if metrics and not options["check"]:
        textfile.record_rotation(metrics, options["transit_key"])
