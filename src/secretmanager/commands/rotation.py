"""What ``kubevault rotate``, ``rewrap`` and ``retire`` share: their options, and how they run and report."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from ..errors import ConfigError, NotRetired, SecretManagerError, printable
from ..rotation.planning import Options, Shard
from ..rotation.rewrapper import Report
from ..rotation.rotation import Outcome, Rotation, Steps
from ..servers.kubernetes import KubernetesClient
from . import options
from .connections import kubernetes_of, vault_of, warn
from .statuses import FINDING, ONLY_FORETOLD

Parsed = TypeVar("Parsed")

EVERY = 10.0
"""How often progress is told where there is no terminal, in seconds."""


def rewrapping(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what is rewrapped."""
    for option in reversed(
        (
            click.option("--namespace", "-n", "namespaces", multiple=True, help="Only the Secrets of this namespace."),
            click.option(
                "--manifest",
                "manifests",
                multiple=True,
                type=click.Path(path_type=Path),
                help="YAML file of sealed Secrets, or a folder of such files, as they are in Git.",
            ),
            click.option("--kubernetes/--no-kubernetes", default=True, help="Whether to rewrap in Kubernetes."),
            click.option("--gitops", is_flag=True, help="Also live Secrets that Argo CD or Flux owns."),
            click.option("--recreate", is_flag=True, help="Also immutable Secrets: delete them, and make them again."),
            click.option("--unmanaged", is_flag=True, help="Also values that an older tool sealed with this key."),
            click.option(
                "--shard",
                metavar="I/N",
                default=_shard_of_job,
                show_default="in an Indexed Job its index, and $KUBEVAULT_SHARDS",
                help="Only this part of the Secrets, I from 0 to N-1.",
            ),
            click.option(
                "--concurrency", type=click.IntRange(1), default=8, show_default=True, help="Secrets written at once."
            ),
        )
    ):
        command = option(command)
    return command


def usage(parse: Callable[[], Parsed]) -> Parsed:
    """Return what an option's text stands for; what it may not be is wrong usage.

    Raises:
        click.UsageError: it has another form.
    """
    try:
        return parse()
    except ConfigError as error:
        raise click.UsageError(str(error).replace("shard: ", "--shard: ", 1)) from None


def _shard_of_job() -> str | None:
    """Return the shard of this pod of an Indexed Job, if its environment also says how many there are.

    Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode
    """
    index, count = os.environ.get("JOB_COMPLETION_INDEX"), os.environ.get("KUBEVAULT_SHARDS")
    if count and not index:
        raise click.UsageError("$KUBEVAULT_SHARDS is set, and $JOB_COMPLETION_INDEX is not: use --shard I/N")
    return f"{index}/{count}" if count else None


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that all three have."""
    for option in reversed(
        (
            click.option("--transit-key", required=True, help="Vault's key."),
            click.option(
                "--lease-namespace",
                help="Hold a Lease of Kubernetes in this namespace, so that one rotation of the key runs at a time.",
            ),
            options.check,
            options.output,
            options.vault,
            options.kubernetes,
        )
    ):
        command = option(command)
    return command


def perform(steps: Steps, output: str, **arguments: Any) -> None:
    """Run some steps, and print what was done.

    Raises:
        click.exceptions.Exit: a Secret could not be written; with check, something would change.
        NotRetired: something is behind.
        SecretManagerError: a server refused, or is unreachable.
    """
    rotation = _rotation(steps, arguments)
    outcome = Outcome()
    with ExitStack() as stack:

        def connect() -> KubernetesClient:
            return stack.enter_context(kubernetes_of(arguments, connections=rotation.concurrency))

        vault = stack.enter_context(vault_of(arguments, connect))
        kubernetes = connect() if arguments.get("kubernetes", True) else None
        progress = stack.enter_context(_progress(check=rotation.check))
        try:
            rotation.run(vault, kubernetes, outcome, progress)
        except SecretManagerError as error:
            if isinstance(error, NotRetired) or (outcome.changed and not rotation.check):
                _print(outcome, replace(rotation, steps=replace(steps, retire=False)), output)
            raise
        except KeyboardInterrupt:
            if not rotation.check:
                rotated = "a new version was made; " if outcome.rotated else ""
                warn(f"interrupted: {rotated}{_so_far(outcome.report)}; the next run goes on from there")
            raise
    _print(outcome, rotation, output)
    if failed := len(outcome.report.failed):
        warn(f"{failed} could not be rewrapped")
        raise click.exceptions.Exit(1)
    if rotation.check and outcome.changed:
        warn(ONLY_FORETOLD)
        raise click.exceptions.Exit(FINDING)


def _rotation(steps: Steps, arguments: Mapping[str, Any]) -> Rotation:
    """Return what the arguments of one of the three subcommands say; not all of them have all options.

    Raises:
        click.UsageError: a shard has another form.
        ConfigError: a manifest is not there.
    """
    shard = usage(lambda: Shard.parse(arguments["shard"])) if arguments.get("shard") else None
    for path in arguments.get("manifests", ()):
        if not path.exists():
            raise ConfigError(f"--manifest: {path}: No such file or directory")
    switches = {name: arguments.get(name, False) for name in ("unmanaged", "gitops", "recreate")}
    return Rotation(
        Options(arguments["transit_key"], **switches),
        steps,
        arguments.get("namespaces", ()),
        arguments.get("manifests", ()),
        shard,
        arguments.get("concurrency", 1),
        arguments["lease_namespace"],
        arguments["check"],
    )


@contextmanager
def _progress(*, check: bool) -> Iterator[Callable[[Report], None]]:
    """Show how many were rewrapped: on a terminal always, else a line now and then."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("listing", total=None)
            yield lambda report: bar.update(task, description=_so_far(report, check=check))
        return
    last_report = time.monotonic()

    def tell(report: Report) -> None:
        nonlocal last_report
        if time.monotonic() - last_report >= EVERY:
            last_report = time.monotonic()
            click.echo(f"kubevault: {_so_far(report, check=check)}", err=True)

    yield tell


def _so_far(report: Report, *, check: bool = False) -> str:
    would = "would be " if check else ""
    return f"{len(report.rewrapped)} {would}rewrapped, {report.current} current, {len(report.behind)} left behind"


def _print(outcome: Outcome, rotation: Rotation, output: str) -> None:
    """Print what was done; with check, what would be."""
    steps, key, check = rotation.steps, rotation.options.transit_key, rotation.check
    would = "would be " if check else ""
    if output == "json":
        click.echo(json.dumps(outcome.facts(), indent=2))
        return
    newest = f"version {outcome.newest_version}"
    if steps.rotate:
        click.echo(f"{key}: {f'{would}rotated' if outcome.rotated else 'young enough'}, newest is {newest}")
    if steps.rewrap:
        click.echo(f"{key}: {_so_far(outcome.report, check=check)}")
    for place, why in sorted(outcome.report.behind.items()):
        click.echo(printable(f"  {place}: {why}"))
    if steps.retire:
        result = f"{would}retired" if outcome.retired else "nothing to retire"
        click.echo(f"{key}: {result}, oldest that decrypts is version {outcome.min_decryption_version}")
