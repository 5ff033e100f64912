"""Tokens as they are given: trimmed, or refused by the option's name, and never shown."""

from __future__ import annotations

import pytest

from secretmanager.errors import ConfigError
from secretmanager.servers.http import credential


@pytest.mark.parametrize("given", ["hvs.a", " hvs.a", "hvs.a\n", "\r\n\thvs.a \n", "\N{NO-BREAK SPACE}hvs.a"])
def test_white_space_around_it_is_dropped(given: str) -> None:
    assert credential(given, "vault_token") == "hvs.a"


@pytest.mark.parametrize("given", ["", " ", "\n"])
def test_an_empty_one(given: str) -> None:
    with pytest.raises(ConfigError, match=r"^vault_token: is empty; it should hold a token$"):
        credential(given, "vault_token")


@pytest.mark.parametrize(
    "odd", [" ", "\n", "\r\nX: y", "\0", "\x7f", "\N{NO-BREAK SPACE}", "é", "\N{ZERO WIDTH SPACE}"]
)
def test_an_odd_character_within(odd: str) -> None:
    with pytest.raises(ConfigError, match=r"^vault_token: holds white space or a character") as caught:
        credential(f"FOLLOW{odd}RABBIT", "vault_token")
    assert "RABBIT" not in str(caught.value)
