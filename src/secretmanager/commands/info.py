"""``kubevault info``: show what each Secret holds, and in which state."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from textwrap import indent
from typing import Any, get_args

import click

from ..errors import ConfigError, printable
from ..names import NAMESPACE, SUBDOMAIN
from ..sealing.inspection import Fault, KeyStates, SecretInfo, age_days, compromised, facts, faults, inspect
from . import options
from .connections import kubernetes_of, vault_of, warn
from .statuses import FINDING, LONG


@click.command(name="info")
@click.argument("secret", required=False, metavar="[NAMESPACE[/NAME]]")
@click.option("--selector", "-l", default="kubevault.io/sealed=true", show_default=True, help="Labels of the Secrets.")
@options.transit_key
@click.option(
    "--fail-if",
    "kinds",
    type=click.Choice(get_args(Fault)),
    multiple=True,
    help=f"End with status {FINDING} if a Secret is so, or if that is not known. May be given several times.",
)
@click.option(
    "--reseal",
    metavar="TRANSIT_KEY[:VERSION]",
    help="After this key, up to this version, was compromised: report only the values to be changed at their source.",
)
@options.output
@options.vault
@options.kubernetes
def command(
    secret: str | None,
    selector: str,
    transit_key: str | None,
    kinds: tuple[Fault, ...],
    reseal: str | None,
    output: str,
    **arguments: Any,
) -> None:
    """Show key, version, age and faults of sealed Secrets.

    It decrypts nothing.

    Ages, and what is behind the newest version or unreadable, are shown with --vault-url only.
    """
    leaked, version = _key_and_version(reseal)
    namespace, name = _place(secret or "")
    with ExitStack() as stack:
        kubernetes = stack.enter_context(kubernetes_of(arguments))
        vault = stack.enter_context(vault_of(arguments, lambda: kubernetes)) if arguments["vault_url"] else None
        secrets = (
            [kubernetes.get_secret(namespace, name)] if name else kubernetes.list_secrets(namespace or None, selector)
        )
        states = KeyStates(vault)
        keys: set[str | None] = set()
        wrong = False

        def inspected() -> Iterator[SecretInfo]:
            """Yield what is known of each Secret; nothing of it is kept, since it may be much."""
            nonlocal wrong
            for info in inspect(secrets, states, transit_key):
                keys.add(info.transit_key)
                yield info
                for line in faults(info, kinds):
                    wrong = True
                    warn(line)

        if leaked:
            _print_leaked(inspected(), leaked, version, transit_key, output)
        else:
            _print(inspected(), output)
        if not keys:
            if namespace:
                kubernetes.require_namespace(namespace)
            warn(f"there is no sealed Secret{f' in {namespace}' if namespace else ''} with the labels {selector!r}")
        if leaked and leaked not in keys:
            _require_key(leaked, states)
    if wrong:
        sys.exit(FINDING)


def _print(infos: Iterable[SecretInfo], output: str) -> None:
    if output == "json":
        _print_json(map(facts, infos))
        return
    sums: Counter[str] = Counter()
    for info in infos:
        for line in _lines(info):
            click.echo(printable(line))
        sums["Secrets"] += 1
        for what, is_so in (
            ("behind", info.behind),
            ("damaged", info.error or info.missing_keys or any(value.damaged for value in info.values)),
            ("unreadable", any(value.unreadable for value in info.values)),
            ("with plain values", info.plain_keys or info.exposing_annotations),
        ):
            sums[what] += bool(is_so)
    if sums["Secrets"] > LONG:
        totals = [f"{count} {what}" for what, count in sums.items() if count]
        click.echo(f"{totals[0]}{': ' if totals[1:] else ''}{', '.join(totals[1:])}")


def _print_leaked(
    infos: Iterable[SecretInfo], leaked: str, version: int | None, transit_key: str | None, output: str
) -> None:
    keys = ((info, compromised(info, leaked, version, transit_key)) for info in infos)
    report = ({"namespace": info.namespace, "name": info.name, "keys": names} for info, names in keys if names)
    if output == "json":
        _print_json(report)
        return
    for item in report:
        click.echo(printable(f"{item['namespace']}/{item['name']}: {', '.join(item['keys'])}"))


def _print_json(items: Iterable[Any]) -> None:
    """Print a list of JSON, item by item, as `json.dumps` writes it."""
    before = "["
    for item in items:
        click.echo(f"{before}\n{indent(json.dumps(item, indent=2), '  ')}", nl=False)
        before = ","
    click.echo("[]" if before == "[" else "\n]")


def _place(text: str) -> tuple[str, str]:
    """Return namespace and name, which may be empty.

    Raises:
        click.UsageError: one of them is not allowed, as of a file's path.
    """
    namespace, slash, name = text.partition("/")
    problems = [NAMESPACE.refusal("namespace", namespace)] if text and not NAMESPACE.allows(namespace) else []
    problems += [SUBDOMAIN.refusal("name", name)] if slash and not SUBDOMAIN.allows(name) else []
    if problems and Path(text).exists():
        raise click.UsageError(f"{text} is a file, and what is asked about is Secrets in Kubernetes: NAMESPACE[/NAME]")
    if problems:
        raise click.UsageError("; ".join(problems))
    return namespace, name


def _require_key(transit_key: str, states: KeyStates) -> None:
    """Raise ConfigError if there may be no such Transit key, since no Secret names it."""
    state = states(transit_key)
    if state is None or state.newest is None:
        raise ConfigError(
            f"--reseal: no sealed Secret names the Transit key {transit_key}, and whether there is one is not known"
            if state is None
            else f"--reseal: there is no Transit key {transit_key}, and no sealed Secret names it",
            remedy="check its name",
        )


def _key_and_version(reseal: str | None) -> tuple[str | None, int | None]:
    if not reseal:
        return None, None
    name, colon, version = reseal.partition(":")
    if not name or (colon and not version.isdecimal()):
        raise click.UsageError(f"--reseal: found {reseal!r}; allowed is TRANSIT_KEY or TRANSIT_KEY:VERSION")
    return name, int(version) if colon else None


def _lines(info: SecretInfo) -> list[str]:
    """Return what there is to say of a Secret."""
    state = {True: "behind", False: "newest", None: "version unknown"}[info.behind]
    if info.key_missing:
        state = "the Transit key does not exist" + (f": {info.transit_key}" if info.transit_key else "")
    parts = [info.transit_key or "no manifest", *([info.scope] if info.scope else []), state]
    lines = [f"{info.namespace}/{info.name}: {', '.join(parts)}"]
    for value in info.values:
        age = f", {age_days(value)} days old" if value.created else ""
        marks = (" DAMAGED" if value.damaged else "") + (" UNREADABLE" if value.unreadable else "")
        version = f"v{value.version}" if value.version else "no version"
        lines.append(f"  {value.key}: {version}{age}{marks}")
    for kind in ("plain_keys", "missing_keys", "exposing_annotations"):
        if names := getattr(info, kind):
            lines.append(f"  {kind.replace('_', ' ')}: {', '.join(names)}")
    if info.sealed_for:
        lines.append(f"  a copy: sealed for {info.sealed_for}, and not to be opened here")
    return [*lines, f"  {info.error}"] if info.error else lines
