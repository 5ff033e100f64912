"""The command ``kubevault``: seal, tell what is sealed, read, run a program with secrets.

Needs the extra ``kubevault[cli]``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

try:
    import click
except ImportError:
    sys.exit("kubevault: this command needs the package click; install kubevault[cli]")

from ..errors import ConfigError, NoticeError, SecretManagerError, TLSError
from ..login.access import KubernetesAccess, VaultAccess
from ..sealing.manifestfile import ManifestFile
from ..sealing.plan import Outcome
from ..sealing.sealer import SealingFailed, seal_into
from ..sealing.spec import Behavior, State, Wanted, from_options
from ..sealing.stores import KubernetesStore
from ..servers.kubernetes import KubernetesClient

if TYPE_CHECKING:
    from ..notices.announcer import Announcer

Command = Callable[..., Any]


def main() -> NoReturn:
    """Run the command; an error of Vault, Kubernetes or the options ends it with status 1 and one line."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("kubevault: aborted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except SecretManagerError as error:
        click.echo(f"kubevault: {error}", err=True)
        sys.exit(1)
    sys.exit(0)


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Give one decorator for several options."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_path = click.Path(dir_okay=False)

_vault = _options(
    click.option("--vault-url", envvar=["VAULT_ADDR"], help="Vault's address, https://...  [$VAULT_ADDR]"),
    click.option("--vault-ca-cert", type=_path, envvar=["VAULT_CACERT"], help="PEM file of its CA.  [$VAULT_CACERT]"),
    click.option("--vault-namespace", envvar=["VAULT_NAMESPACE"], help="Vault namespace.  [$VAULT_NAMESPACE]"),
    click.option(
        "--vault-timeout", type=float, default=30.0, show_default=True, help="Seconds that an answer may take."
    ),
    click.option(
        "--auth-method",
        type=click.Choice(["token", "approle", "kubernetes"]),
        default="token",
        show_default=True,
        envvar="KUBEVAULT_AUTH_METHOD",
        help="How to log in to Vault.",
    ),
    click.option("--auth-mount", help="Where the auth method is mounted, if not at its own name."),
    # No --token and no --secret-id: other users of the machine see the arguments of a program.
    click.option(
        "--token-file",
        type=_path,
        envvar="VAULT_TOKEN_FILE",
        help="File that holds the token. Without it and $VAULT_TOKEN, ~/.vault-token.  [$VAULT_TOKEN_FILE]",
    ),
    click.option("--role", envvar="KUBEVAULT_ROLE", help="Role, for auth method kubernetes.  [$KUBEVAULT_ROLE]"),
    click.option(
        "--service-account",
        metavar="NAMESPACE/NAME",
        help="Service account that Kubernetes issues a token of, for auth method kubernetes. Without it the pod's own.",
    ),
    click.option("--audience", default="vault", show_default=True, help="Whom that token is for."),
    click.option("--role-id", envvar="VAULT_ROLE_ID", help="Role ID, for auth method approle.  [$VAULT_ROLE_ID]"),
    click.option(
        "--secret-id-file",
        type=_path,
        help="File that holds its secret ID. Without it $VAULT_SECRET_ID.",
    ),
    click.option("--transit-mount", default="transit", show_default=True, help="Where the Transit engine is mounted."),
)

_kubernetes = _options(
    click.option(
        "--kubeconfig",
        type=_path,
        envvar="K8S_AUTH_KUBECONFIG",
        help="Kubeconfig file. Without it $KUBECONFIG, a pod's own service account, ~/.kube/config.",
    ),
    click.option("--context", envvar="K8S_AUTH_CONTEXT", help="Its context, if not the current one."),
    click.option("--host", envvar="K8S_AUTH_HOST", help="Address of the Kubernetes API instead of a file."),
    click.option("--api-key-file", type=_path, help="File that holds a bearer token for it, else $K8S_AUTH_API_KEY."),
    click.option("--ca-cert", type=_path, envvar="K8S_AUTH_SSL_CA_CERT", help="PEM file of its CA, for --host."),
    click.option("--client-cert", type=_path, envvar="K8S_AUTH_CERT_FILE", help="Client certificate, for --host."),
    click.option("--client-key", type=_path, envvar="K8S_AUTH_KEY_FILE", help="Its key."),
)

_output = click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="What to print: lines for people, or JSON.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="kubevault")
def cli() -> None:
    """Kubernetes Secrets that only Vault can open."""


@cli.command()
@click.argument("secret", required=False, metavar="[NAMESPACE/NAME]")
@click.option("--secrets", type=click.File("rb"), help="YAML file of several Secrets, or - for standard input.")
@click.option(
    "--from-file", multiple=True, metavar="[KEY=]PATH", help="Seal a file's content. PATH - is standard input."
)
@click.option("--from-env-file", type=_path, help="Seal the lines KEY=VALUE of a file, as kubectl does.")
@click.option("--prompt", multiple=True, metavar="KEY", help="Ask for a value, without echo.")
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
@click.option("--absent-key", "absent_keys", multiple=True, metavar="KEY", help="Remove a data key, whoever made it.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Set a label.")
@click.option("--annotation", "annotations", multiple=True, metavar="KEY=VALUE", help="Set an annotation.")
@click.option("--type", "secret_type", help="Type of the Secret.")
@click.option("--immutable/--no-immutable", default=None, help="Whether Kubernetes refuses later changes.")
@click.option("--recreate", is_flag=True, help="Delete and make anew what Kubernetes does not let change.")
@click.option("--force", is_flag=True, help="Take over, or delete, what was not sealed here.")
@click.option("--adopt", is_flag=True, help="Take over what was not sealed here, and seal its plaintext in place.")
@click.option("--manifest", type=_path, help="Write the sealed Secrets to a YAML file, for Git.")
@click.option("--apply/--no-apply", default=None, help="Whether to write to Kubernetes: by default without --manifest.")
@click.option("--check", is_flag=True, help="Write nothing; say what would be done.")
@click.option("--concurrency", type=click.IntRange(1), default=8, show_default=True, help="Secrets written at once.")
@click.option("--redis-url", envvar="KUBEVAULT_REDIS_URL", help="Redis to tell of what was written.")
@click.option("--redis-password-file", type=_path, envvar="KUBEVAULT_REDIS_PASSWORD_FILE", help="Its password.")
@click.option("--redis-ca-cert", type=_path, envvar="KUBEVAULT_REDIS_CACERT", help="PEM file of its CA.")
@click.option("--redis-channel", default="kubevault", show_default=True, help="First part of its channels' names.")
@_output
@_vault
@_kubernetes
def seal(secret: str | None, secrets: Any, output: str, **options: Any) -> None:
    """Seal values into a Secret, and only those that changed.

    Values are never arguments, which other users of the machine could see: they come from files, standard input or a
    prompt.
    """
    wanted = _wanted(secret, secrets, options)
    manifest, concurrency = options["manifest"], options["concurrency"]
    apply = options["apply"] if options["apply"] is not None else not manifest
    vault_access, kubernetes_access = _access(options)

    try:
        with ExitStack() as stack:

            def connect() -> KubernetesClient:
                return stack.enter_context(closing(kubernetes_access.connect(connections=concurrency)))

            written = stack.enter_context(_announcer(options))
            outcomes, _ = seal_into(
                stack.enter_context(vault_access.connect(connect)),
                wanted,
                file=ManifestFile(manifest) if manifest else None,
                kubernetes=KubernetesStore(connect(), concurrency, written) if apply else None,
                check=options["check"],
                progress=stack.enter_context(_progress(len(wanted))),
            )
    except SealingFailed as error:
        _print_outcomes(error.outcomes, output)
        raise
    _print_outcomes(outcomes, output)


@cli.command()
@click.argument("secret", required=False, metavar="[NAMESPACE[/NAME]]")
@click.option("--selector", "-l", default="kubevault.io/sealed=true", show_default=True, help="Labels of the Secrets.")
@click.option("--transit-key", help="Vault's key of values that an older tool sealed.")
@_output
@_vault
@_kubernetes
def info(secret: str | None, selector: str, transit_key: str | None, output: str, **options: Any) -> None:
    """Tell what is sealed where, and whether it is behind the newest version of its key. Opens nothing.

    Without --vault-url, nothing is said of newest versions.
    """
    from ..sealing.inspection import NewestVersions, facts, inspect

    vault_access, kubernetes_access = _access(options, vault_needed=False)
    namespace, _, name = (secret or "").partition("/")
    with ExitStack() as stack:
        kubernetes = stack.enter_context(closing(kubernetes_access.connect()))
        vault = stack.enter_context(vault_access.connect(lambda: kubernetes)) if vault_access.url else None
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
        for kind in ("plain_keys", "missing_keys"):
            if item[kind]:
                click.echo(f"  {kind.replace('_', ' ')}: {', '.join(item[kind])}")
        if item["error"]:
            click.echo(f"  {item['error']}")


@cli.command()
@click.argument("secret", metavar="NAMESPACE/NAME[/KEY]")
@click.option("--transit-key", help="Vault's key of values that an older tool sealed.")
@_output
@_vault
@_kubernetes
def read(secret: str, transit_key: str | None, output: str, **options: Any) -> None:
    """Print what is sealed, where policy permits.

    With a KEY its bytes as they are; without, a JSON object of all, base64 under "KEY (base64)" for what is no text.
    """
    namespace, name, key = _place(secret, "SECRET")
    values = _open(options, [(namespace, name, key)], transit_key)[0]
    if key is not None and output == "text":
        sys.stdout.buffer.write(values[key])
        return
    click.echo(json.dumps(_as_json(values), indent=2, ensure_ascii=False))


@cli.command(name="exec", context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    required=True,
    metavar="NAMESPACE/NAME[/KEY]",
    help="Secret to give to the program. With a KEY, the members of the JSON object in it. May be given several times.",
)
@click.option("--env-prefix", default="", metavar="PREFIX", help="First part of the variables' names.")
@click.option("--files", is_flag=True, help="Give files on a tmpfs instead; $KUBEVAULT_FILES tells their folder.")
@click.option("--tmpfs", type=click.Path(file_okay=False), help="The tmpfs, if not $XDG_RUNTIME_DIR or /dev/shm.")
@click.option("--transit-key", help="Vault's key of values that an older tool sealed.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@_vault
@_kubernetes
def execute(
    secrets: Sequence[str],
    env_prefix: str,
    files: bool,
    tmpfs: str | None,
    transit_key: str | None,
    command: Sequence[str],
    **options: Any,
) -> None:
    """Run COMMAND with secrets in its environment, or as files that are gone when it ends.

    Signals go to the program; its exit status is this command's. Where there is none, it is 125 if a secret could not
    be had, 126 if COMMAND cannot be run, and 127 if it is not there.

        kubevault exec --secret default/matrix-secrets/secrets.json --env-prefix MATRIX_ -- ./server --port 8080
    """
    from . import running

    places = [_place(secret, "--secret") for secret in secrets]
    try:
        given: dict[str, bytes] = {}
        for (_, _, key), text, values in zip(places, secrets, _open(options, places, transit_key), strict=True):
            found = values if key is None else running.members(values[key], text)
            if twice := sorted(given.keys() & found.keys()):
                raise ConfigError(f"{', '.join(twice)}: is in several of the Secrets")
            given |= found
        if files:
            running.end_as(running.run_with_files(command, given, Path(tmpfs) if tmpfs else None))
        running.run_with_environment(command, running.variables(given, env_prefix, ", ".join(secrets)))
    except SecretManagerError as error:
        click.echo(f"kubevault: {error}", err=True)
        sys.exit(error.exit_status if isinstance(error, running.ProgramError) else running.FAILED)


def _wanted(secret: str | None, secrets: Any, options: Mapping[str, Any]) -> list[Wanted]:
    """Read the Secrets to seal from the options."""
    if (secret is None) == (secrets is None):
        raise click.UsageError("give NAMESPACE/NAME or --secrets, and not both")
    base: dict[str, Any] = {
        name: options[name]
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
        )
    }
    base |= {name: _pairs(options[name], f"--{name.removesuffix('s')}") for name in ("labels", "annotations")}
    base["type"] = options["secret_type"]
    if secrets is not None:
        if any(options[name] for name in ("from_file", "from_env_file", "prompt", "absent_keys")):
            raise click.UsageError("--secrets has values of its own, so it takes no other values")
        return from_options(_entries(secrets), {name: value for name, value in base.items() if value is not None})
    namespace, name, key = _place(secret or "", "SECRET")
    if key is not None:
        raise click.UsageError("SECRET is NAMESPACE/NAME; data keys are given by --from-file KEY=PATH")
    data: dict[str, Any] = {}
    for item in options["from_file"]:
        key, path = _from_file(item)
        data[key] = _content(path)
    data |= _environment_file(options["from_env_file"])
    data |= {key: click.prompt(key, hide_input=True, confirmation_prompt=True, err=True) for key in options["prompt"]}
    entry = {**base, "namespace": namespace, "name": name, "absent_keys": list(options["absent_keys"]) or None}
    return from_options([{**entry, "data": data or None}])


def _entries(file: Any) -> list[dict[str, Any]]:
    import yaml

    try:
        content = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe loaders
    except yaml.YAMLError:
        raise ConfigError("--secrets: is no YAML") from None  # the original quotes the file
    entries = content.get("secrets") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError("--secrets: allowed is a list of Secrets, or a mapping with the key secrets")
    return entries


def _place(text: str, option: str) -> tuple[str, str, str | None]:
    namespace, name, *key = [*text.split("/", 2), ""][:3] if text.count("/") >= 1 else ("", "", "")
    if not namespace or not name:
        raise click.UsageError(f"{option}: found {text!r}; allowed is NAMESPACE/NAME")
    return namespace, name, key[0] or None


def _from_file(item: str) -> tuple[str, str]:
    key, equals, path = item.partition("=")
    if not equals:
        key, path = Path(item).name, item
    if not key or not path:
        raise click.UsageError(f"--from-file: found {item!r}; allowed is [KEY=]PATH")
    return key, path


def _content(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"--from-file: {path}: {error.strerror}") from error


def _environment_file(path: str | None) -> dict[str, str]:
    """Read lines KEY=VALUE, as ``kubectl create secret --from-env-file``: no quoting, no export."""
    if path is None:
        return {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--from-env-file: {path}: {getattr(error, 'strerror', None) or 'is no text'}") from None
    found = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise ConfigError(f"--from-env-file: {path}, line {number}: allowed is KEY=VALUE")
        found[key.strip()] = value
    return found


def _pairs(items: Sequence[str], option: str) -> dict[str, str] | None:
    pairs = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise click.UsageError(f"{option}: found {item!r}; allowed is KEY=VALUE")
        pairs[key] = value
    return pairs or None


def _access(options: Mapping[str, Any], *, vault_needed: bool = True) -> tuple[VaultAccess, KubernetesAccess]:
    """Give how Vault and Kubernetes are reached."""
    if vault_needed and not options["vault_url"]:
        raise click.UsageError("--vault-url, or $VAULT_ADDR, is missing")
    given: dict[str, Any] = {
        "url": options["vault_url"] or "",
        "token": None if options["token_file"] else os.environ.get("VAULT_TOKEN"),
        "secret_id": _line(options["secret_id_file"]) or os.environ.get("VAULT_SECRET_ID"),
    }
    given |= {name: options[f"vault_{name}"] for name in ("ca_cert", "namespace", "timeout")}
    same = (
        "auth_method",
        "auth_mount",
        "token_file",
        "role",
        "service_account",
        "audience",
        "role_id",
        "transit_mount",
    )
    given |= {name: options[name] for name in same}
    api_key = _line(options["api_key_file"]) or os.environ.get("K8S_AUTH_API_KEY")
    names = [item.name for item in fields(KubernetesAccess) if item.name != "api_key"]
    return VaultAccess(**given), KubernetesAccess(**{name: options[name] for name in names}, api_key=api_key)


def _line(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or 'is no text'}") from None


def _open(
    options: Mapping[str, Any], places: Sequence[tuple[str, str, str | None]], transit_key: str | None
) -> list[dict[str, bytes]]:
    from ..reading.opening import open_secret

    vault_access, kubernetes_access = _access(options)
    with closing(kubernetes_access.connect()) as kubernetes, vault_access.connect(lambda: kubernetes) as vault:
        return [open_secret(kubernetes, vault, *place, transit_key) for place in places]


def _as_json(values: Mapping[str, bytes]) -> dict[str, str]:
    import base64

    found = {}
    for key, value in values.items():
        try:
            found[key] = value.decode()
        except UnicodeDecodeError:
            found[f"{key} (base64)"] = base64.b64encode(value).decode("ascii")
    return found


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar where there is a terminal and more than a moment's work."""
    if total < 20 or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sealing", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


@contextmanager
def _announcer(options: Mapping[str, Any]) -> Iterator[Announcer | None]:
    """Give what takes note of Secrets that are written; in the end, Redis is told of them."""
    if not options["redis_url"]:
        yield None
        return
    from ..notices.announcer import Announcer
    from ..notices.redis import Notices

    with Notices(
        options["redis_url"],
        password_file=options["redis_password_file"],
        ca_cert=options["redis_ca_cert"] or True,
        channel=options["redis_channel"],
    ) as notices:
        announcer = Announcer(notices)
        try:
            yield announcer
        finally:
            try:
                announcer.publish()
            except (NoticeError, TLSError) as error:
                click.echo(f"kubevault: the Secrets are written, but not announced: {error}", err=True)


def _print_outcomes(outcomes: Sequence[Outcome], output: str) -> None:
    if output == "json":
        click.echo(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
        return
    for outcome in outcomes:
        parts = [
            f"{word} {', '.join(keys)}" for word in ("added", "updated", "removed") if (keys := getattr(outcome, word))
        ]
        parts += [f"set {', '.join(outcome.metadata)}"] if outcome.metadata else []
        scope = f" ({outcome.scope})" if outcome.scope else ""
        click.echo(
            f"{outcome.namespace}/{outcome.name}: {outcome.action}{scope}" + (f": {'; '.join(parts)}" if parts else "")
        )


if __name__ == "__main__":
    main()
