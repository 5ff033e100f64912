"""The Ansible modules and the lookup plugin, as playbooks use them, on real servers."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from support.ansible import BIN, TEXT, play
from support.modules import Result, run_modules
from support.sealing import SEALER, Chain

from secretmanager.servers.kubernetes import KubernetesClient

PLAIN = "follow-the-white-rabbit"


def seal(chain: Chain, name: str, /, **options: Any) -> dict[str, Any]:
    """Return a task."""
    base = {"name": name, "namespace": chain.namespace, "transit_key": "derived"}
    return {"kubevault_secret": {key: value for key, value in {**base, **options}.items() if value is not None}}


def test_what_a_task_changes_and_what_a_rerun_does_not(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str]
) -> None:
    first = seal(chain, name, data={"secrets.json": {"username": "neo", "port": 1}, "text": PLAIN})
    edited = seal(chain, name, data={"text": "another"}, behavior="replace", labels={"app": "x"})
    tasks = [{**first, "check_mode": True}, first, first, {**edited, "check_mode": True}, edited]
    results = run_modules(tasks, tmp_path, env)
    assert [result["changed"] for result in results] == [True, True, False, True, True]
    checked, created, rerun, edit_checked, edit = (result["secret"] for result in results)
    assert checked == created
    assert edit_checked == edit
    assert (created["action"], created["scope"], created["added"]) == ("created", "strict", ["secrets.json", "text"])
    assert rerun["action"] == "unchanged"
    assert (edit["updated"], edit["removed"], edit["metadata"]) == (["text"], ["secrets.json"], ["labels"])
    assert chain.opened(name) == {"text": b"another"}


def test_a_diff_shows_structure_and_nothing_shows_a_value(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str]
) -> None:
    tasks = [
        seal(chain, name, data={"one": PLAIN, "short": "1", "json": {"password": f"{PLAIN}-json"}}),
        seal(chain, name, data={"one": f"{PLAIN}-2", "two": "default"}, binary_data={"three": "c2Vzc2FtZQ=="}),
        seal(chain, name, data={"bad": [f"{PLAIN}-bad"]}, binary_data={"bad": "c2Vzc2FtZQ=="}),
    ]
    run = play(tasks, tmp_path, env, "--diff", "-vvv", callback=TEXT, fails=True)
    assert "one: sealed again" in run.output
    assert "two: sealed" in run.output
    assert "binary_data[bad]: the data key is given twice" in run.output
    for secret in (PLAIN, "c2Vzc2FtZQ", "sesame", chain.token, base64.b64encode(PLAIN.encode()).decode()):
        assert secret not in run.output
    # Short values are not masked in all other texts.
    assert f"{chain.namespace}/{name} (created)" in run.output
    again = [{**task, "diff": True} for task in tasks[:2]]
    (diff,) = run_modules(again, tmp_path, env)[-1]["diff"]
    assert (diff["before"], diff["after"]) == ({"data": {"one": "sealed"}}, {"data": {"one": "sealed again"}})


def test_kinds_of_values(chain: Chain, name: str, tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "binary").write_bytes(b"\x00\xff\n")
    (tmp_path / "vaulted").write_text(PLAIN)
    (tmp_path / "template.j2").write_text("password={{ matrix.password }}\n")
    password = tmp_path / "password"
    password.write_text("of ansible-vault\n")
    subprocess.run(
        [BIN / "ansible-vault", "encrypt", "--vault-password-file", password, tmp_path / "vaulted"],
        check=True,
        capture_output=True,
    )
    task = seal(
        chain,
        name,
        data={
            "dict": "{{ matrix }}",
            "list": [1, "two", None],
            "text": "ä\n",
            "template": "{{ lookup('template', 'template.j2') }}",
        },
        binary_data={"base64": "AAEC"},
        files={"binary": "binary", "vaulted": "vaulted"},
    )
    variables = {"matrix": {"user": "neo", "password": PLAIN}}
    run = play([task, task], tmp_path, env, "--vault-password-file", str(password), variables=variables)
    assert [result["changed"] for result in run.results] == [True, False]
    assert chain.opened(name) == {
        "dict": b'{"password": "%s", "user": "neo"}' % PLAIN.encode(),
        "list": b'[1, "two", null]',
        "text": "ä\n".encode(),
        "template": f"password={PLAIN}\n".encode(),
        "base64": b"\x00\x01\x02",
        "binary": b"\x00\xff\n",
        "vaulted": PLAIN.encode(),
    }


def test_a_batch(chain: Chain, name: str, tmp_path: Path, env: dict[str, str]) -> None:
    entries = [
        {"name": f"{name}-1", "data": {"a": "1"}},
        {"name": f"{name}-2", "data": {"a": "2"}, "transit_key": "plain", "labels": {"own": "y"}},
        {"name": f"{name}-3", "state": "absent"},
    ]
    task = seal(chain, name, name=None, secrets=entries, labels={"app": "x"})
    first, second = run_modules([task, task], tmp_path, env)
    assert (first["changed"], second["changed"]) == (True, False)
    told = [(item["action"], item["scope"]) for item in first["secrets"]]
    assert told == [("created", "strict"), ("created", "cluster-wide"), ("unchanged", None)]
    assert chain.secret(f"{name}-1")["metadata"]["labels"]["app"] == "x"
    assert chain.secret(f"{name}-2")["metadata"]["labels"].get("app") is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": None}, "one of the following is required: name, secrets"),
        ({"secrets": [], "data": {"a": "1"}}, "parameters are mutually exclusive: secrets|name"),
        ({"name": None, "secrets": [], "data": {"a": "1"}}, "parameters are mutually exclusive: secrets|data"),
        ({}, "nothing to seal: give one of data, binary_data, files, adopt or absent_keys"),
        ({"data": {"a": 7}}, "data[a] is a value of type int"),
        ({"data": {"a": "1"}, "namespace": None}, "namespace is missing"),
        ({"data": {"a": "1"}, "concurrency": 0}, "concurrency is 0; allowed is 1 or more"),
        ({"data": {"a": "1"}, "vault_token_file": "/nosuch"}, "no Vault token: /nosuch: No such file or directory"),
        (
            {"data": {"a": "1"}, "vault_ca_cert": "/nosuch"},
            "vault_ca_cert: /nosuch cannot be used: No such file",
        ),
        ({"data": {"a": "1"}, "kubeconfig": "/nosuch"}, "kubeconfig: /nosuch: No such file or directory"),
        ({"data": {"a": "1"}, "context": "nosuch"}, "context 'nosuch' is missing"),
        ({"data": {"a": "1"}, "host": "https://127.0.0.1:1"}, "is missing: host needs credentials"),
        (
            {"data": {"a": "1"}, "vault_auth_method": "approle"},
            "auth method approle needs role_id or role_id_file",
        ),
    ],
)
def test_bad_options(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str], options: dict[str, Any], message: str
) -> None:
    (result,) = run_modules([seal(chain, name, **options)], tmp_path, env, fails=True)
    assert message in result["msg"]
    assert not chain.api.list_namespaced_secret(chain.namespace, field_selector=f"metadata.name={name}").items


def passes(env: dict[str, str], folder: Path, *tasks: dict[str, Any]) -> list[Result]:
    """Return the results of tasks that neither fail nor warn."""
    results = run_modules(tasks, folder, env)
    assert all("warnings" not in result for result in results), results
    return results


def test_ways_to_log_in_to_vault(chain: Chain, name: str, tmp_path: Path, env: dict[str, str]) -> None:
    vault = chain.vault
    vault.policy("log-in", {**SEALER, "auth/token/revoke-self": ["update"]})
    vault.write("sys/auth/approle", type="approle")
    vault.write("auth/approle/role/sealer", token_policies=["log-in"], token_no_default_policy=True)
    role_id = vault.root.request("GET", "auth/approle/role/sealer/role-id").json()["data"]["role_id"]
    secret_id = vault.write("auth/approle/role/sealer/secret-id")["data"]["secret_id"]
    configuration = chain.api.api_client.configuration
    vault.write("sys/auth/elsewhere", type="kubernetes")
    kubernetes = KubernetesClient.from_kubeconfig(chain.kubeconfig)
    vault.write(
        "auth/elsewhere/config",
        kubernetes_host=configuration.host,
        kubernetes_ca_cert=Path(configuration.ssl_ca_cert).read_text(),
        token_reviewer_jwt=kubernetes.create_token("kube-system", "vault-auth", None),
        disable_local_ca_jwt=True,
    )
    bound = {"bound_service_account_names": ["default"], "bound_service_account_namespaces": [chain.namespace]}
    vault.write(
        "auth/elsewhere/role/sealer", **bound, audience="vault", token_policies=["log-in"], token_no_default_policy=True
    )
    chain.api.read_namespaced_service_account("default", chain.namespace)
    jwt = kubernetes.create_token(chain.namespace, "default", "vault")
    ways: list[dict[str, str]] = [
        {"vault_token": chain.token},
        {"token": chain.token},
        {"vault_token_file": str(tmp_path / "token")},
        {"vault_auth_method": "approle", "vault_role_id": role_id, "vault_secret_id": secret_id},
        {"auth_method": "approle", "role_id": role_id, "secret_id": secret_id},
        {
            "vault_auth_method": "kubernetes",
            "vault_auth_mount": "elsewhere",
            "vault_role": "sealer",
            "vault_jwt": jwt,
        },
    ]
    bare = {key: value for key, value in env.items() if key != "VAULT_TOKEN_FILE"}
    tasks = [seal(chain, name, data={"a": str(number)}, **way) for number, way in enumerate(ways)]
    assert [result["changed"] for result in passes(bare, tmp_path, *tasks)] == [True] * len(ways)
    accessors = vault.root.request("LIST", "auth/token/accessors").json()["data"]["keys"]
    displayed = [
        vault.write("auth/token/lookup-accessor", accessor=accessor)["data"]["display_name"] for accessor in accessors
    ]
    assert not [display for display in displayed if display.startswith(("approle", "elsewhere"))]
    by_variables = [
        {**bare, "VAULT_TOKEN": chain.token},
        {**bare, "VAULT_TOKEN": chain.token, "ANSIBLE_HASHI_VAULT_TOKEN": "not-a-token"},
        {**bare, "VAULT_TOKEN_FILE": str(tmp_path / "token"), "ANSIBLE_HASHI_VAULT_TOKEN": "not-a-token"},
        {**bare, "ANSIBLE_HASHI_VAULT_TOKEN": chain.token, "VAULT_TOKEN": ""},
        {
            **bare,
            "ANSIBLE_HASHI_VAULT_AUTH_METHOD": "approle",
            "ANSIBLE_HASHI_VAULT_ROLE_ID": role_id,
            "ANSIBLE_HASHI_VAULT_SECRET_ID": secret_id,
        },
    ]
    for variables in by_variables:
        (result,) = passes(variables, tmp_path, seal(chain, name, data={"a": str(len(ways) - 1)}))
        assert not result["changed"]


def test_ways_to_reach_kubernetes(chain: Chain, name: str, tmp_path: Path, env: dict[str, str]) -> None:
    configuration = chain.api.api_client.configuration
    token_config = yaml.safe_load(Path(chain.cluster.kubeconfig_for(tmp_path, ["get", "create", "update"])).read_text())
    api_key = token_config["users"][0]["user"]["token"]
    both = tmp_path / "both.conf"
    content = yaml.safe_load(Path(chain.kubeconfig).read_text())
    for kind in ("clusters", "users"):
        content[kind].append({**content[kind][0], "name": "second"})
    content["contexts"].append({"name": "second", "context": {"cluster": "second", "user": "second"}})
    content["current-context"] = "nosuch"
    both.write_text(yaml.safe_dump(content))
    ways = [
        {"kubeconfig": str(both), "context": "second"},
        {"host": configuration.host, "api_key": api_key, "ca_cert": configuration.ssl_ca_cert},
        {
            "host": configuration.host,
            "client_cert": configuration.cert_file,
            "client_key": configuration.key_file,
            "ssl_ca_cert": configuration.ssl_ca_cert,
        },
        {"api_key": api_key, "kubeconfig": chain.kubeconfig},
    ]
    bare = {key: value for key, value in env.items() if not key.startswith("K8S_AUTH")}
    passes(bare, tmp_path, *(seal(chain, name, data={"a": str(n)}, **way) for n, way in enumerate(ways)))
    (result,) = passes({**bare, "KUBECONFIG": chain.kubeconfig}, tmp_path, seal(chain, name, data={"a": "3"}))
    assert not result["changed"]


def test_a_manifest_for_git(chain: Chain, name: str, tmp_path: Path, env: dict[str, str]) -> None:
    dest = tmp_path / "manifest.yml"
    first = seal(chain, name, data={"a": PLAIN, "b": "2"}, dest=str(dest))
    passes(env, tmp_path, {**first, "check_mode": True})
    assert not dest.exists()
    (created,) = passes(env, tmp_path, first)
    assert (created["changed"], created["dest_changed"], created["secret"]["action"]) == (True, True, "created")
    written = dest.read_bytes()
    assert PLAIN.encode() not in written
    assert not chain.api.list_namespaced_secret(chain.namespace, field_selector=f"metadata.name={name}").items
    (rerun,) = run_modules([first], tmp_path, env)
    assert not rerun["changed"]
    assert dest.read_bytes() == written
    (applied,) = run_modules([{"kubevault_secret": {**first["kubevault_secret"], "apply": True}}], tmp_path, env)
    assert (applied["changed"], applied["dest_changed"]) == (True, False)
    assert dest.read_bytes() == written
    document = yaml.safe_load(written)
    assert chain.secret(name)["data"] == document["data"]
    assert chain.opened(name) == {"a": PLAIN.encode(), "b": b"2"}
    passes(env, tmp_path, seal(chain, name, data={"a": PLAIN, "b": "3"}, dest=str(dest)))
    before, after = written.decode().splitlines(), dest.read_text().splitlines()
    changed = [line.split(":")[0].strip() for line, other in zip(before, after, strict=True) if line != other]
    assert changed == [".kubevault", "b"]


def test_a_manifest_as_written_can_be_applied_by_others(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str]
) -> None:
    dest = tmp_path / "manifest.yml"
    run_modules([seal(chain, name, data={"a": PLAIN}, dest=str(dest))], tmp_path, env)
    play([{"kubernetes.core.k8s": {"src": str(dest), "kubeconfig": chain.kubeconfig}}], tmp_path, env)
    assert chain.opened(name) == {"a": PLAIN.encode()}
    assert not run_modules([seal(chain, name, data={"a": PLAIN})], tmp_path, env)[0]["changed"]


def test_what_is_sealed_where(chain: Chain, name: str, tmp_path: Path, env: dict[str, str]) -> None:
    key = f"{name}-key"
    chain.vault.new_key(key, derived=True)
    token = chain.token_for({f"transit/encrypt/{key}": ["update"], f"transit/hmac/{key}-digest": ["update"]})
    (tmp_path / "token").write_text(token)
    passes(env, tmp_path, seal(chain, name, transit_key=key, data={"a": "1", "b": "2"}))
    chain.vault.write(f"transit/keys/{key}/rotate")
    passes(env, tmp_path, seal(chain, name, transit_key=key, data={"b": "3"}))
    info = {"kubevault_secret_info": {"name": name, "namespace": chain.namespace}}
    chain.api.patch_namespaced_secret(name, chain.namespace, {"stringData": {"plain": "x"}})
    (found,) = passes(env, tmp_path, info)[0]["secrets"]
    unknown = {"unreadable": None, "created": None, "age_days": None}  # a sealer may not read the key
    assert found == {
        "namespace": chain.namespace,
        "name": name,
        "transit_key": key,
        "scope": "strict",
        "newest_version": 2,
        "behind": True,
        "keys": {
            "a": {"version": 1, "behind": True, "managed": True, "damaged": False, "oldest_version": 1, **unknown},
            "b": {"version": 2, "behind": False, "managed": True, "damaged": False, "oldest_version": 2, **unknown},
        },
        "plain_keys": ["plain"],
        "missing_keys": [],
        "exposing_annotations": [],
        "error": None,
        "sealed_for": None,
        "key_missing": False,
    }
    chain.api.patch_namespaced_secret(
        name, chain.namespace, {"data": {"b": None}, "stringData": {"a": "vault:v1:QUJD"}}
    )
    for variables in (env, {key: value for key, value in env.items() if key != "VAULT_ADDR"}):
        (listed,) = passes(variables, tmp_path, {"kubevault_secret_info": {"namespace": chain.namespace}})
        (found,) = [item for item in listed["secrets"] if item["name"] == name]
        assert (found["keys"]["a"]["damaged"], found["missing_keys"]) == (True, ["b"])
        assert found["newest_version"] == (2 if "VAULT_ADDR" in variables else None)
    chain.api.patch_namespaced_secret(name, chain.namespace, {"stringData": {".kubevault": "{"}})
    (broken,) = run_modules([info], tmp_path, env)[0]["secrets"]
    assert "is damaged" in broken["error"]
    strict = {"kubevault_secret_info": {**info["kubevault_secret_info"], "fail_if": ["plain", "damaged", "behind"]}}
    (failed,) = run_modules([strict], tmp_path, env, fails=True)
    assert failed["msg"].splitlines()[0] == f"{chain.namespace}/{name}: damaged: .kubevault"
    missing = {"kubevault_secret_info": {"name": f"{name}-missing", "namespace": chain.namespace}}
    assert run_modules([missing], tmp_path, env)[0]["secrets"] == []


def test_the_lookup_reads_where_policy_permits(chain: Chain, name: str, tmp_path: Path, env: dict[str, str]) -> None:
    chain.seal(chain.wanted(name, {"a": b"one", "b": b'{"x": 1}', "binary": b"\xff"}))
    term = f"{chain.namespace}/{name}"
    reader = chain.token_for({"transit/decrypt/derived": ["update"]})

    def look(*expressions: str) -> list[Result]:
        tasks = [
            {"ansible.builtin.debug": {"msg": f"{{{{ {expression} }}}}"}, "ignore_errors": True}
            for expression in expressions
        ]
        return play(tasks, tmp_path, env).results

    (refused,) = look(f"lookup('kubevault', '{term}/a')")
    assert refused["failed"]
    assert "transit/decrypt/derived" in refused["msg"]
    assert "lack the capability update" in refused["msg"]
    (tmp_path / "token").write_text(reader)
    expected = {
        f"lookup('kubevault', '{term}/a')": "one",
        f"(lookup('kubevault', '{term}/b') | from_json).x": 1,
        f"query('kubevault', '{term}/a', '{term}/b')": ["one", '{"x": 1}'],
        f"lookup('kubevault', '{term}', base64=true).binary": "/w==",
    }
    refusals = {
        f"lookup('kubevault', '{term}')": "data key binary is not valid UTF-8; set base64",
        "lookup('kubevault', 'x')": "allowed is NAMESPACE/NAME or NAMESPACE/NAME/KEY",
        f"lookup('kubevault', '{term}/nosuch')": "there is no such data key",
    }
    results = look(*expected, *refusals)
    assert [result["msg"] for result in results[: len(expected)]] == list(expected.values())
    for result, refusal in zip(results[len(expected) :], refusals.values(), strict=True):
        assert result["failed"]
        assert refusal in result["msg"]


def test_a_task_waits_for_nobody_else(chain: Chain, name: str, tmp_path: Path, env: dict[str, str]) -> None:
    """A Secret of another owner is left alone, with an error; force or adopt takes it over."""
    chain.put(name, {"a": b"theirs"})
    fails, adopts = seal(chain, name, data={"a": "1"}), seal(chain, name, adopt=True)
    (refused,) = run_modules([fails], tmp_path, env, fails=True)
    assert "was not sealed here; set force to take over, or adopt" in refused["msg"]
    first, second = run_modules([adopts, adopts], tmp_path, env)
    assert (first["changed"], second["changed"]) == (True, False)
    assert first["secret"]["adopted"] == ["a"]
    assert chain.opened(name) == {"a": b"theirs"}


def test_plaintext_over_all_sealed_values_does_not_pass(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str]
) -> None:
    chain.seal(chain.wanted(name, {"a": b"1"}))
    chain.api.patch_namespaced_secret(name, chain.namespace, {"stringData": {"a": "hunter2"}})
    options = {"namespace": chain.namespace, "fail_if": ["plain"]}
    (failed,) = run_modules([{"kubevault_secret_info": {**options, "name": name}}], tmp_path, env, fails=True)
    assert failed["msg"] == f"{chain.namespace}/{name}: plain: a"
    missing = {"kubevault_secret_info": {**options, "namespace": "nosuch"}}
    (failed,) = run_modules([missing], tmp_path, env, fails=True)
    assert 'namespaces "nosuch" not found' in failed["msg"]
    (foretold,) = run_modules([{**missing, "check_mode": True}], tmp_path, env)
    assert foretold["secrets"] == []


def test_an_empty_value_is_refused_unless_it_is_meant(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str]
) -> None:
    options = {"name": name, "namespace": chain.namespace, "transit_key": "derived", "data": {"a": ""}}
    (refused,) = run_modules([{"kubevault_secret": options}], tmp_path, env, fails=True)
    assert "data key a: the value is empty; set allow_empty if it is meant" in refused["msg"]
    (done,) = run_modules([{"kubevault_secret": {**options, "allow_empty": True}}], tmp_path, env)
    assert done["secret"]["added"] == ["a"]
    assert chain.opened(name) == {"a": b""}


def test_users_of_kubernetes_see_a_plain_error(chain: Chain, name: str, tmp_path: Path, env: dict[str, str]) -> None:
    env["K8S_AUTH_KUBECONFIG"] = chain.cluster.kubeconfig_for(tmp_path, ["get"])
    (refused,) = run_modules([seal(chain, name, data={"a": "1"})], tmp_path, env, fails=True)
    assert 'cannot create resource "secrets"' in refused["msg"]
    with pytest.raises(client.ApiException):
        chain.api.read_namespaced_secret(name, chain.namespace)


def test_the_vault_namespace_goes_with_each_request(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str]
) -> None:
    """Vault's community edition has no namespaces and ignores the header; its audit log shows that it was sent."""
    chain.vault.write("sys/config/auditing/request-headers/X-Vault-Namespace", hmac=False)
    before = len(chain.vault.audit.read_text().splitlines())
    passes(env, tmp_path, seal(chain, name, data={"a": "1"}, vault_namespace="team-a"))
    entries = [json.loads(line)["request"] for line in chain.vault.audit.read_text().splitlines()[before:]]
    shown = {entry["path"]: entry.get("headers") for entry in entries}
    header = {"x-vault-namespace": ["team-a"]}
    assert shown == {"transit/encrypt/derived": header, "transit/hmac/derived-digest": header}
