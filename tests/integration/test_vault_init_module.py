"""vault_init on Vault servers that are not initialised."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ansible import Ansible, Result, Task
from support.servers import PrivateVault, running

INITIALISED = {"initialized": True, "sealed": False}

OF_ANOTHER_VAULT = json.dumps({"unseal_keys_b64": ["bm90IHRoaXMgVmF1bHQncyBrZXkgLi4uLi4uLi4uLi4="]})
"""A file of keys."""


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[PrivateVault]:
    """A running server that is not initialised."""
    folder = tmp_path / "vault"
    folder.mkdir()
    server = PrivateVault(folder)
    with running(server, lambda: server.start(unseal=False)):
        yield server


@pytest.fixture
def ansible(vault: PrivateVault, tmp_path: Path) -> Ansible:
    return Ansible(tmp_path, {"VAULT_ADDR": vault.url, "VAULT_CACERT": vault.ca})


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    return folder


def init(secrets: Path, **options: object) -> Task:
    files = {"keys_file": str(secrets / "keys.json"), "root_token_file": str(secrets / "root")}
    return {"vault_init": {**files, "timeout": 30, **options}}


def failure(result: Result) -> str:
    assert result["failed"], result
    return result["msg"]


def state(result: Result) -> dict[str, bool]:
    assert not result.get("failed"), result
    return {name: result[name] for name in ("changed", "initialized", "sealed")}


def seal_status(vault: PrivateVault) -> dict[str, bool]:
    found = vault.root.request("GET", "sys/seal-status").json()
    return {name: found[name] for name in INITIALISED}


def test_vault_is_initialised_once_and_unsealed_whenever_it_is_sealed(
    ansible: Ansible, vault: PrivateVault, secrets: Path
) -> None:
    task = init(secrets, key_shares=3, key_threshold=2)
    (foretold,) = ansible.run({**task, "check_mode": True, "diff": True})
    assert state(foretold) == {"changed": True, **INITIALISED}
    assert foretold["diff"]["before"] == {"initialized": False, "sealed": True, "seal": "shamir"}
    assert seal_status(vault) == {"initialized": False, "sealed": True}
    assert list(secrets.iterdir()) == []

    shown = ansible.play(task, arguments=("-vvvv", "--diff"))
    keys, token = json.loads((secrets / "keys.json").read_text()), (secrets / "root").read_text().strip()
    assert len(keys["unseal_keys_b64"]) == 3
    assert [secret for secret in (token, *keys["unseal_keys_b64"]) if secret in shown.output] == []
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o600}
    assert vault.root.request("GET", "auth/token/lookup-self", token=token).ok

    vault.kill()
    vault.start(unseal=False)
    assert seal_status(vault)["sealed"]
    sealed, unsealed, second = ansible.run({**task, "check_mode": True}, task, task)
    assert [state(result)["changed"] for result in (sealed, unsealed, second)] == [True, True, False]
    assert seal_status(vault) == INITIALISED


def test_a_file_in_the_way_leaves_vault_as_it_is(ansible: Ansible, vault: PrivateVault, secrets: Path) -> None:
    task = init(secrets)
    for option, name in (("keys_file", "keys.json"), ("root_token_file", "root")):
        (secrets / name).write_text(OF_ANOTHER_VAULT)
        messages = [failure(result) for result in ansible.run({**task, "check_mode": True}, task)]
        assert all(f"{option}: {secrets / name} exists, but {vault.url}" in message for message in messages)
        assert {path.name: path.read_text() for path in secrets.iterdir()} == {name: OF_ANOTHER_VAULT}
        (secrets / name).unlink()
    nowhere = init(secrets / "none")
    assert "its folder does not exist" in failure(ansible.run(nowhere)[0])
    assert seal_status(vault) == {"initialized": False, "sealed": True}
    assert list(secrets.iterdir()) == []


def test_a_vault_that_others_initialised_is_not_unsealed_by_guessing(
    ansible: Ansible, vault: PrivateVault, secrets: Path
) -> None:
    assert vault.root.request("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1}).ok
    (missing,) = ansible.run(init(secrets))
    assert f"keys_file: {secrets / 'keys.json'} is missing, but Vault is initialised and sealed" in failure(missing)
    (secrets / "keys.json").write_text(OF_ANOTHER_VAULT)
    (wrong,) = ansible.run(init(secrets))
    assert f"the keys in {secrets / 'keys.json'} are not this Vault's" in failure(wrong)
    assert "bm90IHRoaXM" not in json.dumps(wrong)
    (secrets / "keys.json").write_text("half of a fi")
    (broken,) = ansible.run(init(secrets))
    assert "is not a JSON object with a list unseal_keys_b64" in failure(broken)
    assert seal_status(vault) == {"initialized": True, "sealed": True}


def test_a_vault_that_is_down_is_named_at_once_in_check_mode(
    ansible: Ansible, vault: PrivateVault, secrets: Path
) -> None:
    vault.kill()
    (checked,) = ansible.run({**init(secrets, timeout=3600), "check_mode": True})
    assert f"{vault.url}: Vault does not listen: no response from Vault" in failure(checked)
    (waited,) = ansible.run(init(secrets, timeout=0.5))
    assert "Vault does not listen" in failure(waited)
