"""What only a privileged token may write: how it is made of the unseal keys, what it is used for, and that it ends."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import BIN, ROOT, Ansible, Result, Task
from support.servers import PrivateVault, wait_until
from support.terminal import run_at_terminal

from secretmanager.admin.connection import Vault
from secretmanager.admin.elevation import elevated
from secretmanager.errors import ConfigError
from secretmanager.servers.vault import VaultClient

POLICY = 'path "a" {\n  capabilities = ["read"]\n}\n'
ATTEMPT = "sys/generate-root/attempt"


def connect(vault: PrivateVault, token: str) -> Vault:
    return Vault(VaultClient(vault.url, ca_cert=vault.ca, token=token))


def privileged_tokens(vault: PrivateVault) -> set[str]:
    """Return the accessors of all tokens that have the policy root."""
    accessors = vault.root.request("GET", "auth/token/accessors?list=true").json()["data"]["keys"]
    tokens = {
        accessor: vault.root.request("POST", "auth/token/lookup-accessor", {"accessor": accessor})
        for accessor in accessors
    }
    return {accessor for accessor, token in tokens.items() if token.ok and "root" in token.json()["data"]["policies"]}


@pytest.fixture(scope="module")
def keys_file(vault: PrivateVault, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    path.write_text(json.dumps({"unseal_keys_b64": [vault.unseal_key], "unseal_shares": 1, "unseal_threshold": 1}))
    return str(path)


@pytest.fixture(scope="module")
def daily(vault: PrivateVault) -> str:
    """A token that reads policies and roles, and writes keys."""
    vault.write("sys/mounts/transit", type="transit")
    vault.write("sys/auth/kubernetes", type="kubernetes")
    vault.policy(
        "daily",
        {
            "sys/policies/acl": ["list"],
            "sys/policies/acl/t-*": ["read"],
            "auth/kubernetes/role": ["list"],
            "auth/kubernetes/role/+": ["read"],
            "transit/keys/+": ["create", "read", "update"],
        },
    )
    return vault.write("auth/token/create", policies=["daily"], display_name="daily")["auth"]["client_token"]


@pytest.fixture
def ansible(vault: PrivateVault, daily: str, tmp_path: Path) -> Ansible:
    servers = {"VAULT_ADDR": vault.url, "VAULT_CACERT": vault.ca, "VAULT_TOKEN": daily}
    return Ansible(tmp_path, {**servers, "HOME": str(tmp_path)})


@pytest.fixture(autouse=True)
def no_token_is_left(vault: PrivateVault) -> Iterator[None]:
    before = privileged_tokens(vault)
    yield
    assert privileged_tokens(vault) == before
    assert not vault.root.request("GET", ATTEMPT).json()["started"]


def resources(*names: str, check: bool = False, **options: Any) -> Task:
    policies = [{"path": f"sys/policies/acl/t-{name}", "data": {"policy": POLICY}} for name in names]
    return {"vault_resource": {"resources": policies, **options}, "check_mode": check, "diff": True}


def written_by(vault: PrivateVault, path: str) -> list[str]:
    """Return the names of the tokens that wrote to a path, by the audit log."""
    entries = [json.loads(line) for line in vault.audit.read_text().splitlines()]
    return [
        entry["auth"]["display_name"]
        for entry in entries
        if entry["type"] == "response"
        and entry["request"].get("path") == path
        and entry["request"]["operation"] in ("create", "update", "delete")
    ]


def failed(result: Result) -> str:
    assert result.get("failed"), result
    return str(result["msg"])


def test_what_the_token_may_not_write_is_written_with_one_that_ends(
    ansible: Ansible, vault: PrivateVault, keys_file: str
) -> None:
    task = resources("one", elevate=True, keys_file=keys_file)
    task["vault_resource"]["resources"].append({"path": "transit/keys/one", "data": {"type": "aes256-gcm96"}})
    foretold = ansible.run({**task, "check_mode": True})[0]
    attempts = vault.requests(ATTEMPT)
    (done,) = ansible.run(task)
    reads = vault.requests("sys/policies/acl/t-one")
    (second,) = ansible.run(task)
    assert vault.requests("sys/policies/acl/t-one") == reads + 1, "nothing is looked up twice"
    assert [one["changed"] for one in (foretold, done, second)] == [True, True, False]
    assert foretold["diff"] == done["diff"]
    # By the second run and by check mode none was made; and what the own token may write, it wrote.
    assert vault.requests(ATTEMPT) == attempts + 1
    assert written_by(vault, "sys/policies/acl/t-one") == ["token-kubevault-privileged"]
    assert written_by(vault, "transit/keys/one") == ["token-daily"]


def test_without_keys_and_a_terminal_nothing_is_written(ansible: Ansible, vault: PrivateVault, keys_file: str) -> None:
    asked, unasked, plainly = ansible.run(
        resources("two", "three", elevate=False, keys_file=keys_file),
        resources("two", elevate=True),
        resources("two"),
    )
    for said in (failed(asked), failed(unasked)):
        assert "Only a privileged token may write this in Vault: sys/policies/acl/t-two (new)" in said
        assert "Nothing was changed" in said
        assert "run this in a terminal" in said
        assert "vault_operator_root_token_file" in said
    assert "sys/policies/acl/t-three (new)" in failed(asked)
    assert f"set elevate: true (vault_operator_elevate in the roles), which uses the keys in {keys_file}" in failed(
        asked
    )
    assert "lack the capability create or update" in failed(plainly)
    assert not vault.root.request("GET", "sys/policies/acl/t-two").ok


def test_a_token_that_may_write_is_used_as_it_is(ansible: Ansible, vault: PrivateVault, keys_file: str) -> None:
    attempts = vault.requests(ATTEMPT)
    task = resources("four", elevate=True, keys_file=keys_file, vault_token=vault.root.token)
    assert ansible.run(task)[0]["changed"]
    assert vault.requests(ATTEMPT) == attempts


def test_keys_that_are_not_this_vault_s(ansible: Ansible, vault: PrivateVault, tmp_path: Path) -> None:
    wrong = base64.b64encode(bytes(32)).decode()
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"unseal_keys_b64": [wrong], "unseal_shares": 1, "unseal_threshold": 1}))
    results = ansible.run(
        resources("five", elevate=True, keys_file=str(file)),
        resources("five", unseal_keys=[wrong]),
        resources("five", unseal_keys=["no key at all!"]),
    )
    for result in results:
        assert failed(result).startswith(f"unseal keys: {vault.url} refused them: ")
        assert wrong not in str(result)
        assert "no key at all!" not in str(result)


def test_keys_that_pgp_encrypts_are_not_sent(ansible: Ansible, vault: PrivateVault, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    encrypted = base64.b64encode(bytes(300)).decode()
    file.write_text(json.dumps({"unseal_keys_b64": [encrypted], "unseal_shares": 1, "unseal_threshold": 1}))
    attempts = vault.requests(ATTEMPT)
    (result,) = ansible.run(resources("five", elevate=True, keys_file=str(file)))
    assert "run this in a terminal, which asks for the unseal keys" in failed(result)
    assert result["elevation"] == {"changes": ["sys/policies/acl/t-five (new)"], "keys_file": "", "keys": 1}
    # One request asked how many are needed.
    assert vault.requests(ATTEMPT) == attempts + 1


def test_an_attempt_of_somebody_else_goes_on(ansible: Ansible, vault: PrivateVault, keys_file: str) -> None:
    nonce = vault.root.request("POST", ATTEMPT, {}, token="").json()["nonce"]
    (result,) = ansible.run(resources("six", elevate=True, keys_file=keys_file))
    assert "somebody is making a root token already" in failed(result)
    state = vault.root.request("GET", ATTEMPT, token="").json()
    assert (state["started"], state["nonce"]) == (True, nonce)
    vault.delete(ATTEMPT)


def test_too_few_keys(vault: PrivateVault) -> None:
    with pytest.raises(ConfigError, match=r"unseal keys: found 0; .* needs 1 of them"):
        elevated(partial(connect, vault), []).__enter__()


def test_an_error_ends_the_token(vault: PrivateVault) -> None:
    def use() -> None:
        with elevated(partial(connect, vault), [vault.unseal_key]) as token:
            tokens.append(connect(vault, token).request("GET", "auth/token/lookup-self")["data"])
            raise KeyError("an error")

    tokens: list[dict[str, Any]] = []
    with pytest.raises(KeyError, match="an error"):
        use()
    (token,) = tokens
    assert token["policies"] == ["root"]
    assert 0 < token["ttl"] <= token["explicit_max_ttl"] == 300
    assert vault.root.request("GET", "auth/token/lookup-self", token=token["id"]).status == 403


HELD = """
import sys, time
from secretmanager.admin.connection import Vault
from secretmanager.admin.elevation import elevated
from secretmanager.servers.vault import VaultClient
url, ca = sys.argv[1:]
with elevated(lambda token: Vault(VaultClient(url, ca_cert=ca, token=token)), [sys.stdin.readline().strip()]):
    print("made", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_token(vault: PrivateVault, number: signal.Signals) -> None:
    before = privileged_tokens(vault)
    with subprocess.Popen(
        [sys.executable, "-c", HELD, vault.url, vault.ca],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(f"{vault.unseal_key}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "made\n"
        assert len(privileged_tokens(vault) - before) == 1
        process.send_signal(number)
        assert process.wait(60) != 0
    wait_until("the end of the token", lambda: privileged_tokens(vault) == before)


def play_at_terminal(ansible: Ansible, task: Task, *answers: tuple[str, str]) -> tuple[int, str]:
    playbook = ansible.folder / "playbook.yml"
    hosts = {"hosts": "localhost", "gather_facts": False, "vars": {"ansible_python_interpreter": sys.executable}}
    playbook.write_text(yaml.safe_dump([{**hosts, "tasks": [{"vault_resource": task["vault_resource"]}]}]))
    env = {**ansible._environment(None), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    command = [BIN / "ansible-playbook", "-i", "localhost,", "-c", "local", "-vvvv", playbook]
    return run_at_terminal(command, answers, env=env, folder=ansible.folder)


def test_the_terminal_is_asked_whether_the_keys_of_the_file_may_be_used(
    ansible: Ansible, vault: PrivateVault, keys_file: str
) -> None:
    task = resources("seven", elevate=False, keys_file=keys_file)
    status, shown = play_at_terminal(ansible, task, ("Type yes to go on", "no"))
    assert status == 2, shown
    assert "sys/policies/acl/t-seven (new)" in shown
    assert not vault.root.request("GET", "sys/policies/acl/t-seven").ok
    status, shown = play_at_terminal(ansible, task, ("Type yes to go on", "yes"))
    assert status == 0, shown
    assert vault.root.request("GET", "sys/policies/acl/t-seven").ok
    assert vault.unseal_key not in shown


def test_the_terminal_is_asked_for_keys_and_shows_none(ansible: Ansible, vault: PrivateVault) -> None:
    status, shown = play_at_terminal(
        ansible, resources("eight", elevate=False), ("Key 1 of 1 (not shown)", vault.unseal_key)
    )
    assert status == 0, shown
    assert vault.root.request("GET", "sys/policies/acl/t-eight").ok
    assert vault.unseal_key not in shown


def role(name: str, *policies: str, **options: Any) -> dict[str, Any]:
    bound = {"bound_service_account_names": ["a"], "bound_service_account_namespaces": ["n"], "audience": "vault"}
    return {"path": f"auth/kubernetes/role/{name}", "data": {**bound, "token_policies": list(policies), **options}}


def test_what_is_ours_and_not_wanted_any_more_is_deleted(ansible: Ansible, vault: PrivateVault, keys_file: str) -> None:
    mark = "# ours"
    for name, policies in (("Kept", ["p", "ours"]), ("gone", ["ours"]), ("other", ["p"]), ("like", ["ours-not"])):
        vault.write(f"auth/kubernetes/role/{name}", **role(name, *policies)["data"])
    for name, text in (("t-gone", f"{mark}\n{POLICY}"), ("t-other", POLICY), ("x-ours", f"{mark}\n{POLICY}")):
        vault.write(f"sys/policies/acl/{name}", policy=text)
    task = {
        "vault_resource": {
            "resources": [role("Kept", "p", "ours")],
            "prune": [
                {"path": "auth/kubernetes/role", "field": "token_policies", "contains": "ours"},
                {"path": "sys/policies/acl", "names": ["t-*"], "field": "policy", "contains": mark},
                {"path": "auth/none-such/role", "field": "token_policies", "contains": "ours"},
            ],
            "elevate": True,
            "keys_file": keys_file,
        },
        "diff": True,
    }
    vault.policy("daily-none", {"auth/none-such/role": ["list"]})
    token = vault.write("auth/token/create", policies=["daily", "daily-none"])["auth"]["client_token"]
    task["vault_resource"]["vault_token"] = token
    foretold, done, second = ansible.run({**task, "check_mode": True}, task, task)
    deleted = ["auth/kubernetes/role/gone", "sys/policies/acl/t-gone"]
    for result in (foretold, done):
        assert [one["path"] for one in result["resources"] if one["changed"]] == deleted, result
        assert [one["before_header"] for one in result["diff"]] == deleted
    assert not second["changed"], second
    for path in ("auth/kubernetes/role/kept", "auth/kubernetes/role/other", "auth/kubernetes/role/like"):
        assert vault.root.request("GET", path).ok
    for name in ("t-other", "x-ours"):
        assert vault.root.request("GET", f"sys/policies/acl/{name}").ok


def test_a_token_that_has_ended_is_issued_again(
    ansible: Ansible, vault: PrivateVault, keys_file: str, tmp_path: Path
) -> None:
    file = tmp_path / "operator"
    file.write_text("hvs.ended")
    task: Task = {
        "vault_token": {
            "path": str(file),
            "policies": ["daily"],
            "period": "1h",
            "vault_token_file": str(tmp_path / "no-such-file"),
            "elevate": True,
            "keys_file": keys_file,
        }
    }
    attempts = vault.requests(ATTEMPT)
    foretold, done, second = ansible.run({**task, "check_mode": True}, task, task, env={"VAULT_TOKEN": ""})
    assert [one["changed"] for one in (foretold, done, second)] == [True, True, False]
    assert vault.requests(ATTEMPT) == attempts + 1
    # It outlives the one that made it.
    assert connect(vault, file.read_text().strip()).request("GET", "auth/token/lookup-self")["data"]["period"] == 3600
