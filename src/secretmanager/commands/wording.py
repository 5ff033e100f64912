"""Errors in a command's own words: the package names options as Ansible has them, a command has them with dashes."""

from __future__ import annotations

import re
from collections.abc import Mapping

import click

from ..errors import SecretManagerError
from ..options import OPTIONS

_BEFORE = r"(?:set|needs?|give|option|one of|or|and)"
"""What comes before the name of an option that is a usual word."""


def in_words_of(command: click.Command, error: SecretManagerError) -> None:
    """Have an error name options as a command has them: ``--transit-key``, not ``transit_key``; it is changed.

    Args:
        command: the command.
        error: the error.
    """
    names = _names(command)
    error.message = _worded(error.message, names)
    error.remedy = _worded(error.remedy, names) if error.remedy else None


def _names(command: click.Command) -> dict[str, str]:
    """Return what stands for an option, by the names that the package has for it: what has no option has a variable."""
    variables = {option.name: f"${option.variables[0]}" for option in OPTIONS if option.variables and not option.flag}
    flags: dict[str, str] = {}
    for option in command.params:
        if isinstance(option, click.Option):
            flag = max(option.opts, key=len)
            flags |= {option.name or "": flag, flag.lstrip("-").replace("-", "_"): flag}
    return {**variables, **flags}


def _worded(text: str, names: Mapping[str, str]) -> str:
    """Return a text with a command's names; a usual word counts only where it is an option's name."""
    clear = sorted((name for name in names if "_" in name), key=len, reverse=True)
    usual = sorted((name for name in names if name and "_" not in name), key=len, reverse=True)
    if clear:
        pattern = rf"(?<![-\w$/.'\"])({'|'.join(clear)})(?![-\w/('\"]|\.\w)"
        text = re.sub(pattern, lambda match: names[match[1]], text)
    if usual:
        some = f"({'|'.join(usual)})"
        text = re.sub(
            rf"\b({_BEFORE}) {some}(?= to\b| if\b|[;:,]|$)", lambda match: f"{match[1]} {names[match[2]]}", text
        )
        text = re.sub(rf"^{some}(?=: )", lambda match: names[match[1]], text)
    return text
