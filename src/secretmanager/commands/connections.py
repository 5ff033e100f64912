"""The two servers, as a subcommand's options say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import click

from ..delivery.values import named
from ..errors import printable
from ..login.methods import Credentials, from_file, method_of
from ..login.session import logged_in
from ..reading.opening import open_secrets
from ..reading.requests import Request
from ..servers.kubernetes import KubernetesClient
from ..servers.vault import VaultClient

Options = Mapping[str, Any]


@contextmanager
def kubernetes_of(options: Options, **client_arguments: Any) -> Iterator[KubernetesClient]:
    """Connect to Kubernetes.

    Args:
        options: the subcommand's options.
        client_arguments: further arguments of the client.

    Raises:
        ConfigError: an option is missing or cannot be used.
    """
    path = options["api_key_file"]
    api_key = from_file(path)() if path else options.get("api_key")
    with closing(KubernetesClient.from_options({**options, "api_key": api_key}, **client_arguments)) as client:
        yield client


@contextmanager
def vault_of(options: Options, kubernetes: Callable[[], KubernetesClient]) -> Iterator[VaultClient]:
    """Log in to Vault; a token that was issued for that is revoked in the end.

    Args:
        options: the subcommand's options.
        kubernetes: returns the client that has a service account's token issued.

    Raises:
        click.UsageError: there is no address of Vault.
        ConfigError: another option is missing or cannot be used.
        LoginDenied: Vault refused.
        VaultUnavailable, TLSError: Vault is unreachable, or its certificate is not trusted.
    """
    if not options["vault_url"]:
        raise click.UsageError("--vault-url, or $VAULT_ADDR, is missing")
    method = method_of(Credentials.from_options(options), kubernetes)
    with logged_in(VaultClient.from_options(options), method.log_in, warn) as client:
        yield client


def open_places(
    options: Options, places: Sequence[tuple[str, str, str | None]], transit_key: str | None
) -> list[dict[str, bytes]]:
    """Decrypt sealed Secrets.

    Args:
        options: the subcommand's options.
        places: namespace, name and data key of each; without a data key, all of the Secret.
        transit_key: Transit key of values that an older tool sealed.

    Returns:
        The plaintexts of each place, by data key.

    Raises:
        SecretManagerError: as of `vault_of` and `reading.opening.open_secrets`.
    """
    with kubernetes_of(options) as kubernetes, vault_of(options, lambda: kubernetes) as vault:
        requests = [Request(name, namespace, "SECRET", key, transit_key) for namespace, name, key in places]
        return open_secrets(kubernetes, vault, requests)


def open_named(
    options: Options, places: Sequence[tuple[str, str, str | None]], transit_key: str | None
) -> dict[str, bytes]:
    """Decrypt sealed Secrets, for a program: arguments as of `open_places`.

    Returns:
        The plaintexts by name, as `delivery.values.named`.

    Raises:
        SecretManagerError: as of `open_places` and `delivery.values.named`.
    """
    opened = open_places(options, places, transit_key)
    return named(
        (f"{space}/{name}/{key}", key, values) for (space, name, key), values in zip(places, opened, strict=True)
    )


def warn(text: str) -> None:
    """Print a warning."""
    click.echo(f"kubevault: {printable(text)}", err=True)
