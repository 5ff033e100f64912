"""The entry point of the command ``kubevault``."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Any, NoReturn

try:
    import click
except ImportError:
    sys.exit("kubevault: this command needs the package click; install kubevault[cli]")

try:
    from ..errors import SecretManagerError, unexpected
except ImportError as error:
    sys.exit(f"kubevault: {error}")


class Subcommands(click.Group):
    """Subcommands, each in a module of its own name, which is imported when it is used; a dash is an underscore there.

    Source: https://click.palletsprojects.com/en/stable/complex/#lazily-loading-subcommands
    """

    NAMES = ("exec", "files", "info", "inject", "read", "ready", "renew-reviewer", "retire", "rewrap", "rotate", "seal")

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all subcommands."""
        return list(self.NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a subcommand; None if there is none of this name."""
        if cmd_name not in self.NAMES:
            return None
        command: click.Command = import_module(f".{cmd_name.replace('-', '_')}", __package__).command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand; its errors name its own options, and all of them that are missing."""
        words = [*ctx._protected_args, *ctx.args]
        try:
            return super().invoke(ctx)
        except click.MissingParameter as error:
            if error.ctx and (missing := _missing(error.ctx, words[1:]))[1:]:
                raise click.UsageError(f"Missing {', '.join(missing)}.", error.ctx) from None
            raise
        except SecretManagerError as error:
            if ctx.invoked_subcommand and (command := self.get_command(ctx, ctx.invoked_subcommand)):
                # Here, because a probe that succeeds needs none of what it imports.
                from .wording import in_words_of

                in_words_of(command, error)
            raise


@click.group(
    cls=Subcommands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(package_name="kubevault")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Kubernetes Secrets that only Vault can open."""
    if ctx.invoked_subcommand is None:
        # kustomize and kpt run a KRM function, of an image too, without arguments.
        if not sys.stdin.isatty() and import_module(".inject", __package__).function():
            return
        click.echo(ctx.get_help(), err=True)
        sys.exit(2)


def _missing(ctx: click.Context, words: list[str]) -> list[str]:
    """Return the parameters that a subcommand needs and has not, as its usage names them."""
    arguments, _, _ = ctx.command.make_parser(ctx).parse_args(list(words))

    def is_given(value: object) -> bool:  # click has an object of its own for what is not
        return bool(value) and isinstance(value, str | list | tuple)

    needed = [each for each in ctx.command.params if each.required]
    return [each.get_error_hint(ctx) for each in needed if not is_given(arguments.get(each.name or ""))]


def main() -> NoReturn:
    """Run the command; an error of Vault, Kubernetes or the options ends it with status 1 and one line."""
    if sys.getfilesystemencoding() != "utf-8":
        # Arguments, paths, manifests and JSON are UTF-8, whatever the locale's encoding is; only a new process can tell
        # Python (https://docs.python.org/3/library/os.html#utf8-mode).
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - no shell is wanted
    for stream in (sys.stdin, sys.stdout):
        # PYTHONIOENCODING counts in that mode too.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8")
    # Here, so that the exit has none of the frames of what ended the command: their variables hold secrets.
    sys.exit(_status())


def _status() -> int | str | None:
    """Run the command; return its exit status."""
    try:
        # Outside of standalone mode, click returns the status of an Exit. The subcommands return None.
        return int(cli(standalone_mode=False) or 0)
    except SystemExit as end:
        return end.code
    except click.exceptions.Abort:
        click.echo("kubevault: interrupted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except SecretManagerError as error:
        click.echo(f"kubevault: {error}", err=True)
    except Exception as error:  # noqa: BLE001 - the boundary: a traceback or the text could show a secret
        click.echo(f"kubevault: {unexpected(error)}", err=True)
    return 1
