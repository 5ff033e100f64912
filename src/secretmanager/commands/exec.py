"""``kubevault exec``: run a program with decrypted secrets."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..delivery.values import variables
from ..errors import ProgramError, SecretManagerError
from ..options import CREDENTIAL_VARIABLES
from . import options, running
from .connections import open_named, warn
from .wording import in_words_of


@click.command(name="exec", context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    required=True,
    metavar="NAMESPACE/NAME[/KEY]",
    help="Secret to pass to the program. With a KEY, the members of the JSON object in it. May be given several times.",
)
@options.env_prefix
@click.option("--files", is_flag=True, help="Pass files on a tmpfs instead; $KUBEVAULT_FILES holds their folder.")
@click.option("--tmpfs", type=click.Path(file_okay=False), help="The tmpfs, if not $XDG_RUNTIME_DIR or /dev/shm.")
@click.option(
    "--keep-env",
    multiple=True,
    metavar="NAME",
    help="Keep a variable that serves to log in, such as VAULT_TOKEN. May be given several times.",
)
@options.transit_key
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
@options.vault
@options.kubernetes
def command(
    secrets: Sequence[str],
    env_prefix: str,
    files: bool,
    tmpfs: str | None,
    keep_env: Sequence[str],
    transit_key: str | None,
    program: Sequence[str],
    **arguments: Any,
) -> None:
    """Run a program with decrypted secrets.

    COMMAND gets them in its environment, or as files, which are removed when it ends.

    COMMAND does not get the variables by which kubevault logs in, such as VAULT_TOKEN, unless --keep-env names them.

    Signals go to the program; its exit status is this command's. Where there is none, it is 125 if a secret could not
    be had, 126 if COMMAND cannot be run, and 127 if it is not there.

        kubevault exec --secret default/matrix-secrets/secrets.json --env-prefix MATRIX_ -- ./server --port 8080
    """
    places = [options.place_of(secret, "--secret") for secret in secrets]
    try:
        values_by_name = open_named(arguments, places, transit_key)
        withheld = CREDENTIAL_VARIABLES - set(keep_env)
        inherited = {name: value for name, value in os.environb.items() if os.fsdecode(name) not in withheld}
        if files:
            folder = Path(tmpfs) if tmpfs else None
            running.end_as(running.run_with_files(program, values_by_name, folder, environment=inherited))
        secret = variables(values_by_name, env_prefix, ", ".join(secrets))
        running.run_with_environment(program, inherited, secret)
    except SecretManagerError as error:
        in_words_of(click.get_current_context().command, error)
        warn(str(error))
        sys.exit(error.exit_status if isinstance(error, ProgramError) else running.FAILED)
