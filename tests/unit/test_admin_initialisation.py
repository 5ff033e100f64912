"""Numbers that Vault would refuse are refused before the request."""

from __future__ import annotations

from typing import Any

import pytest

from secretmanager.admin.initialisation import Initialisation
from secretmanager.errors import ConfigError


def initialisation(**options: Any) -> Initialisation:
    return Initialisation(**{"key_shares": 1, "key_threshold": 1, "keys_file": "k", "root_token_file": "r", **options})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"key_shares": 0}, "key_shares: found 0, allowed is 1 to 255"),
        ({"key_shares": 256}, "key_shares: found 256, allowed is 1 to 255"),
        ({"key_threshold": 2}, "key_threshold: found 2, allowed is 1 to 1 with 1 key_shares"),
        ({"key_shares": 3, "key_threshold": 1}, "key_threshold: found 1, allowed is 2 to 3 with 3 key_shares"),
        ({"key_shares": 3, "key_threshold": 4}, "key_threshold: found 4, allowed is 2 to 3 with 3 key_shares"),
        ({"pgp_keys": ["a", "b"]}, "pgp_keys: found 2, allowed are as many as key_shares, 1"),
    ],
)
def test_numbers_that_vault_would_refuse_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{said}$"):
        initialisation(**options)


@pytest.mark.parametrize("numbers", [(1, 1), (3, 2), (5, 5), (255, 128)])
def test_numbers_that_vault_takes_are_taken(numbers: tuple[int, int]) -> None:
    shares, threshold = numbers
    assert initialisation(key_shares=shares, key_threshold=threshold).key_threshold == threshold
