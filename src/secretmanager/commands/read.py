"""``kubevault read``: print the values of a sealed Secret."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from typing import Any

import click

from . import options
from .connections import open_places


@click.command(name="read")
@click.argument("secret", metavar="NAMESPACE/NAME[/KEY]")
@options.transit_key
@options.output
@options.vault
@options.kubernetes
def command(secret: str, transit_key: str | None, output: str, **arguments: Any) -> None:
    """Print the values of a sealed Secret.

    With KEY, the bytes of this value; without, a JSON object of all values, in base64 under "KEY (base64)" if one is
    not text.
    """
    namespace, name, key = options.place_of(secret, "SECRET")
    values = open_places(arguments, [(namespace, name, key)], transit_key)[0]
    if key is not None and output == "text":
        sys.stdout.buffer.write(values[key])
        return
    click.echo(json.dumps(_as_json(values), indent=2, ensure_ascii=False))


def _as_json(values: Mapping[str, bytes]) -> dict[str, str]:
    document = {}
    for key, value in values.items():
        try:
            document[key] = value.decode()
        except UnicodeDecodeError:
            document[f"{key} (base64)"] = base64.b64encode(value).decode("ascii")
    return document
