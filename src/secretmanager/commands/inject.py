"""``kubevault inject``: add kubevault to the pods of manifests."""

from __future__ import annotations

import difflib
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from .. import documents
from ..errors import ConfigError, SecretManagerError
from ..injection.function import is_resource_list, run
from ..injection.options import CA_CONFIG_MAP, MOUNT_PATH, RESOURCE_KINDS, Injection, from_options
from ..injection.pods import name_of, service_account_of
from ..injection.text import check_workloads, secrets_in, with_injection, without_injection, workloads_in
from ..options import KUBERNETES, VAULT, with_variables
from ..reading.verification import Workload, connecting, read_as
from ..servers.vault import VaultClient
from . import options
from .connections import kubernetes_of, warn


@click.command(name="inject")
@click.argument("files", nargs=-1, type=options.FILE, metavar="[FILE]...")
@click.option(
    "--with",
    "way",
    type=click.Choice(["init", "sidecar", "exec"]),
    help="init: an init container writes files. sidecar: so does a native sidecar, again after each change. "
    "exec: the program gets variables of its environment.",
)
@click.option("--secret", "secrets", multiple=True, metavar="NAME[/KEY]", help="Secret of the workload's namespace.")
@click.option("--vault-url", help="Address of Vault as a pod reaches it.")
@click.option("--role", help="Role of Vault that the workload logs in to.")
@click.option("--image", help="Image that holds kubevault, with a digest; a tag alone is warned of.")
@click.option("--workload", "workloads", multiple=True, metavar="KIND/NAME", help="Only this workload of the files.")
@click.option("--container", "containers", multiple=True, metavar="NAME", help="Only this container gets the values.")
@click.option(
    "--command",
    "commands",
    multiple=True,
    metavar="[CONTAINER=]COMMAND",
    help="For exec: the command of a container whose manifest has none, as a shell would read it.",
)
@click.option("--mount-path", default=MOUNT_PATH, show_default=True, help="Folder of the values in the containers.")
@click.option(
    "--ca-config-map", default=CA_CONFIG_MAP, show_default=True, help="ConfigMap of Vault's CA; '' for the image's CAs."
)
@click.option("--config", metavar="NAME", help="ConfigMap whose files.yaml `kubevault files --config` reads.")
@click.option(
    "--user", type=click.IntRange(1), help="User that the programs run as, where the manifest does not say it."
)
@click.option("--argument", "arguments", multiple=True, metavar="ARG", help="Further argument of `kubevault files`.")
@click.option("--env", "environment", multiple=True, metavar="NAME=VALUE", help="Further variable of its environment.")
@click.option(
    "--references",
    type=click.Choice(["refuse", "rewrite", "keep"]),
    default="refuse",
    show_default=True,
    help="What happens where Kubernetes itself hands over one of the Secrets (secretKeyRef, envFrom, volumes), which is"
    " ciphertext.",
)
@click.option(
    "--resources",
    multiple=True,
    metavar="limits.NAME=QUANTITY[,...]",
    help="Resources of our container in place of the defaults: requests.NAME or limits.NAME, such as limits.cpu=500m;"
    " an empty quantity takes one out.",
)
@click.option(
    "--image-pull-policy",
    type=click.Choice(["Always", "IfNotPresent", "Never"]),
    help="When our container's image is pulled; by default as Kubernetes does.",
)
@click.option(
    "--platform",
    type=click.Choice(["kubernetes", "openshift"]),
    default="kubernetes",
    show_default=True,
    help="openshift: leave fsGroup, runAsUser and runAsGroup to it, which refuses others than its own.",
)
@click.option(
    "--verify",
    is_flag=True,
    help="Before anything is written, read the Secrets as each workload's service account, by the kubeconfig and Vault"
    " ($VAULT_ADDR, else --vault-url) at hand.",
)
@click.option("--remove", is_flag=True, help="Take out again what this command added.")
@click.option("--in-place", "-i", is_flag=True, help="Write the files, instead of standard output.")
@click.option("--diff", is_flag=True, help="Show what changes, instead of the result.")
@click.option("--check", is_flag=True, help="Write nothing; end with status 1 if something would change.")
@options.kubernetes
def command(
    files: tuple[str, ...], remove: bool, in_place: bool, diff: bool, check: bool, verify: bool, **arguments: Any
) -> None:
    """Add kubevault to the pods of manifests.

    It decrypts the Secrets for the programs of the pods, as --with says.

    Manifests are read from FILE or standard input. Comments, order and other documents stay as they are. A second run
    changes nothing; other options change only what this command added.

    A ResourceList on standard input makes this a KRM function, which finds its options in functionConfig.
    """
    if in_place and not files:
        raise click.UsageError("--in-place needs a FILE")
    if len(files) > 1 and not (in_place or diff or check):
        raise click.UsageError("several files need --in-place, --diff or --check")
    texts = {name: _read(name) for name in files or ("-",)}
    if not files and function(texts["-"]):
        return
    connection = {option.name: arguments.pop(option.name, None) for option in KUBERNETES}
    injection = None if remove else _injection(arguments)
    if injection and injection.warning:
        warn(injection.warning)
    if injection and verify:
        _verify_all(texts, injection, connection)
    changed = dict(_changed(texts, injection, arguments["workloads"]))
    if len(texts) > 1:
        check_workloads(texts, arguments["workloads"])
    for name, text in changed.items():
        if diff:
            before, after = (each.splitlines(keepends=True) for each in (texts[name], text))
            click.echo("".join(difflib.unified_diff(before, after, name, name)), nl=False)
        elif not in_place and not check:
            click.echo(text, nl=False)
    if in_place and not check:
        _replace({name: text for name, text in changed.items() if text != texts[name]})
    if check and changed != texts:
        sys.exit(1)


def _verify_all(texts: Mapping[str, str], injection: Injection, connection: Mapping[str, Any]) -> None:
    for name, text in texts.items():
        for workload in workloads_in(text, _shown(name), injection, several=len(texts) > 1):
            _verify(workload, injection, connection)


def _replace(texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        documents.replace(Path(name).resolve(), text)


def function(text: str | None = None) -> bool:
    """Run as a KRM function if the text, by default that of standard input, is a ResourceList; return whether it is.

    Raises:
        ConfigError: it is, and its function failed; that is among its results too.
    """
    text = _read("-") if text is None else text
    if not is_resource_list(text):
        return False
    result, error = run(text)
    click.echo(result, nl=False)
    if error:
        raise ConfigError(error)
    return True


def _changed(
    texts: dict[str, str], injection: Injection | None, workloads: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """Yield the new text of each file; without an injection, that of its removal."""
    if injection is None:
        for name, text in texts.items():
            yield name, without_injection(text, _shown(name), workloads, several=len(texts) > 1)
        return
    secrets = [secret for name, text in texts.items() for secret in secrets_in(text, _shown(name))]
    for name, text in texts.items():
        yield name, with_injection(text, _shown(name), injection, secrets, several=len(texts) > 1)


def _injection(arguments: dict[str, Any]) -> Injection:
    needed = {"way": "--with", "secrets": "--secret", "vault_url": "--vault-url", "role": "--role", "image": "--image"}
    if missing := [flag for name, flag in needed.items() if not arguments[name]]:
        raise click.UsageError(f"Missing option{'s' if missing[1:] else ''} {', '.join(missing)}.")
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}
    values["with"] = values.pop("way")
    values["command"] = dict(map(_command, values.pop("commands")))
    values["environment"] = options.pairs(arguments["environment"], "--env")
    values["resources"] = _resources(arguments["resources"])
    return from_options(values)


def _verify(manifest: Mapping[str, Any], injection: Injection, connection: Mapping[str, Any]) -> None:
    """Log in and read the Secrets as the service account of a workload.

    Raises:
        ConfigError: the manifest has no namespace.
        SecretManagerError: what the workload would meet; names it.
    """
    name, namespace = name_of(manifest), manifest["metadata"].get("namespace")
    if not namespace:
        raise ConfigError(f"{name}: has no namespace, whose service account --verify could ask for")
    account = service_account_of(manifest)
    vault_url = os.environ.get("VAULT_ADDR") or injection.vault_url
    vault_options = with_variables({"vault_url": vault_url}, VAULT)
    audience = injection.argument("--audience") or vault_options["audience"]
    workload = Workload(injection.role, namespace, account, audience, injection.names)
    vault = VaultClient.from_options(vault_options)
    try:
        with closing(vault), kubernetes_of(connection) as operator:
            mount = injection.argument("--auth-mount") or "kubernetes"
            read_as(workload, operator, connecting(connection), vault, mount)
    except SecretManagerError as error:
        error.place = f"{name}, as service account {namespace}/{account}: {error.place}"
        raise


def _command(text: str) -> tuple[str, list[str]]:
    """Return the container and the words of ``[CONTAINER=]COMMAND``."""
    name, equals, rest = text.partition("=")
    has_container = bool(equals) and name.replace("-", "").isalnum()
    try:
        return (name, shlex.split(rest)) if has_container else ("", shlex.split(text))
    except ValueError as error:
        raise click.UsageError(f"--command: {error}; allowed is a command as a shell reads it") from error


def _resources(items: tuple[str, ...]) -> dict[str, dict[str, str]] | None:
    """Return what ``limits.cpu=500m,requests.memory=64Mi`` and its like say; None if nothing was given.

    Raises:
        click.UsageError: an item has another form.
    """
    resources: dict[str, dict[str, str]] = {}
    for item in (each for items_of_one in items for each in items_of_one.split(",")):
        name, equals, amount = item.partition("=")
        kind, dot, resource = name.partition(".")
        if not equals or not dot or kind not in RESOURCE_KINDS:
            raise click.UsageError(
                f"--resources: found {item!r}; allowed is requests.NAME=QUANTITY, limits.NAME=QUANTITY"
            )
        resources.setdefault(kind, {})[resource] = amount
    return resources or None


def _read(name: str) -> str:
    if name == "-":
        try:
            return sys.stdin.buffer.read().decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ConfigError("standard input: is not text; a file of manifests is needed") from None
    text = documents.read(Path(name))
    if text is None:
        raise ConfigError(f"{name}: No such file or directory")
    return text


def _shown(name: str) -> str:
    return "standard input" if name == "-" else name
