"""vault_token, and the role vault-operator, which revokes the root token, on a private Vault."""

from __future__ import annotations

import json
import stat
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ansible import Ansible, Result, Task
from support.servers import PrivateVault

from secretmanager.admin.definitions import POLICY_PATHS, policy_name, policy_names


@pytest.fixture
def ansible(vault: PrivateVault, tmp_path: Path) -> Ansible:
    # HOME is set so that no token of the user is found.
    return Ansible(tmp_path, {"VAULT_ADDR": vault.url, "VAULT_CACERT": vault.ca, "HOME": str(tmp_path)})


@pytest.fixture
def root(vault: PrivateVault, tmp_path: Path) -> str:
    """Path of a file with a new root token."""
    path = tmp_path / "root"
    path.write_text(vault.write("auth/token/create", policies=["root"])["auth"]["client_token"] + "\n")
    path.chmod(0o600)
    return str(path)


def token(path: Path, *, check: bool = False, **options: Any) -> Task:
    return {
        "vault_token": {"path": str(path), "policies": ["one"], "period": "1h", **options},
        "check_mode": check,
        "diff": True,
    }


def changes(results: list[Result]) -> list[bool]:
    assert not any(result.get("failed") for result in results), results
    return [result["changed"] for result in results]


def failure(result: Result) -> str:
    assert result["failed"], result
    return result["msg"]


def lookup(vault: PrivateVault, text: str) -> dict[str, Any] | None:
    answer = vault.root.request("GET", "auth/token/lookup-self", token=text.strip())
    return answer.json()["data"] if answer.ok else None


def test_a_token_that_fits_is_kept(ansible: Ansible, vault: PrivateVault, root: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    results = ansible.run(
        token(file, check=True, vault_token_file=root),
        token(file, vault_token_file=root, display_name="operator"),
        token(file),
        token(file, check=True, period="60m"),
    )
    assert changes(results) == [True, True, False, False]
    wanted = {"state": "present", "policies": ["default", "one"], "period": 3600, "orphan": True, "mode": "0600"}
    assert [result["token"] for result in results] == [wanted] * 4
    assert [result["diff"]["before"] for result in results] == [{"state": "absent"}] * 2 + [wanted] * 2
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = lookup(vault, file.read_text())
    assert found
    assert (found["policies"], found["period"], found["orphan"]) == (["default", "one"], 3600, True)
    assert found["display_name"] == "token-operator"
    assert file.read_text().strip() not in str(results)


def test_a_mode_that_is_too_wide_is_put_right(ansible: Ansible, root: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    assert changes(ansible.run(token(file, vault_token_file=root))) == [True]
    before = file.read_text()
    file.chmod(0o644)
    foretold, done, second = ansible.run(token(file, check=True), token(file), token(file))
    assert changes([foretold, done, second]) == [True, True, False]
    assert foretold["diff"]["before"]["mode"] == "0644"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == before


def test_a_token_that_does_not_fit_is_replaced_and_revoked(
    ansible: Ansible, vault: PrivateVault, root: str, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    assert changes(ansible.run(token(file, vault_token_file=root))) == [True]
    old = file.read_text()
    other = {"policies": ["one", "two"], "vault_token_file": root}
    foretold, done, second = ansible.run(
        token(file, check=True, **other), token(file, **other), token(file, policies=["two", "one"])
    )
    assert changes([foretold, done, second]) == [True, True, False]
    assert lookup(vault, old) is None
    found = lookup(vault, file.read_text())
    assert found
    assert found["policies"] == ["default", "one", "two"]


def test_a_token_is_renewed_when_half_of_its_life_is_over(
    ansible: Ansible, vault: PrivateVault, root: str, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    assert changes(ansible.run(token(file, vault_token_file=root))) == [True]
    renewals = vault.requests("auth/token/renew-self")
    assert changes(ansible.run(token(file))) == [False]
    assert vault.requests("auth/token/renew-self") == renewals
    # A token whose remaining lifetime was shortened stands for an old one.
    old = vault.write("auth/token/create-orphan", policies=["one"], ttl="2h")["auth"]["client_token"]
    vault.write("auth/token/renew", token=old, increment="60s")
    file.write_text(old)
    file.chmod(0o600)
    assert changes(ansible.run(token(file, check=True, period=None))) == [False]
    assert vault.requests("auth/token/renew-self") == renewals
    assert changes(ansible.run(token(file, period=None))) == [False]
    assert vault.requests("auth/token/renew-self") == renewals + 1
    found = lookup(vault, old)
    assert found
    assert found["ttl"] > 3600


def test_a_lost_token_says_how_to_bootstrap_again(
    ansible: Ansible, vault: PrivateVault, root: str, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    assert changes(ansible.run(token(file, vault_token_file=root))) == [True]
    nothing = {"vault_token_file": str(tmp_path / "no-root-token")}
    vault.write("auth/token/revoke", token=file.read_text().strip())
    powerless = vault.write("auth/token/create", policies=["one"])["auth"]["client_token"]
    results = ansible.run(
        *(
            token(file, check=check, **options)
            for options in (nothing, {"vault_token": powerless}, {"vault_token": "hvs.ended"})
            for check in (True, False)
        )
    )
    messages = [failure(result) for result in results]
    assert all("`vault operator generate-root` creates a root token" in message for message in messages)
    assert f"{tmp_path / 'no-root-token'}: No such file or directory" in messages[0]
    assert all("auth/token/create-orphan" in message for message in messages[2:4])
    assert all("invalid token" in message for message in messages[4:])
    assert lookup(vault, file.read_text()) is None  # the file is unchanged, and no temporary file remains
    assert not list(tmp_path.glob(".token.*"))


def test_absent_revokes_and_deletes(ansible: Ansible, vault: PrivateVault, root: str) -> None:
    text = Path(root).read_text()
    absent = {"vault_token": {"path": root, "state": "absent"}}
    assert changes(ansible.run({**absent, "check_mode": True})) == [True]
    assert lookup(vault, text)
    assert changes(ansible.run(absent, absent)) == [True, False]
    assert lookup(vault, text) is None
    assert not Path(root).exists()


def operator_variables(root: Path | str, file: Path, keys_file: Path | str = "") -> dict[str, Any]:
    """Return variables of the roles, with new mounts; of files of the root token, operator's token and keys."""
    name = f"t{uuid.uuid4().hex[:8]}"
    return {
        "vault_operator_policy": f"{name}-operator",
        "vault_operator_transit_mount": f"{name}-transit",
        "vault_operator_auth_mount": f"{name}-kubernetes",
        "vault_operator_root_token_file": str(root),
        "vault_operator_token_file": str(file),
        "vault_operator_keys_file": str(keys_file),
        "vault_operator_elevate": bool(keys_file),
        "transit_keys_mount": f"{name}-transit",
        "transit_keys": [{"name": "plain"}, {"name": "bound", "derived": True, "auto_rotate_period": "720h"}],
    }


SERVERS = {
    name: f"{{{{ lookup('ansible.builtin.env', '{name}') }}}}"
    for name in ("VAULT_ADDR", "VAULT_CACERT", "VAULT_TOKEN_FILE")
}
"""A play may take the shell's variables over; the roles by themselves do not read them."""


def role(name: str, variables: dict[str, Any]) -> Task:
    included = {"ansible.builtin.include_role": {"name": name}}
    return {"block": [included], "vars": variables, "environment": SERVERS}


def steps(variables: dict[str, Any]) -> list[Task]:
    """Return the roles vault-operator and transit-keys, and what the roles of trust write, on the new mounts."""
    transit, kubernetes = variables["vault_operator_transit_mount"], variables["vault_operator_auth_mount"]
    policy = 'path "a" {\n  capabilities = ["read"]\n}\n'
    resources = [
        {"path": f"sys/auth/{kubernetes}", "data": {"type": "kubernetes", "description": "Workloads"}},
        {
            "path": f"auth/{kubernetes}/config",
            "data": {"kubernetes_host": "https://127.0.0.1:1", "disable_local_ca_jwt": True},
            "secret_data": {"token_reviewer_jwt": "a-reviewer's-token"},
        },
        *({"path": f"sys/policies/acl/{name}", "data": {"policy": policy}} for name in policy_names(transit)),
        {
            "path": f"auth/{kubernetes}/role/r",
            "data": {
                "bound_service_account_names": ["a"],
                "bound_service_account_namespaces": ["n"],
                "audience": "vault",
                "token_policies": ["p"],
                "token_ttl": "10s",
            },
        },
    ]
    elevation = {"elevate": True, "keys_file": variables["vault_operator_keys_file"]}
    configure = {"vault_resource": {"resources": resources, **elevation}}
    return [role("vault-operator", variables), role("transit-keys", variables), configure]


@dataclass(frozen=True)
class Operator:
    """A Vault that the roles have set up.

    Attributes:
        vault: the server.
        root_token: the root token of before.
        token: the operator's token.
        names: names of mounts and policy.
        run: runs the roles again; returns how many tasks changed something.
        output: what Ansible printed at the first run.
    """

    vault: PrivateVault
    root_token: str
    token: str
    names: dict[str, str]
    run: Callable[[], int]
    output: str

    def status(self, method: str, path: str, /, **body: Any) -> int:
        """Send a request; return the status of the response."""
        return self.vault.root.request(method, path.format_map(self.names), body or None, token=self.token).status


@pytest.fixture(scope="module")
def operator(vault: PrivateVault, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    """One operator for all tests below, since none changes what another one needs."""
    folder = tmp_path_factory.mktemp("operator")
    root, file, keys = folder / "root", folder / "operator", folder / "keys.json"
    keys.write_text(json.dumps({"unseal_keys_b64": [vault.unseal_key]}))
    root_token = vault.write("auth/token/create", policies=["root"])["auth"]["client_token"]
    root.write_text(root_token)
    variables = operator_variables(root, file, keys)
    names = {
        "transit": variables["vault_operator_transit_mount"],
        "kubernetes": variables["vault_operator_auth_mount"],
        "policy": variables["vault_operator_policy"],
    }
    env = {"VAULT_ADDR": vault.url, "VAULT_CACERT": vault.ca, "VAULT_TOKEN_FILE": str(file), "HOME": str(folder)}
    here = Ansible(folder, env)
    first = here.play(*steps(variables), arguments=("-vvvv", "--diff"))
    assert not root.exists()
    token = file.read_text().strip()
    return Operator(vault, root_token, token, names, lambda: here.play(*steps(variables)).changed, first.output)


def test_the_operator_sets_everything_up_and_the_root_token_ends(operator: Operator) -> None:
    assert lookup(operator.vault, operator.root_token) is None
    assert [secret for secret in (operator.root_token, operator.token) if secret in operator.output] == []


def test_the_operator_puts_right_what_was_changed_by_hand(operator: Operator, vault: PrivateVault) -> None:
    """By two tasks: the others, and a second run, change nothing."""
    transit, kubernetes = operator.names["transit"], operator.names["kubernetes"]
    for path, body in {
        f"sys/mounts/{transit}/tune": {"description": "Edited"},
        f"{transit}/keys/bound/config": {"auto_rotate_period": 0, "deletion_allowed": True},
        f"sys/auth/{kubernetes}/tune": {"description": "Edited"},
        f"auth/{kubernetes}/config": {"kubernetes_host": "https://127.0.0.1:2", "disable_local_ca_jwt": True},
        f"sys/policies/acl/kubevault-reader-{transit}": {"policy": "# of nothing"},
        f"auth/{kubernetes}/role/r": {"token_ttl": "1h"},
    }.items():
        vault.write(path, **body)
    assert [operator.run(), operator.run()] == [2, 0]


PLAINTEXT = "cGxhaW50ZXh0"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "{transit}/keys/new", {"exportable": False, "type": "aes256-gcm96"}),
        ("POST", "{transit}/keys/new-digest", {"type": "hmac", "key_size": 32}),
        ("POST", "{transit}/encrypt/plain", {"plaintext": PLAINTEXT}),
        ("POST", "{transit}/hmac/plain-digest", {"input": PLAINTEXT}),
        ("LIST", "{transit}/keys", {}),
        ("LIST", "auth/{kubernetes}/role", {}),
        ("LIST", "sys/policies/acl", {}),
    ],
)
def test_the_operator_may(operator: Operator, method: str, path: str, body: dict[str, Any]) -> None:
    assert operator.status(method, path, **body) == 200


@pytest.mark.parametrize("value", [True, "true", "True", "t", "1", 1, [True]])
@pytest.mark.parametrize("parameter", ["exportable", "allow_plaintext_backup"])
def test_the_operator_makes_no_key_exportable(operator: Operator, parameter: str, value: object) -> None:
    """Not even in another spelling of true."""
    for path in ("{transit}/keys/not-made", "{transit}/keys/plain/config"):
        assert operator.status("POST", path, **{parameter: value}) == 403


def test_the_operator_makes_no_key_exportable_by_another_case(operator: Operator) -> None:
    for path in ("{transit}/keys/not-made", "{transit}/keys/plain/config"):
        assert operator.status("POST", path, Exportable=True) == 403


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "{transit}/encrypt/none-such", {"plaintext": PLAINTEXT}),
        ("POST", "{transit}/decrypt/plain", {"ciphertext": "vault:v1:x"}),
        ("POST", "{transit}/datakey/plaintext/plain", {}),
        ("GET", "{transit}/export/encryption-key/plain", {}),
        ("GET", "{transit}/backup/plain", {}),
        ("POST", "{transit}/restore", {"backup": "x"}),
        ("POST", "{transit}/keys/imported/import", {"ciphertext": "x", "type": "aes256-gcm96"}),
        ("DELETE", "{transit}/keys/plain", {}),
        ("POST", "{transit}/config/keys", {"disable_upsert": False}),
        ("DELETE", "sys/mounts/{transit}", {}),
        ("POST", "sys/mounts/{transit}/tune", {"plugin_version": "v1"}),
        ("POST", "sys/mounts/{transit}-other", {"type": "transit"}),
        ("POST", "sys/mounts/{transit}", {"type": "kv"}),
        ("DELETE", "sys/auth/{kubernetes}", {}),
        ("POST", "sys/auth/{kubernetes}", {"type": "userpass"}),
        ("POST", "sys/auth/{kubernetes}-other", {"type": "kubernetes"}),
        # Whoever may write one of these becomes what they like: a TokenReview of one's own says who logs in, a role
        # says with which policy, and a policy says what that may.
        ("POST", "auth/{kubernetes}/config", {"kubernetes_host": "https://192.0.2.1"}),
        ("POST", "auth/{kubernetes}/role/r", {"token_policies": ["root"]}),
        ("POST", "auth/{kubernetes}/role/new", {"bound_service_account_names": ["*"], "token_policies": ["p"]}),
        ("DELETE", "auth/{kubernetes}/role/r", {}),
        ("POST", "sys/auth/{kubernetes}/tune", {"description": "Edited"}),
        ("POST", "sys/policies/acl/kubevault-reader-{transit}", {"policy": 'path "*" {}'}),
        ("POST", "sys/policies/acl/kubevault-workload-lab", {"policy": 'path "*" {}'}),
        ("POST", "sys/policy/kubevault-reader-{transit}", {"policy": 'path "*" {}'}),
        ("POST", "sys/policies/acl/{policy}", {"policy": 'path "*" {}'}),
        ("POST", "sys/policies/acl/admin", {"policy": 'path "*" {}'}),
        ("DELETE", "sys/policies/acl/kubevault-reader-{transit}", {}),
        ("POST", "auth/token/create", {"policies": ["root"]}),
        ("POST", "auth/token/create-orphan", {}),
        ("GET", "sys/storage/raft/snapshot", {}),
        ("POST", "sys/seal", {}),
    ],
)
def test_the_operator_may_not(operator: Operator, method: str, path: str, body: dict[str, Any]) -> None:
    assert operator.status(method, path, **body) == 403


TEXTS = st.text(max_size=60) | st.sampled_from(['path "*" { capabilities = ["sudo"] }', "", "{}"])


@given(policy=TEXTS, access=st.sampled_from([*POLICY_PATHS]))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_the_operator_writes_no_policy_of_any_text(operator: Operator, policy: str, access: str) -> None:
    for name in (policy_name(access, "any"), policy_name(access, operator.names["transit"])):
        assert operator.status("POST", f"sys/policies/acl/{name}", policy=policy) == 403


def test_the_operator_reads_what_gives_rights_and_writes_none(operator: Operator) -> None:
    """By what Vault says of its token."""
    expected = {
        "sys/auth/{kubernetes}": ["read", "sudo"],
        "sys/auth/{kubernetes}/tune": ["deny"],
        "auth/{kubernetes}/config": ["read"],
        "auth/{kubernetes}/role/new": ["read"],
        "sys/policies/acl/kubevault-reader-new": ["read"],
        "sys/policies/acl/kubevault-workload-new": ["read"],
        "sys/policies/acl/{policy}": ["read"],
        "sys/policies/acl/admin": ["deny"],
        "sys/audit": ["read", "sudo"],
        "sys/audit/new": ["deny"],
        "auth/token/create": ["deny"],
        "auth/token/roles/new": ["deny"],
        "identity/entity": ["deny"],
        "sys/raw/core": ["deny"],
        "sys/plugins/catalog/auth/new": ["deny"],
    }
    expected = {path.format_map(operator.names): capabilities for path, capabilities in expected.items()}
    body = {"paths": list(expected), "token": operator.token}
    answer = operator.vault.root.request("POST", "sys/capabilities", body).json()
    assert {path: sorted(answer[path]) for path in expected} == expected


def test_an_edited_operator_policy_and_a_lost_token_are_put_right_by_a_privileged_token(
    ansible: Ansible, vault: PrivateVault, root: str, tmp_path: Path
) -> None:
    file, keys = tmp_path / "operator", tmp_path / "keys.json"
    variables = operator_variables(root, file)
    bootstrap, policy = role("vault-operator", variables), variables["vault_operator_policy"]
    ansible.play(bootstrap)
    text = vault.root.request("GET", f"sys/policies/acl/{policy}").json()["data"]["policy"]
    vault.write(f"sys/policies/acl/{policy}", policy=f"{text}# edited")
    edited = {**bootstrap, "rescue": [{"ansible.builtin.file": {"path": str(file), "state": "absent"}}]}
    output = ansible.play(edited, bootstrap, fails=True).output
    failures = [" ".join(task.split()) for task in output.split("\nTASK [") if "[ERROR]" in task]
    assert len(failures) == 2, output
    for failure, reason in zip(failures, (f"sys/policies/acl/{policy} (policy)", f"a token for {file}"), strict=True):
        assert f"Only a privileged token may write this in Vault: {reason}" in failure
        assert "vault_operator_root_token_file" in failure
    # The policy is still edited, and the token is still lost: the keys make what puts both right.
    keys.write_text(json.dumps({"unseal_keys_b64": [vault.unseal_key]}))
    whole = role("vault-operator", {**variables, "vault_operator_keys_file": str(keys), "vault_operator_elevate": True})
    assert [ansible.play(whole).changed, ansible.play(whole).changed] == [2, 0]
    assert vault.root.request("GET", f"sys/policies/acl/{policy}").json()["data"]["policy"] == text
    found = lookup(vault, file.read_text())
    assert found
    assert found["policies"] == [policy]
