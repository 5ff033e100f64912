"""Values of a wrong type, or in the wrong place: named by the option, and shown nowhere."""

from __future__ import annotations

from base64 import b64encode
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import TEXT, play
from support.modules import run_module
from support.sealing import Chain

from secretmanager import SecretManager
from secretmanager.errors import ConfigError
from secretmanager.servers.kubernetes import KubernetesClient

SECRET = "follow-the-white-rabbit"
TOKEN = f"hvs.{SECRET}"
PEM = f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n"

Options = dict[str, Any]

WRONG: list[tuple[str, Options, str]] = [
    ("kubevault_secret", {"data": SECRET}, "data: found str; allowed is a dict"),
    ("kubevault_secret", {"data": "{" + SECRET}, "data: found str"),
    ("kubevault_secret", {"data": f"a={SECRET}"}, "data: found str"),
    ("kubevault_secret", {"data": [SECRET]}, "data: found list"),
    ("kubevault_secret", {"binary_data": [SECRET]}, "binary_data: found list"),
    ("kubevault_secret", {"name": None, "secrets": SECRET}, "secrets: found str; allowed is a list of dicts"),
    ("kubevault_secret", {"name": None, "secrets": {"data": {"a": SECRET}}}, "secrets: found dict"),
    ("kubevault_secret", {"name": None, "secrets": [[SECRET]]}, "secrets: found list"),
    ("kubevault_secret", {"name": None, "secrets": [1, {"data": {"a": SECRET}}]}, "secrets: found list"),
    ("kubevault_secret", {"name": None, "secrets": [{"data": [SECRET]}]}, "secrets[0].data: found list"),
    ("kubevault_secret", {"name": None, "data": None, "secrets": [{"dat": {"a": SECRET}}]}, "secrets.dat"),
    ("kubevault_secret", {"datas": {"a": SECRET}}, "Unsupported parameters"),
    ("kubevault_secret", {"vault_tokn": SECRET}, "Unsupported parameters"),
    ("kubevault_secret", {"vault_token": {"a": SECRET}}, "vault_token: found dict; allowed is text"),
    ("kubevault_secret", {"token": [SECRET]}, "token: found list"),
    ("kubevault_secret", {"vault_jwt": {"a": SECRET}}, "vault_jwt: found dict"),
    ("kubevault_secret", {"secret_id": [SECRET]}, "secret_id: found list"),
    ("kubevault_secret", {"api_key": {"a": SECRET}}, "api_key: found dict"),
    ("kubevault_secret", {"redis_url": {"a": SECRET}}, "redis_url: found dict"),
    ("kubevault_secret", {"redis_password_file": {"a": SECRET}}, "redis_password_file: found dict"),
    ("kubevault_secret", {"vault_token_file": TOKEN}, "vault_token_file: found something else"),
    ("kubevault_secret", {"client_key": PEM}, "client_key: found something else"),
    ("kubevault_secret", {"kubeconfig": f"users: [{SECRET}]\nkind: Config"}, "kubeconfig: found something else"),
    ("kubevault_secret", {"kubeconfig": [SECRET]}, "kubeconfig: found list"),
    ("kubevault_secret", {"kubeconfig": {"current-context": "a", "contexts": SECRET}}, "contexts is not a list"),
    ("kubevault_read_check", {"kubeconfig": [SECRET]}, "kubeconfig: found list"),
    ("kubevault_secret_info", {"kubeconfig": [SECRET]}, "kubeconfig: found list"),
    ("vault_kubernetes_login_info", {"kubeconfig": [SECRET]}, "kubeconfig: found list"),
    ("vault_init", {"keys_file": {"a": SECRET}}, "keys_file: found dict"),
    ("vault_token", {"path": TOKEN}, "path: found something else"),
    ("vault_resource", {"resources": [{"path": "a/b", "secret_data": SECRET}]}, "resources[0].secret_data: found str"),
    ("vault_resource", {"resources": [{"path": "a/b", "secret_data": [SECRET]}]}, "secret_data: found list"),
    ("vault_resource", {"resources": [[{"secret_data": {"a": SECRET}}]]}, "resources: found list"),
    ("vault_resource", {"resources": {"path": "a/b", "secret_data": {"a": SECRET}}}, "resources: found dict"),
    ("vault_resource", {"resources": [{"path": "a/b", "secret_dat": {"a": SECRET}}]}, "resources.secret_dat"),
]

LOOKUPS = [
    ("token={{'a': secret}}", "token: found dict; allowed is text"),
    ("vault_jwt=[secret]", "vault_jwt: found list"),
    ("vault_secret_id={{'a': secret}}", "vault_secret_id: found dict"),
    ("api_key=[secret]", "api_key: found list"),
    ("kubeconfig=[secret]", "kubeconfig: found list; allowed is text or dict"),
    ("kubeconfig='kind: Config\n' ~ secret", "kubeconfig: found something else"),
    ("vault_token_file='hvs.' ~ secret", "found something else than a path"),
]


def templated(value: object, variables: Options) -> object:
    """Return an option with variables for its secrets: Ansible quotes the playbook where a task fails."""
    if isinstance(value, dict):
        return {key: templated(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [templated(item, variables) for item in value]
    if not isinstance(value, str) or SECRET not in value:
        return value
    variables[f"v{len(variables)}"] = value
    return f"{{{{ v{len(variables) - 1} }}}}"


def test_no_module_shows_what_it_found(chain: Chain, tmp_path: Path, env: dict[str, str]) -> None:
    """Secrets are variables, as playbooks have them, and beside them is another one that nothing is wrong with."""
    other = f"{SECRET}-too"
    place = {"name": "x", "namespace": "default", "transit_key": "k"}
    base = {"kubevault_secret": {**place, "data": {"a": "b"}, "vault_token": other}}
    variables: Options = {}
    tasks = []
    for module, options, message in WRONG:
        task = {module: {key: value for key, value in {**base.get(module, {}), **options}.items() if value is not None}}
        result = run_module(task, tmp_path, env)
        assert result["failed"], (module, options)
        assert message in result["msg"], (module, options, result["msg"])
        assert "bug" not in result["msg"], (module, options)
        assert SECRET not in str(result), (module, options)
        tasks.append({module: templated(task[module], variables), "ignore_errors": True})
    text = play(tasks, tmp_path, env, "-vvvv", "--diff", variables=variables, callback=TEXT).output
    assert text.count("...ignoring") == len(WRONG)
    for _, _, message in WRONG:
        assert message in text, message
    assert SECRET not in text


def test_no_lookup_shows_what_it_found(tmp_path: Path, env: dict[str, str]) -> None:
    tasks = []
    for options, _ in LOOKUPS:
        expression = "{{ lookup('kubevault', 'a/b', " + options.replace("{{", "{").replace("}}", "}") + ") }}"
        tasks.append({"ansible.builtin.debug": {"msg": expression}, "ignore_errors": True})
    run = play(tasks, tmp_path, env, "-vvvv", variables={"secret": SECRET}, callback=TEXT)
    for _, message in LOOKUPS:
        assert message in run.output, message
    assert SECRET not in run.output


def inline(chain: Chain) -> Options:
    """Return the cluster's kubeconfig with its certificates inside."""
    content: Options = yaml.safe_load(Path(chain.kubeconfig).read_text())
    for kind, names in (("cluster", ["certificate-authority"]), ("user", ["client-certificate", "client-key"])):
        for entry in content[f"{kind}s"]:
            for name in names:
                assert f"{name}-data" in entry[kind] or name in entry[kind]
                if path := entry[kind].pop(name, None):
                    entry[kind][f"{name}-data"] = b64encode(Path(path).read_bytes()).decode()
    return content


def test_a_kubeconfig_as_a_dict(chain: Chain, name: str, tmp_path: Path, env: dict[str, str]) -> None:
    bare = {key: value for key, value in env.items() if not key.startswith("K8S_AUTH")}
    content = inline(chain)
    task = {"name": name, "namespace": chain.namespace, "transit_key": "derived", "kubeconfig": "{{ kubeconfig }}"}
    expression = f"{{{{ lookup('kubevault', '{chain.namespace}/{name}/a', kubeconfig=kubeconfig, token=reader) }}}}"
    variables = {"kubeconfig": content, "reader": chain.token_for({"transit/decrypt/derived": ["update"]})}
    tasks: list[Options] = [
        {"kubevault_secret": {**task, "data": {"a": "sesame"}}},
        {"kubevault_secret_info": {key: task[key] for key in ("name", "namespace", "kubeconfig")}},
        {"ansible.builtin.debug": {"msg": expression}},
    ]
    run = play(tasks, tmp_path, bare, "-vvvv", variables=variables, callback=TEXT)
    for name_of_field in ("client-key-data", "client-certificate-data"):
        assert content["users"][0]["user"][name_of_field][:40] not in run.output
    assert '"msg": "sesame"' in run.output or "msg: sesame" in run.output


def test_the_client_takes_a_kubeconfig_as_a_dict(chain: Chain, name: str) -> None:
    chain.seal(chain.wanted(name, {"a": b"{}"}))
    config = {"SOURCE": "KUBEVAULT", "kube_config": inline(chain), "vault_url": chain.vault.url, "auth": "token"}
    assert "client-key-data" not in repr(
        SecretManager({**config, "vault_token": "x", "ca_cert": chain.vault.ca}).config
    )
    with closing(KubernetesClient.from_kubeconfig(inline(chain))) as kubernetes:
        assert kubernetes.get_secret(chain.namespace, name)["metadata"]["name"] == name


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("token", 83, "user 'u': token is of type int; allowed is text, so quote it"),
        ("client-key-data", [SECRET], "user 'u': client-key-data is of type list"),
        ("tokenFile", {"a": SECRET}, "user 'u': tokenFile is of type dict"),
        ("exec", SECRET, "user 'u': exec is of type str; allowed is a mapping"),
    ],
)
def test_a_field_of_a_wrong_type(field: str, value: object, message: str) -> None:
    content = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {field: value}}],
    }
    with pytest.raises(ConfigError, match=r"^kubeconfig: ") as caught:
        KubernetesClient.from_kubeconfig(content)
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)
