"""``kubevault seal``: encrypt values into Secrets."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from .. import safeyaml
from ..errors import ConfigError, SealingFailed
from ..notices.announcer import announcing
from ..restarts.finding import find_workloads
from ..restarts.gitfile import WorkloadFile
from ..restarts.live import TIMEOUT as ROLLOUT_TIMEOUT
from ..restarts.live import LiveWorkloads
from ..sealing.manifestfile import ManifestFile
from ..sealing.plan import Object, Outcome, awaited
from ..sealing.recreation import TIMEOUT
from ..sealing.sealer import seal_into
from ..sealing.spec import Behavior, SecretSpec, State, from_options
from ..sealing.stores import Change, KubernetesStore
from ..servers.kubernetes import KubernetesClient
from . import envfile, options
from .connections import kubernetes_of, vault_of, warn
from .statuses import FINDING, LONG, ONLY_FORETOLD


@click.command(name="seal")
@click.argument("secret", required=False, metavar="[NAMESPACE/NAME]")
@click.option(
    "--secrets",
    type=click.Path(allow_dash=True, dir_okay=False),
    help="YAML file of several Secrets, or - for standard input.",
)
@click.option(
    "--from-file", multiple=True, metavar="[KEY=]PATH", help="Seal a file's content. PATH - is standard input."
)
@click.option(
    "--from-env-file", type=options.FILE, help="Seal the lines KEY=VALUE of a file, or names of variables, as kubectl."
)
@click.option("--prompt", multiple=True, metavar="KEY", help="Ask for a value, without echo.")
@click.option("--trim", is_flag=True, help="Take the line end off a value of --from-file.")
@click.option("--allow-empty", is_flag=True, help="Seal a value also if it is empty.")
@click.option("--transit-key", help="Vault's key that encrypts.")
@click.option("--digest-key", help="Vault's key of the digests, if not TRANSIT_KEY-digest.")
@click.option(
    "--scope",
    type=click.Choice(["strict", "namespace-wide", "cluster-wide"]),
    help="Where it decrypts. Without it as before; a new Secret: strict if the key is derived, else cluster-wide.",
)
@click.option(
    "--state", type=click.Choice([word.value for word in State]), default=State.PRESENT.value, show_default=True
)
@click.option(
    "--behavior",
    type=click.Choice([word.value for word in Behavior]),
    default=Behavior.MERGE.value,
    show_default=True,
    help="Whether sealed data keys that are not given stay (merge) or go (replace).",
)
@click.option(
    "--absent-key", "absent_keys", multiple=True, metavar="KEY", help="Remove a data key, whoever created it."
)
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Set a label.")
@click.option("--annotation", "annotations", multiple=True, metavar="KEY=VALUE", help="Set an annotation.")
@click.option(
    "--bank-vaults-skip", is_flag=True, help="Annotate the Secret so that bank-vaults' webhook leaves it alone."
)
@click.option("--type", "secret_type", help="Type of the Secret.")
@click.option("--immutable/--no-immutable", default=None, help="Whether Kubernetes refuses later changes.")
@click.option("--recreate", is_flag=True, help="Delete and make again what Kubernetes does not let change.")
@click.option("--force", is_flag=True, help="Take over, or delete, what was not sealed here.")
@click.option("--adopt", is_flag=True, help="Take over what was not sealed here, and seal its plaintext in place.")
@click.option("--manifest", type=options.FILE, help="Write the sealed Secrets to a YAML file, for Git.")
@click.option("--apply/--no-apply", default=None, help="Whether to write to Kubernetes: by default without --manifest.")
@click.option(
    "--check", is_flag=True, help=f"Write nothing; say what would change, and end with status {FINDING} then."
)
@click.option(
    "--timeout",
    type=float,
    default=TIMEOUT,
    show_default=True,
    help="Seconds that --recreate waits for the end of a Secret that has finalizers.",
)
@click.option("--concurrency", type=click.IntRange(1), default=8, show_default=True, help="Secrets written at once.")
@click.option(
    "--restart",
    multiple=True,
    metavar="KIND/NAME",
    help="Restart a Deployment, StatefulSet or DaemonSet of the namespace after a change of the values; the word"
    " annotated means all whose annotation kubevault.io/secrets names the Secret.",
)
@click.option(
    "--restart-manifest", type=options.FILE, help="Stamp the workloads in this YAML file, for Git, not in Kubernetes."
)
@click.option("--restart-wait", is_flag=True, help="Wait until their rollouts are done.")
@click.option(
    "--restart-timeout", type=float, default=ROLLOUT_TIMEOUT, show_default=True, help="Seconds that this may take."
)
@options.redis
@options.output
@options.vault
@options.kubernetes
def command(secret: str | None, secrets: Any, output: str, **arguments: Any) -> None:
    """Encrypt values into a Secret, if they changed.

    Values come from files, standard input or a prompt, never from arguments, which other users of the machine could
    see.
    """
    specs = _specs(secret, secrets, arguments)
    manifest, concurrency = arguments["manifest"], arguments["concurrency"]
    apply = arguments["apply"] if arguments["apply"] is not None else not manifest

    changed_places: set[str] = set()
    try:
        with ExitStack() as stack:

            def connect() -> KubernetesClient:
                return stack.enter_context(kubernetes_of(arguments, connections=concurrency))

            announcer = stack.enter_context(announcing(arguments, warn))

            def note(change: Change, secret: Object | None) -> None:
                changed_places.add(change.place)
                if announcer:
                    announcer(change, secret)

            vault = stack.enter_context(vault_of(arguments, connect))
            kubernetes = connect() if apply else None
            workloads = find_workloads(
                kubernetes,
                specs,
                file=arguments["restart_manifest"],
                concurrency=concurrency,
                check=arguments["check"],
                waits=arguments["restart_wait"],
            )
            for workload_warning in workloads.warnings if workloads else ():
                warn(workload_warning)
            outcomes, changed = seal_into(
                vault,
                specs,
                file=ManifestFile(manifest) if manifest else None,
                kubernetes=KubernetesStore(kubernetes, concurrency, note, arguments["timeout"]) if kubernetes else None,
                check=arguments["check"],
                progress=stack.enter_context(_progress(len(specs))),
            )
            _print_outcomes(outcomes, output, check=arguments["check"])
            if warning := awaited(outcomes):
                warn(warning)
            if workloads:
                _restart(workloads, outcomes, arguments)
                changed = changed or bool(workloads.restarted)
    except SealingFailed as error:
        _print_outcomes(error.outcomes, output, check=arguments["check"])
        raise
    except KeyboardInterrupt:
        if not arguments["check"]:
            warn(
                f"interrupted: at least {len(changed_places)} of {len(specs)} Secrets were written, each whole; the"
                " same command seals the rest and leaves these as they are"
            )
        raise
    if arguments["check"] and (changed or any(outcome.changed for outcome in outcomes)):
        warn(ONLY_FORETOLD)
        sys.exit(FINDING)


def _restart(
    workloads: LiveWorkloads | WorkloadFile, outcomes: Sequence[Outcome], arguments: Mapping[str, Any]
) -> None:
    """Restart what has to be restarted, and say so on standard error: standard output is about the Secrets."""
    try:
        workloads.stamp(outcomes)
    finally:
        for restart in workloads.restarted:
            text = str(restart)
            click.echo(text.replace(": restarted", ": would be restarted", 1) if arguments["check"] else text, err=True)
    if isinstance(workloads, LiveWorkloads) and arguments["restart_wait"] and not arguments["check"]:
        workloads.wait(arguments["restart_timeout"], partial(click.echo, err=True))


def _specs(secret: str | None, secrets: Any, arguments: Mapping[str, Any]) -> list[SecretSpec]:
    """Read the Secrets to seal from the options."""
    if (secret is None) == (secrets is None):
        raise click.UsageError("give NAMESPACE/NAME or --secrets, and not both")
    base: dict[str, Any] = {
        name: arguments[name]
        for name in (
            "transit_key",
            "digest_key",
            "scope",
            "state",
            "behavior",
            "immutable",
            "recreate",
            "force",
            "adopt",
            "allow_empty",
            "bank_vaults_skip",
        )
    }
    base |= {name: options.pairs(arguments[name], f"--{name.removesuffix('s')}") for name in ("labels", "annotations")}
    base |= {"type": arguments["secret_type"], "restart": list(arguments["restart"])}
    if secrets is not None:
        if any(arguments[name] for name in ("from_file", "from_env_file", "prompt", "absent_keys")):
            raise click.UsageError("--secrets has values of its own, so it takes no other values")
        base_options = {name: value for name, value in base.items() if value is not None}
        return from_options(_entries(secrets), base_options, f"--secrets: {secrets}, entry {{}}: ")
    namespace, name, key = options.place_of(secret or "", "SECRET")
    if key is not None:
        raise click.UsageError("SECRET is NAMESPACE/NAME; data keys are given by --from-file KEY=PATH")
    data: dict[str, Any] = {}
    files = [_from_file(item) for item in arguments["from_file"]]
    variables = _environment_file(arguments["from_env_file"], allow_empty=arguments["allow_empty"])
    keys = [*(key for key, _ in files), *variables, *arguments["prompt"]]
    if duplicates := sorted({key for key in keys if keys.count(key) > 1}):
        raise click.UsageError(f"{', '.join(duplicates)}: is given twice")
    for key, path in files:
        data[key] = _trimmed(key, _content(path), trim=arguments["trim"])
    data |= variables
    data |= {key: click.prompt(key, hide_input=True, confirmation_prompt=True, err=True) for key in arguments["prompt"]}
    entry = {**base, "namespace": namespace, "name": name, "absent_keys": list(arguments["absent_keys"]) or None}
    return from_options([{**entry, "data": data or None}])


def _entries(file: Any) -> list[dict[str, Any]]:
    try:
        content = safeyaml.load(_content(file, "--secrets"))
    except safeyaml.NotYaml as error:
        raise ConfigError(f"--secrets: {error}") from None
    entries = content.get("secrets") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError("--secrets: allowed is a list of Secrets, or a mapping with the key secrets")
    return entries


def _from_file(item: str) -> tuple[str, str]:
    key, equals, path = item.partition("=")
    if not equals:
        key, path = Path(item).name, item
    if not key or not path:
        raise click.UsageError(f"--from-file: found {item!r}; allowed is [KEY=]PATH")
    return key, path


def _content(path: str, option: str = "--from-file") -> bytes:
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{option}: {path}: {error.strerror}") from error


def _trimmed(key: str, value: bytes, *, trim: bool) -> bytes:
    """Take the line end off a value, if that is wanted; warn of one that ends a single line, as echo writes it."""
    if trim:
        return re.sub(rb"\r?\n\Z", b"", value)
    if value.find(b"\n") == len(value) - 1 >= 0:
        warn(f"{key}: the value ends with a line end, as echo and editors write it; --trim takes it off")
    return value


def _environment_file(path: str | None, *, allow_empty: bool) -> dict[str, str]:
    if path is None:
        return {}
    return envfile.parse(
        _content(path, "--from-env-file"), f"--from-env-file: {path}", os.environ, allow_empty=allow_empty
    )


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar if there is a terminal and more than a moment's work."""
    if total < 20 or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sealing", total=None)
        yield lambda completed, count: bar.update(task, completed=completed, total=count)


def _print_outcomes(outcomes: Sequence[Outcome], output: str, *, check: bool) -> None:
    """Print what was done; with check, what would be."""
    for outcome in outcomes:
        for text in outcome.warnings:
            warn(text)
    if output == "json":
        click.echo(json.dumps([outcome.facts() for outcome in outcomes], indent=2))
        return
    for outcome in outcomes:
        parts = [
            f"{word} {', '.join(keys)}" for word in ("added", "updated", "removed") if (keys := getattr(outcome, word))
        ]
        parts += [f"set {', '.join(outcome.metadata)}"] if outcome.metadata else []
        scope = f" ({outcome.scope})" if outcome.scope else ""
        would = "would be " if check and outcome.changed else ""
        click.echo(
            f"{outcome.namespace}/{outcome.name}: {would}{outcome.action}{scope}"
            + (f": {'; '.join(parts)}" if parts else "")
        )
    if len(outcomes) > LONG:
        sums = Counter(outcome.action for outcome in outcomes)
        click.echo(f"{len(outcomes)} Secrets: " + ", ".join(f"{count} {action}" for action, count in sums.items()))
