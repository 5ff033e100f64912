"""``kubevault renew-reviewer``: renew the token reviewer's token in Vault."""

from __future__ import annotations

import json
from typing import Any

import click

from ..admin.reviewer import TokenReviewer, renew
from ..rotation.keys import duration
from . import options
from .connections import kubernetes_of, vault_of, warn
from .rotation import usage
from .statuses import FINDING, ONLY_FORETOLD


@click.command(name="renew-reviewer")
@click.option("--lifetime", required=True, metavar="DURATION", help="How long the new token is valid, such as 30d.")
@click.option(
    "--reviewer",
    default="kube-system/vault-auth",
    show_default=True,
    metavar="NAMESPACE/NAME",
    help="Service account with which Vault reviews tokens.",
)
@click.option("--reviewer-mount", default="kubernetes", show_default=True, help="Mount of the Kubernetes auth method.")
@click.option("--force", is_flag=True, help="Also if the token of Vault is not due, as after a restore of Vault.")
@options.check
@options.output
@options.vault
@options.kubernetes
def command(
    lifetime: str, reviewer: str, reviewer_mount: str, force: bool, check: bool, output: str, **arguments: Any
) -> None:
    """Renew the token reviewer's token in Vault.

    Nothing is done before half of the life of the present one is over, so a schedule may run it daily. It needs a
    workload with renews_token_reviewer in the inventory.
    """
    seconds = int(usage(lambda: duration(lifetime, "--lifetime")))
    namespace, name, key = options.place_of(reviewer, "--reviewer")
    if key:
        raise click.UsageError(f"--reviewer: found {reviewer!r}; allowed is NAMESPACE/NAME")
    token_reviewer = TokenReviewer(namespace, name, reviewer_mount)
    with kubernetes_of(arguments) as kubernetes, vault_of(arguments, lambda: kubernetes) as vault:
        renewal = renew(vault, kubernetes, token_reviewer, seconds, force=force, check=check)
    if output == "json":
        click.echo(json.dumps({"renewed": renewal.renewed, "renew_after": renewal.renew_after}, indent=2))
    elif not renewal.renewed:
        click.echo(f"{reviewer}: not due before {renewal.renew_after}")
    else:
        click.echo(f"{reviewer}: {'would be renewed' if check else f'renewed, next after {renewal.renew_after}'}")
    if check and renewal.renewed:
        warn(ONLY_FORETOLD)
        raise click.exceptions.Exit(FINDING)
