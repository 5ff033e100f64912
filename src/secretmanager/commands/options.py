"""What subcommands share: connection options, made of the table in `secretmanager.options`, and forms of arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import click

from ..options import KUBERNETES, REDIS, VAULT, Option, with_variables
from .memory import protect
from .statuses import FINDING

Command = Callable[..., Any]

FILE = click.Path(dir_okay=False)
"""Type of an option that names a file."""

_TYPES: dict[str, Any] = {"str": str, "path": FILE, "raw": FILE, "float": float, "bool": bool}


def from_table(*options: Option) -> Callable[[Command], Command]:
    """Return a decorator that adds those of a server's options that the command has; they keep the table's names.

    The command gets all of the options, completed by variables. It holds secrets, so its memory is protected.
    """

    def add(command: Command) -> Command:
        @wraps(command)
        def completed(**arguments: Any) -> Any:
            protect()
            return command(**with_variables(arguments, options))

        decorated: Command = completed
        for option in reversed(options):
            if option.flag:
                decorated = _click_option(option, option.flag)(decorated)
        return decorated

    return add


def _click_option(option: Option, flag: str) -> Callable[[Command], Command]:
    # Not click's own variables: it cannot say whether a variable or an option was given.
    default = None if option.variables else option.default
    return click.option(
        flag,
        option.name,
        type=click.Choice(option.choices) if option.choices else _TYPES[option.type],
        is_flag=option.type == "bool",
        default=default,
        show_default=str(option.default) if option.default is not None and default is None else default is not None,
        metavar=option.metavar,
        help=option.help + "".join(f"  [${variable}]" for variable in option.variables),
    )


vault = from_table(*VAULT)
"""How Vault is reached, and who logs in."""

kubernetes = from_table(*KUBERNETES)
"""How Kubernetes is reached."""

redis = from_table(*REDIS)
"""Who is notified of changes."""

transit_key = click.option("--transit-key", help="Transit key of values that an older tool sealed.")

env_prefix = click.option("--env-prefix", default="", metavar="PREFIX", help="First part of the variables' names.")

check = click.option(
    "--check", is_flag=True, help=f"Change nothing; say what would change, and end with status {FINDING} then."
)

output = click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="What to print: lines for people, or JSON.",
)


def place_of(text: str, option: str) -> tuple[str, str, str | None]:
    """Return namespace, name and data key of ``NAMESPACE/NAME[/KEY]``.

    Raises:
        click.UsageError: the text has another form.
    """
    namespace, name, key = (*text.split("/", 2), "", "")[:3]
    if not namespace or not name:
        raise click.UsageError(f"{option}: found {text!r}; allowed is NAMESPACE/NAME")
    return namespace, name, key or None


def pairs(items: Iterable[str], option: str) -> dict[str, str] | None:
    """Return the pairs ``KEY=VALUE`` of an option that may be given several times; None if it was not given.

    Raises:
        click.UsageError: an item has another form.
    """
    values_by_key = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise click.UsageError(f"{option}: found {item!r}; allowed is KEY=VALUE")
        values_by_key[key] = value
    return values_by_key or None
