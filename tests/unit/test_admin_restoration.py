"""What a restoration checks before it writes, and its end where the leader changed.

All of it: tests/integration/test_vault_cluster.py.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
from support.modules import COLLECTION, Result, run_module

from secretmanager.admin.connection import Vault
from secretmanager.admin.restoration import _knows
from secretmanager.errors import InvalidToken, VaultError, VaultUnavailable


class Standby:
    """Answers as a standby that cannot forward requests at first."""

    url = "https://vault.example.org:8200"

    def __init__(self, *, known: bool) -> None:
        self.known = known
        self.requests = 0

    def request(self, method: str, path: str) -> dict[str, Any]:
        assert (method, path) == ("GET", "auth/token/lookup-self")
        self.requests += 1
        if self.requests < 3:
            raise VaultUnavailable("HTTP status 307")
        if not self.known:
            raise InvalidToken("invalid token")
        return {}


@pytest.mark.parametrize("known", [True, False])
def test_whether_a_token_is_known_is_asked_until_the_standby_forwards(known: bool) -> None:
    standby = Standby(known=known)
    assert _knows(cast(Vault, standby), 60) is known
    assert standby.requests == 3


def test_a_standby_that_never_forwards_is_an_error_of_its_own() -> None:
    with pytest.raises(VaultUnavailable, match="Vault does not serve: HTTP status 307"):
        _knows(cast(Vault, Standby(known=True)), 0)


FIRST, SECOND = "https://vault-1.example.org:8200", "https://vault-2.example.org:8200"

EMPTY: dict[str, Any] = {"initialized": False, "sealed": True, "type": "shamir", "t": 0}
RUNNING: dict[str, Any] = {"initialized": True, "sealed": False, "type": "shamir", "t": 2}
"""What nodes say of their seals; of the unseal keys, Vault needs two."""

SNAPSHOT = gzip.compress(b"of Raft's storage")

Run = Callable[..., Result]


class Untouched:
    """A node that says how its seal is. Anything else that is asked of it is noted, and refused."""

    def __init__(self, url: str, seal: Mapping[str, Any], noted: list[tuple[str, str]]) -> None:
        self.url = url
        self._seal = seal
        self._noted = noted

    def request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        if (method, path) != ("GET", "sys/seal-status"):
            self._noted.append((method, path))
            raise VaultError("it was to stay as it is")
        return dict(self._seal)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with all that a restoration needs, also of a Vault that runs."""
    made = tmp_path / "secrets"
    made.mkdir()
    (made / "snapshot").write_bytes(SNAPSHOT)
    keys = {"unseal_keys_b64": ["a", "b", "c"], "unseal_shares": 3, "unseal_threshold": 2}
    (made / "keys.json").write_text(json.dumps(keys))
    (made / "privileged").write_text("hvs.privileged")
    return made


@pytest.fixture
def run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the module for two nodes; whatever it ends with, they and the folder are as before."""

    def run(first: Mapping[str, Any], second: Mapping[str, Any] = EMPTY, *, check: bool, **changed: Any) -> Result:
        seals, noted = {FIRST: first, SECOND: second}, list[tuple[str, str]]()
        module = import_module(f"ansible_collections.{COLLECTION}.plugins.modules.vault_restore")
        monkeypatch.setattr(module, "administer_vault", lambda _, *, url, **__: Untouched(url, seals[url], noted))
        options = {
            "nodes": [FIRST, SECOND],
            "snapshot": str(folder / "snapshot"),
            "keys_file": str(folder / "keys.json"),
            "temporary_file": str(folder / "temporary"),
            "note_file": str(folder / "note"),
            "privileged_token_file": str(folder / "privileged"),
            "timeout": 0,
            **changed,
        }
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        result = run_module({"vault_restore": options, "check_mode": check}, tmp_path, {})
        assert noted == []
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        return result

    return run


@pytest.mark.parametrize("first", [EMPTY, RUNNING], ids=["empty", "running"])
def test_check_mode_foretells_a_restoration_and_writes_nothing(run: Run, first: Mapping[str, Any]) -> None:
    result = run(first, first, check=True)
    assert (result["changed"], result.get("failed")) == (True, None)


CHECKED = pytest.mark.parametrize("check", [True, False], ids=["check", "run"])


@CHECKED
@pytest.mark.parametrize("first", [EMPTY, RUNNING], ids=["empty", "running"])
@pytest.mark.parametrize(
    ("content", "decrypt", "said"),
    [
        (None, [], "snapshot: {path}: No such file or directory"),
        (b"age-encryption.org/v1", [], "snapshot: {path} is not a snapshot of Vault"),
        # What it has decrypted so far looks well.
        (SNAPSHOT, ["sh", "-c", "cat; echo no key >&2; exit 3"], "decrypt: sh ended with status 3: no key"),
    ],
    ids=["missing", "encrypted", "not decrypted"],
)
def test_without_a_snapshot_vault_stays_as_it_is(
    run: Run,
    folder: Path,
    content: bytes | None,
    decrypt: list[str],
    said: str,
    first: Mapping[str, Any],
    check: bool,
) -> None:
    path = folder / "snapshot"
    path.unlink() if content is None else path.write_bytes(content)
    result = run(first, first, decrypt=decrypt, check=check)
    assert result["failed"]
    assert result["msg"].startswith(said.format(path=path))


@CHECKED
def test_a_node_of_another_vault_is_refused(run: Run, check: bool) -> None:
    result = run(EMPTY, RUNNING, check=check)
    assert result["failed"]
    assert f"{SECOND} is initialised, so it belongs to another Vault" in result["msg"]


@CHECKED
@pytest.mark.parametrize("needed", [1, 3])
def test_a_vault_that_needs_another_number_of_keys_is_refused(run: Run, needed: int, check: bool) -> None:
    other = {**RUNNING, "t": needed}
    result = run(other, other, check=check)
    assert result["failed"]
    assert "2 of the keys in" in result["msg"]
    assert f"{FIRST}, which is initialised, wants {needed} until it restarts" in result["msg"]
