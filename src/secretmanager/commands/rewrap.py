"""``kubevault rewrap``: re-encrypt Secrets with the newest version of a Transit key."""

from __future__ import annotations

from typing import Any

import click

from ..rotation.rotation import Steps
from . import rotation


@click.command(name="rewrap")
@rotation.rewrapping
@rotation.common
def command(output: str, **options: Any) -> None:
    """Re-encrypt Secrets with a Transit key's newest version.

    Vault does it: the plaintext never leaves it. The next run resumes one that was interrupted.
    """
    rotation.perform(Steps(rewrap=True), output, **options)
