"""The modules that administer Vault, on private Vault servers."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
from support.ansible import BIN, RESULTS, ROOT, Ansible, Result, Task
from support.servers import Authority, PrivateVault, free_port


@pytest.fixture
def ansible(vault: PrivateVault, tmp_path: Path) -> Ansible:
    return Ansible(tmp_path, {"VAULT_ADDR": vault.url, "VAULT_CACERT": vault.ca, "VAULT_TOKEN": vault.root.token or ""})


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"t{uuid.uuid4().hex[:8]}"


def resources(*entries: dict[str, Any], **keywords: Any) -> Task:
    return {"vault_resource": {"resources": list(entries)}, **keywords}


def ok(result: Result) -> Result:
    assert not result.get("failed"), result
    return result


def changes(results: list[Result]) -> list[bool]:
    return [ok(result)["changed"] for result in results]


def failure(result: Result) -> str:
    assert result["failed"], result
    return result["msg"]


def read(vault: PrivateVault, path: str) -> dict[str, Any] | None:
    answer = vault.root.request("GET", path)
    return answer.json()["data"] if answer.ok else None


def token_for(vault: PrivateVault, policy: dict[str, list[str]]) -> str:
    name = f"policy-{uuid.uuid4().hex[:8]}"
    vault.policy(name, policy)
    return vault.write("auth/token/create", policies=[name])["auth"]["client_token"]


CHAIN = [
    {
        "path": "sys/mounts/NAME",
        "data": {"type": "transit", "description": "Keys", "config": {"max_lease_ttl": "2h"}},
    },
    {
        "path": "NAME/keys/k",
        "data": {
            "type": "aes256-gcm96",
            "derived": True,
            "exportable": False,
            "deletion_allowed": False,
            "auto_rotate_period": "720h",
        },
    },
    {"path": "sys/policies/acl/NAME", "data": {"policy": 'path "NAME/decrypt/k" {\n  capabilities = ["update"]\n}\n'}},
    {"path": "sys/auth/NAME", "data": {"type": "kubernetes", "description": "Workloads"}},
    {
        "path": "auth/NAME/config",
        "data": {"kubernetes_host": "https://127.0.0.1:1", "kubernetes_ca_cert": "PEM", "disable_local_ca_jwt": True},
        "secret_data": {"token_reviewer_jwt": "a-reviewer's-token"},
    },
    {
        "path": "auth/NAME/role/r",
        "data": {
            "bound_service_account_names": ["a", "b"],
            "bound_service_account_namespaces": ["n"],
            "audience": "vault",
            "token_policies": ["p", "q"],
            "token_ttl": "10s",
            "token_bound_cidrs": ["127.0.0.1/32"],
        },
    },
]


def chain(name: str, ca: str) -> list[dict[str, Any]]:
    text = json.dumps(CHAIN).replace("NAME", name)
    return json.loads(text.replace('"PEM"', json.dumps(Path(ca).read_text())))


def test_resources_are_written_once_and_in_check_mode_foretold(
    ansible: Ansible, vault: PrivateVault, name: str
) -> None:
    entries = chain(name, vault.ca)
    # The same values to Vault, in another notation.
    again = json.loads(
        json.dumps(entries)
        .replace('"2h"', "7200")
        .replace('"720h"', '"30d"')
        .replace('"10s"', "10")
        .replace('["a", "b"]', '["b", "a"]')
        .replace('["p", "q"]', '"q,p"')
        .replace("127.0.0.1/32", "127.0.0.1")
    )
    foretold, made, second, other_words, foretold_again = ansible.run(
        resources(*entries, check_mode=True),
        resources(*entries),
        resources(*entries),
        resources(*again),
        resources(*entries, check_mode=True),
    )
    assert changes([foretold, made, second, other_words, foretold_again]) == [True, True, False, False, False]
    assert foretold["resources"] == made["resources"]
    assert all(entry["changed"] for entry in made["resources"])
    assert read(vault, f"{name}/keys/k")["auto_rotate_period"] == 30 * 24 * 3600
    assert read(vault, f"auth/{name}/role/r")["token_ttl"] == 10


def test_check_mode_writes_nothing(ansible: Ansible, vault: PrivateVault, name: str) -> None:
    ok(ansible.run(resources(*chain(name, vault.ca), check_mode=True))[0])
    assert f"{name}/" not in read(vault, "sys/mounts")
    assert f"{name}/" not in read(vault, "sys/auth")
    assert read(vault, f"sys/policies/acl/{name}") is None


DRIFT = [
    ("sys/policies/acl/NAME", {"policy": 'path "*" {\n  capabilities = ["read"]\n}\n'}, {"policy"}),
    ("auth/NAME/role/r", {"token_ttl": "1h"}, {"token_ttl"}),
    ("sys/mounts/NAME/tune", {"description": "Edited", "max_lease_ttl": "9h"}, {"description", "config.max_lease_ttl"}),
    ("NAME/keys/k/config", {"deletion_allowed": True}, {"deletion_allowed"}),
    (
        "auth/NAME/config",
        {"kubernetes_host": "https://127.0.0.1:2", "disable_local_ca_jwt": True},
        {"kubernetes_host", "kubernetes_ca_cert"},
    ),
]


def test_drift_is_put_right_and_nothing_else_is_written(ansible: Ansible, vault: PrivateVault, name: str) -> None:
    entries = chain(name, vault.ca)
    ok(ansible.run(resources(*entries))[0])
    before = [read(vault, entry["path"]) for entry in entries]
    for path, body, _ in DRIFT:
        vault.write(path.replace("NAME", name), **body)  # the last one also removes the token reviewer
    foretold, put_right, second = ansible.run(
        resources(*entries, check_mode=True), resources(*entries, diff=True), resources(*entries)
    )
    found = {entry["path"]: set(entry["fields"]) for entry in put_right["resources"] if entry["changed"]}
    assert foretold["resources"] == put_right["resources"]
    # A write of this configuration includes the secret field.
    expected = {path.removesuffix("/tune").removesuffix("/config"): fields for path, _, fields in DRIFT[:-1]}
    expected["auth/NAME/config"] = DRIFT[-1][2] | {"token_reviewer_jwt"}
    assert found == {path.replace("NAME", name): fields for path, fields in expected.items()}
    assert not ok(second)["changed"]
    after = [read(vault, entry["path"]) for entry in entries]
    volatile = {"keys"}  # the key's versions with their creation times
    assert [{k: v for k, v in one.items() if k not in volatile} for one in after] == [
        {k: v for k, v in one.items() if k not in volatile} for one in before
    ]
    shown = {diff["before_header"]: diff for diff in put_right["diff"]}
    assert 'capabilities = ["read"]' in shown[f"sys/policies/acl/{name}"]["before"]
    assert shown[f"auth/{name}/role/r"]["before"] == "token_ttl: 3600\n"
    assert shown[f"auth/{name}/role/r"]["after"] == "token_ttl: 10\n"


@pytest.mark.parametrize(
    ("field", "wanted", "said"),
    [
        ("type", "chacha20-poly1305", "is fixed when a key is created"),
        ("derived", False, "is fixed when a key is created"),
        ("exportable", False, "can be turned on, never off"),
    ],
)
def test_what_cannot_change_is_an_error(
    ansible: Ansible, vault: PrivateVault, name: str, field: str, wanted: object, said: str
) -> None:
    vault.write(f"sys/mounts/{name}", type="transit")
    vault.write(f"{name}/keys/k", derived=True, exportable=True)
    before = read(vault, f"{name}/keys/k")
    results = ansible.run(
        *(resources({"path": f"{name}/keys/k", "data": {field: wanted}}, check_mode=check) for check in (True, False)),
        resources({"path": f"sys/mounts/{name}", "data": {"type": "kv"}}),
    )
    for result in results[:2]:
        assert f"{name}/keys/k: {field}: found" in failure(result)
        assert said in result["msg"]
    assert f"sys/mounts/{name}: type: found 'transit', wanted 'kv'; it cannot be changed" in failure(results[2])
    assert read(vault, f"{name}/keys/k") == before


def test_an_audit_device_that_differs_is_an_error(ansible: Ansible, vault: PrivateVault, tmp_path: Path) -> None:
    before = read(vault, "sys/audit")
    file = tmp_path / "other.log"
    device = {"path": "sys/audit/file", "data": {"type": "file", "options": {"file_path": str(file)}}}
    for result in ansible.run(resources(device, check_mode=True), resources(device)):
        assert f"sys/audit/file: options.file_path: found '{vault.audit}', wanted '{file}'; it is fixed" in failure(
            result
        )
        assert (result["changed"], result["resources"]) == (False, [])
    assert read(vault, "sys/audit") == before
    assert not file.exists()


def test_a_failure_says_what_was_done_before(ansible: Ansible, vault: PrivateVault, name: str) -> None:
    policy = {"path": f"sys/policies/acl/{name}", "data": {"policy": 'path "a" {\n  capabilities = ["read"]\n}\n'}}
    bad = {"path": f"sys/policies/acl/{name}-bad", "data": {"policy": "no policy"}}
    unknown = {"path": f"auth/token/roles/{name}", "data": {"token_tll": "10s"}}
    twice, failed, ignored = ansible.run(resources(policy, policy), resources(policy, bad, unknown), resources(unknown))
    assert "found twice" in failure(twice)
    assert twice["resources"] == []
    assert failure(failed).startswith(f"sys/policies/acl/{name}-bad: ")
    assert f"(1 of 3 resources were done before; changed: sys/policies/acl/{name})" in failed["msg"]
    assert failed["changed"]
    assert [entry["path"] for entry in failed["resources"]] == [f"sys/policies/acl/{name}"]
    assert read(vault, f"sys/policies/acl/{name}")
    assert f"auth/token/roles/{name}: Vault did not accept the field token_tll: it knows " in failure(ignored)


def test_absent_deletes_what_may_be_deleted(ansible: Ansible, vault: PrivateVault, name: str) -> None:
    vault.write(f"sys/mounts/{name}", type="transit")
    vault.write(f"{name}/keys/k")
    key, mount = ({"path": path, "state": "absent"} for path in (f"{name}/keys/k", f"sys/mounts/{name}"))
    kept, foretold, gone, second = ansible.run(
        resources(key), resources(mount, check_mode=True), resources(mount), resources(mount)
    )
    assert "deletion_allowed" in failure(kept)
    assert changes([foretold, gone, second]) == [True, True, False]
    assert f"{name}/" not in read(vault, "sys/mounts")


def test_a_secret_field_is_sent_when_needed_and_never_shown(ansible: Ansible, vault: PrivateVault, name: str) -> None:
    long = f"eyJ-{uuid.uuid4().hex}"
    ok(ansible.run(resources({"path": f"sys/auth/{name}", "data": {"type": "kubernetes"}}))[0])
    config = {
        "path": f"auth/{name}/config",
        "data": {"kubernetes_host": "https://127.0.0.1:1", "disable_local_ca_jwt": True},
        "secret_data": {"token_reviewer_jwt": long},
    }
    unset = {**config, "secret_data": {}}
    first, same, refreshed, lost = ansible.run(
        resources(config),
        resources(config),
        resources({**config, "refresh": True}),
        resources({**unset, "data": {"kubernetes_host": "https://127.0.0.1:2"}}),
    )
    assert changes([first, same, refreshed]) == [True, False, True]
    assert refreshed["resources"][0]["fields"] == ["token_reviewer_jwt"]
    assert "Vault holds token_reviewer_jwt, which cannot be read" in failure(lost)
    # Secrets that are common words must not garble the output.
    short = {
        **config,
        "data": {"kubernetes_host": "https://127.0.0.1:3", "disable_local_ca_jwt": True},
        "secret_data": {"token_reviewer_jwt": "auth"},
    }
    # First, since Ansible quotes the lines of the playbook before the one that fails.
    nowhere = resources({**config, "path": f"auth/{name}-none/config"}, ignore_errors=True)
    tasks = [nowhere, *(resources({**entry, "refresh": True}) for entry in (config, short))]
    output = ansible.play(*tasks, arguments=("-vvvv", "--diff")).output
    assert output.count(f"--- before: auth/{name}/config") == 2
    assert f"auth/{name}-none/config: " in output
    for secret in (long, "auth"):
        assert f'"{secret}"' not in output
        assert f": {secret}\n" not in output
    assert "********/" not in output
    assert long not in output


def test_a_denied_request_names_path_and_capability(ansible: Ansible, vault: PrivateVault, name: str) -> None:
    policy = {"path": f"sys/policies/acl/{name}", "data": {"policy": 'path "a" {\n  capabilities = ["read"]\n}\n'}}
    mount = {"path": f"sys/auth/{name}", "data": {"type": "kubernetes"}}
    key = {"path": f"{name}/keys/k", "data": {"type": "aes256-gcm96", "exportable": True}}
    vault.write(f"sys/mounts/{name}", type="transit")
    rule = {"capabilities": ["create", "read", "update", "sudo"], "denied_parameters": {"exportable": []}}
    vault.write(f"sys/policies/acl/{name}-keys", policy=json.dumps({"path": {f"{name}/keys/*": rule}}))
    tokens = [
        token_for(vault, {}),
        token_for(vault, {f"sys/policies/acl/{name}": ["read"]}),
        token_for(vault, {f"sys/auth/{name}": ["create", "read", "update"]}),
        vault.write("auth/token/create", policies=[f"{name}-keys"])["auth"]["client_token"],
        "hvs.unknown",
    ]
    said = [
        failure(result)
        for result in ansible.run(
            *(
                {"vault_resource": {"resources": [entry], "vault_token": token}}
                for token, entry in zip(tokens, (policy, policy, mount, key, policy), strict=True)
            )
        )
    ]
    assert said[0].startswith(f"sys/policies/acl/{name}: ")
    assert "lack the capability read on this path" in said[0]
    assert "lack the capability create or update on this path" in said[1]
    assert "lack the capability sudo on this path" in said[2]
    assert "allow this path only with other parameters" in said[3]
    assert "invalid token" in said[4]


def test_a_certificate_that_is_not_to_be_trusted_is_refused(
    ansible: Ansible, vault: PrivateVault, tmp_path: Path
) -> None:
    other = str(Authority(tmp_path, "other").file)
    policy = {"path": "sys/policies/acl/x", "data": {"policy": "# x"}}
    init = {"keys_file": str(tmp_path / "keys"), "root_token_file": str(tmp_path / "token")}
    cases: list[tuple[dict[str, str], str]] = [
        ({"vault_ca_cert": other}, "by vault_ca_cert (ca_cert is that of Kubernetes)"),
        ({"vault_url": vault.expired_url}, "expired"),
        ({"vault_url": vault.misnamed_url}, "wrong host name"),
        ({"vault_url": vault.url.replace("https", "http")}, "vault_url: found one with the scheme 'http'"),
        ({"vault_ca_cert": str(tmp_path / "none")}, "vault_ca_cert: "),
    ]
    given = {"vault_token": vault.root.token}  # the variable is for the server of VAULT_ADDR
    tasks = [{"vault_resource": {"resources": [policy], **given, **options}} for options, _ in cases]
    tasks += [{"vault_init": {**init, **options}} for options, _ in cases]
    messages = [failure(result) for result in ansible.run(*tasks)]
    for message, (_, expected) in zip(messages, cases * 2, strict=True):
        assert expected in message
    assert not list(tmp_path.glob("keys*"))


def test_the_environment_of_other_programs_has_no_say(ansible: Ansible, vault: PrivateVault, tmp_path: Path) -> None:
    """Common HTTP libraries take the CA, the proxy and credentials from these variables."""
    nobody = f"http://127.0.0.1:{free_port()}"
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password from-netrc\n")
    (tmp_path / ".netrc").chmod(0o600)
    (tmp_path / ".vault-token").write_text("not-this-one")
    other = str(Authority(tmp_path, "other").file)
    env = {
        **dict.fromkeys(("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "VAULT_CAPATH"), other),
        **dict.fromkeys(("HTTPS_PROXY", "https_proxy", "ALL_PROXY"), nobody),
        "HOME": str(tmp_path),
        "NETRC": str(tmp_path / ".netrc"),
        "VAULT_SKIP_VERIFY": "true",
    }
    policy = {"path": f"sys/policies/acl/p{uuid.uuid4().hex}", "data": {"policy": "# of nothing"}}
    task = resources(policy)
    trusting_other = {"vault_resource": {"resources": [policy], "vault_ca_cert": other}}
    # By Ansible: a library may read a variable when it is imported, so before this test in this process.
    good, refused = ansible.play(task, {**trusting_other, "ignore_errors": True}, callback=RESULTS, env=env).results
    assert ok(good)["changed"]
    assert "unknown authority" in failure(refused)
    (entry,) = [
        json.loads(line)
        for line in vault.audit.read_text().splitlines()
        if policy["path"] in line and '"type":"request"' in line and '"operation":"update"' in line
    ]
    assert "authorization" not in {header.lower() for header in entry["request"].get("headers", {})}


def test_options_win_over_the_environment(ansible: Ansible, vault: PrivateVault, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{vault.root.token}\n")
    policy = {"path": f"sys/policies/acl/p{uuid.uuid4().hex}", "data": {"policy": "# of nothing"}}
    (result,) = ansible.run(
        {"vault_resource": {"resources": [policy], "vault_token_file": str(file)}}, env={"VAULT_TOKEN": "hvs.stale"}
    )
    assert ok(result)["changed"]


def test_a_login_by_approle_is_revoked_in_the_end(ansible: Ansible, vault: PrivateVault, name: str) -> None:
    vault.write(f"sys/auth/{name}", type="approle")
    vault.policy(name, {f"sys/policies/acl/{name}-made": ["read", "create", "update"]})
    vault.write(f"auth/{name}/role/r", token_policies=[name])
    role_id = read(vault, f"auth/{name}/role/r/role-id")["role_id"]
    secret_id = vault.write(f"auth/{name}/role/r/secret-id")["data"]["secret_id"]
    revoked = vault.requests("auth/token/revoke-self")
    options = {
        "resources": [{"path": f"sys/policies/acl/{name}-made", "data": {"policy": "# of nothing"}}],
        "vault_auth_method": "approle",
        "vault_auth_mount": name,
        "vault_role_id": role_id,
    }
    good, bad = ansible.run(
        {"vault_resource": {**options, "vault_secret_id": secret_id}},
        {"vault_resource": {**options, "vault_secret_id": "wrong"}},
    )
    assert ok(good)["changed"]
    assert vault.requests("auth/token/revoke-self") == revoked + 1
    assert "log-in denied for AppRole" in failure(bad)


def test_documentation_is_found_by_short_and_by_full_name() -> None:
    names = [path.stem for path in (ROOT / "library").glob("*.py")]
    found = {}
    for prefix in ("", "kubevault.core."):
        asked = [prefix + name for name in names]
        run = subprocess.run(
            [BIN / "ansible-doc", "-t", "module", "-j", *asked], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        found[prefix] = {
            name.removeprefix(prefix): set(entry["doc"]["options"]) for name, entry in json.loads(run.stdout).items()
        }
    assert found[""] == found["kubevault.core."]
    assert set(found[""]) == set(names)
    assert {"vault_url", "resources"} <= found[""]["vault_resource"]
