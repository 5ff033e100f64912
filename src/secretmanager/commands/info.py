"""``kubevault info``: what is sealed in which Secret."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import click

from ..sealing.inspection import NewestVersions, facts, inspect
from . import options
from .connections import kubernetes_of, vault_of


@click.command(name="info")
@click.argument("secret", required=False, metavar="[NAMESPACE[/NAME]]")
@click.option("--selector", "-l", default="kubevault.io/sealed=true", show_default=True, help="Labels of the Secrets.")
@options.transit_key
@options.output
@options.vault
@options.kubernetes
def command(secret: str | None, selector: str, transit_key: str | None, output: str, **given: Any) -> None:
    """Report what is sealed in which Secret, and whether it is behind the newest version of its key.

    It decrypts nothing.

    Without --vault-url, nothing is said of newest versions.
    """
    namespace, _, name = (secret or "").partition("/")
    with ExitStack() as stack:
        kubernetes = stack.enter_context(kubernetes_of(given))
        vault = stack.enter_context(vault_of(given, lambda: kubernetes)) if given["vault_url"] else None
        found = (
            [kubernetes.get_secret(namespace, name)] if name else kubernetes.list_secrets(namespace or None, selector)
        )
        infos = [facts(item) for item in inspect(found, NewestVersions(vault), transit_key)]
    if output == "json":
        click.echo(json.dumps(infos, indent=2))
        return
    for item in infos:
        state = {True: "behind", False: "newest", None: "version unknown"}[item["behind"]]
        click.echo(
            f"{item['namespace']}/{item['name']}: {item['transit_key'] or 'no manifest'}, {item['scope']}, {state}"
        )
        for key, value in item["keys"].items():
            click.echo(f"  {key}: v{value['version']}" + (" DAMAGED" if value["damaged"] else ""))
        for kind in ("plain_keys", "missing_keys", "exposing_annotations"):
            if item[kind]:
                click.echo(f"  {kind.replace('_', ' ')}: {', '.join(item[kind])}")
        if item["error"]:
            click.echo(f"  {item['error']}")
