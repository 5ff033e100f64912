"""``kubevault files``: secrets as files of a pod, or as the variables of a program in it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..delivery import layout, notify
from ..delivery.follow import Changes, follow
from ..delivery.values import renamed_variables, variables
from ..delivery.volume import put_program, require_folder, require_program, write
from ..delivery.waiting import leave_reason, patiently
from ..errors import SecretManagerError, unexpected
from ..login.methods import own_account
from ..reading.plain import read_object
from ..reading.requests import Request
from . import options
from .connections import kubernetes_of, open_named, warn


@click.command(name="files")
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    required=True,
    metavar="NAMESPACE/NAME[/KEY]",
    help="Secret to write. With a KEY, the members of the JSON object in it. May be given several times.",
)
@click.option(
    "--to",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write to, on a tmpfs: an emptyDir with medium Memory.",
)
@click.option("--config", type=options.FILE, help="YAML or JSON file that names the files; else each value is one.")
@click.option("--mode", help="Mode of files that name none, in octal.  [default: 0440 with an fsGroup, else 0444]")
@click.option("--allow-disk", is_flag=True, help="Write although the folder is not on a tmpfs.")
@click.option("--exec", "as_variables", is_flag=True, help="Prepare FOLDER/kubevault-exec, which gives variables.")
@click.option(
    "--exec-program",
    type=click.Path(path_type=Path),
    default=f"/usr/local/bin/{layout.PROGRAM}",
    show_default=True,
    help="That program.",
)
@options.env_prefix
@click.option(
    "--variable",
    "renamed",
    multiple=True,
    metavar="NAME=KEY",
    help="For --exec: a further variable NAME with the value KEY. May be given several times.",
)
@click.option("--watch", is_flag=True, help="Stay, and write again after each change of a value.")
@click.option("--signal", "signal_name", metavar="NAME", help="Signal after each change, as HUP, to --process.")
@click.option("--process", metavar="NAME", help="Name of the program that gets the signal.")
@click.option("--notify-url", metavar="URL", help="Send a POST after each change, to a loopback address.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=300.0,
    show_default=True,
    help="How long to wait for Vault and Kubernetes at the start, in seconds.",
)
@options.transit_key
@options.vault
@options.kubernetes
def command(secrets: Sequence[str], **arguments: Any) -> None:
    """Write decrypted secrets as files, for containers of a pod.

    All are written at once. An init container ends then; a sidecar, with --watch, keeps them current.

    In a pod, its own service account logs in with auth method kubernetes. The container's termination message says why
    it failed.

        kubevault files --secret shop/db --to /kubevault
    """
    # The first process of a container has no default action for a signal. A token in use expires by itself.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0 if arguments["watch"] else 128 + signal.SIGTERM))
    try:
        _run(secrets, **arguments)
    except Exception as error:
        leave_reason(_told(error))
        raise


def _run(
    secrets: Sequence[str],
    folder: Path,
    config: str | None,
    mode: str | None,
    allow_disk: bool,
    as_variables: bool,
    exec_program: Path,
    env_prefix: str,
    renamed: Sequence[str],
    watch: bool,
    signal_name: str | None,
    process: str | None,
    notify_url: str | None,
    wait: float,
    transit_key: str | None,
    **arguments: Any,
) -> None:
    notices = list(_notices(watch, signal_name, process, notify_url))
    places = [options.place_of(secret, "--secret") for secret in secrets]
    file_mode = layout.mode_of(mode, "--mode") if mode else None
    entries = layout.entries(read_object(config), config) if config else None
    variable_names = options.pairs(renamed, "--variable") or {}
    if variable_names and not as_variables:
        raise click.UsageError("--variable needs --exec")
    require_folder(folder, on_disk=allow_disk)
    arguments["service_account"] = arguments["service_account"] or own_account()
    if as_variables:
        require_program(exec_program)

    def update() -> bool:
        values = open_named(arguments, places, transit_key)
        files = {} if as_variables and entries is None else layout.files(values, entries, file_mode)
        if as_variables:
            where = ", ".join(secrets)
            environment = variables(values, env_prefix, where) | renamed_variables(values, variable_names, where)
            files |= layout.environment(environment, file_mode)
            put_program(folder, exec_program)
        change = write(folder, files)
        if change:
            warn(f"{folder}: {change}")
        return bool(change)

    if not watch:
        patiently(update, wait, warn)
        return

    with ExitStack() as stack:
        kubernetes = stack.enter_context(kubernetes_of(arguments))
        requests = [Request(name, namespace) for namespace, name in dict.fromkeys(place[:2] for place in places)]

        def first() -> Changes:
            with ExitStack() as cleanup:
                # Before it reads, so that none is missed.
                changes = cleanup.enter_context(Changes(kubernetes, requests))
                update()
                cleanup.pop_all()
                return changes

        changes = stack.enter_context(patiently(first, wait, warn))
        changes.begin(warn)
        follow(changes, partial(_update_and_notify, update, notices), warn)


def _told(error: Exception) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message()
    return str(error) if isinstance(error, SecretManagerError) else unexpected(error)


def _update_and_notify(update: Callable[[], bool], notices: Sequence[notify.Notify]) -> None:
    if update():
        for send in notices:
            try:
                send()
            except notify.NotNotified as error:
                warn(str(error))


def _notices(watch: bool, signal_name: str | None, process: str | None, url: str | None) -> list[notify.Notify]:
    if (signal_name or process or url) and not watch:
        raise click.UsageError("--signal, --process and --notify-url need --watch")
    if bool(signal_name) != bool(process):
        raise click.UsageError("--signal and --process need each other")
    by_signal = [notify.by_signal(signal_name, process)] if signal_name and process else []
    return [*by_signal, *([notify.by_request(url)] if url else [])]
