"""Errors name a command's own options, and nothing else that has such a word."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from secretmanager.commands import inject, seal
from secretmanager.commands.main import Subcommands, cli
from secretmanager.commands.wording import in_words_of
from secretmanager.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("transit_key is missing", "--transit-key is missing"),
        (
            "the Secret was not sealed here; set force to take over, or adopt to seal what it holds",
            "the Secret was not sealed here; set --force to take over, or --adopt to seal what it holds",
        ),
        ("auth method approle needs role_id or role_id_file", "auth method approle needs --role-id or --role-id-file"),
        ("auth method approle needs secret_id", "auth method approle needs secret_id"),
        ("vault_token: is empty; it should hold a token", "$VAULT_TOKEN: is empty; it should hold a token"),
        ("the value is empty; set allow_empty if it is meant", "the value is empty; set --allow-empty if it is meant"),
        (
            "found 'transit_key'; a path/transit_key.pem, $transit_key",
            "found 'transit_key'; a path/transit_key.pem, $transit_key",
        ),
        ("the context is missing, and a scope too", "the context is missing, and a scope too"),
        ("--transit-key is missing", "--transit-key is missing"),
    ],
)
def test_an_error_of_seal(text: str, said: str) -> None:
    error = ConfigError(text, remedy=text)
    in_words_of(seal.command, error)
    assert (error.message, error.remedy) == (said, said)


def test_an_error_of_inject() -> None:
    error = ConfigError("vault_url: found 'http://vault'; allowed is https://HOST[:PORT]")
    in_words_of(inject.command, error)
    assert str(error) == "--vault-url: found 'http://vault'; allowed is https://HOST[:PORT]"


def test_each_command_s_help_fits_its_line() -> None:
    shown = CliRunner().invoke(cli, ["--help"], terminal_width=80).output.partition("Commands:\n")[2]
    assert len(shown.strip().splitlines()) == len(Subcommands.NAMES)
    assert "..." not in shown
