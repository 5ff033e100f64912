"""``kubevault rewrap``: bring Secrets to the newest version of their Transit key."""

from __future__ import annotations

from typing import Any

import click

from ..rotation.rotation import Steps
from . import rotation


@click.command(name="rewrap")
@rotation.rewrapping
@rotation.common
def command(output: str, **given: Any) -> None:
    """Bring the values of all Secrets of a Transit key to its newest version.

    It never sees a plaintext. A run that was broken off is resumed by the next one.
    """
    rotation.perform(Steps(rewrap=True), output, **given)
