"""The built and installed collection, and the modules by path, used by playbooks outside the repository."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import BIN, ROOT, TEXT, play
from support.collection import bare, build, install, run
from support.sealing import Chain, environment
from support.servers import Decoy
from support.shell import misleading

MODULES = sorted(path.stem for path in (ROOT / "library").glob("*.py"))
ON_HOSTS = {"remove_entries"}
"""Modules that run on any host, and need neither our package nor what the action plugin does for it."""
FILTERS = sorted(path.stem for path in (ROOT / "plugins/filter").glob("*.yml"))
PLUGINS = {"module": MODULES, "filter": FILTERS, "lookup": ["kubevault"]}
ROLES = sorted(path.name.replace("-", "_") for path in (ROOT / "roles").iterdir() if not path.name.startswith("lab-"))


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("artifact"))


@pytest.fixture(scope="session")
def installed(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(artifact, tmp_path_factory.mktemp("collections"))


def test_the_artifact_holds_real_files_and_nothing_that_is_not_its_own(artifact: Path) -> None:
    with tarfile.open(artifact) as tar:
        members = tar.getmembers()
    assert all(member.isfile() or member.isdir() for member in members)
    files = {member.name for member in members if member.isfile()}
    assert {f"plugins/modules/{name}.py" for name in MODULES} <= files
    assert {f"roles/{name}/tasks/main.yml" for name in ROLES} <= files
    own = {"MANIFEST.json", "FILES.json", "README.md", "LICENSE", "CHANGELOG.md", "changelogs/changelog.yaml"}
    shipped = ("plugins/", "meta/", "tests/sanity/", *(f"roles/{name}/" for name in ROLES))
    assert {name for name in files if not name.startswith(shipped)} == own


def test_the_artifact_s_roles_do_not_know_their_names_of_the_repository(artifact: Path) -> None:
    with tarfile.open(artifact) as tar:
        texts = {
            member.name: tar.extractfile(member) for member in tar.getmembers() if member.name.startswith("roles/")
        }
        contents = {name: file.read().decode() for name, file in texts.items() if file}
    names = "|".join(name.replace("_", "-") for name in ROLES if "_" in name)
    hyphenated = re.compile(rf"(?<![\w-])(?:{names})(?![\w-])")
    assert {name: hyphenated.findall(text) for name, text in contents.items() if hyphenated.search(text)} == {}
    assert "name: microk8s\n" in contents["roles/microk8s/tasks/install.yml"]  # the snap keeps its own name


def test_a_foreign_playbook_uses_the_roles_of_the_installed_collection(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str], installed: Path
) -> None:
    """Keys, trust and a policy by the roles, a sealed Secret by the module.

    The play names the servers, and the shell others, which nothing reaches. That a second run changes nothing is proven
    of the repository's roles, whose tasks these are.
    """
    (tmp_path / "root").write_text(chain.vault.root.token or "")
    (tmp_path / "play.yml").write_text(yaml.safe_dump([FOREIGN_PLAY]))
    servers = {name: env[name] for name in ("VAULT_ADDR", "VAULT_CACERT", "K8S_AUTH_KUBECONFIG")}
    servers["VAULT_TOKEN_FILE"] = str(tmp_path / "root")
    variables = {"namespace": chain.namespace, "secret": name, "key": f"foreign-{uuid.uuid4().hex[:8]}"}
    decoy = Decoy()
    misled = misleading(decoy.url, tmp_path)
    shell = {**env, "ANSIBLE_COLLECTIONS_PATH": f"{installed}:{posix_collections()}", **misled}
    given = json.dumps({**variables, "servers": servers, "only": {**dict.fromkeys(misled, ""), **servers}})
    command = ["ansible-playbook", "-i", "localhost,", "-c", "local", "play.yml", "-e", given]
    output = run(command, bare(shell, tmp_path), tmp_path)
    decoy.close()
    assert "changed=0" not in output
    assert decoy.connections == 0
    assert chain.vault.root.read_key(variables["key"])["derived"]
    policy = chain.vault.root.request("GET", f"sys/policies/acl/kubevault-reader-{variables['key']}").json()["data"]
    assert f'path "transit/decrypt/{variables["key"]}"' in policy["policy"]
    assert chain.opened(name) == {"a": b"sesame"}


FOREIGN_PLAY = {
    "hosts": "localhost",
    "gather_facts": False,
    "vars": {"ansible_python_interpreter": sys.executable},
    "environment": "{{ servers }}",
    "roles": [
        {"role": "kubevault.core.transit_keys", "transit_keys": [{"name": "{{ key }}", "derived": True}]},
        {"role": "kubevault.core.microk8s_vault_auth"},
        {
            "role": "kubevault.core.vault_configure_for_kubevault",
            "vault_configure_for_kubevault_auth_mount": "foreign",
            "vault_configure_for_kubevault_kubernetes_host": "{{ microk8s_vault_auth_api_url }}",
            "vault_configure_for_kubevault_kubernetes_ca_cert": "{{ microk8s_vault_auth_ca_cert }}",
            "vault_configure_for_kubevault_token_reviewer_jwt": "{{ microk8s_vault_auth_token_reviewer_jwt }}",
            "vault_configure_for_kubevault_keys": ["{{ key }}"],
            "vault_configure_for_kubevault_workloads": [
                {
                    "role": "foreign",
                    "service_account": "default",
                    "namespace": "{{ namespace }}",
                    "reads": ["{{ key }}"],
                }
            ],
        },
    ],
    "tasks": [
        {
            # In a task of the user's own, the shell's variables count too. An empty one is not set.
            "environment": "{{ only }}",
            "kubevault.core.kubevault_secret": {
                "name": "{{ secret }}",
                "namespace": "{{ namespace }}",
                "transit_key": "{{ key }}",
                "data": {"a": "sesame"},
            },
        }
    ],
}


@pytest.fixture
def env(chain: Chain, tmp_path: Path) -> dict[str, str]:
    token_file = tmp_path / "token"
    token = chain.token_for({"transit/+/derived": ["update"], "transit/hmac/derived-digest": ["update"]})
    token_file.write_text(token)
    return environment(chain, token_file)


def tasks(chain: Chain, name: str, prefix: str = "") -> list[dict[str, Any]]:
    wanted = {"name": name, "namespace": chain.namespace, "transit_key": "derived", "data": {"a": "sesame"}}
    return [
        {f"{prefix}kubevault_secret": {**wanted, "files": {"file": "content.bin"}}},
        {f"{prefix}kubevault_secret": {**wanted, "files": {"file": "content.bin"}}},
        {f"{prefix}kubevault_secret_info": {"name": name, "namespace": chain.namespace}},
    ]


def test_a_foreign_playbook_uses_the_installed_collection(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str], installed: Path
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "content.bin").write_bytes(b"\x00")
    env = bare({**env, "ANSIBLE_COLLECTIONS_PATH": f"{installed}:{posix_collections()}"}, tmp_path)
    lookup = f"{{{{ lookup('kubevault.core.kubevault', '{chain.namespace}/{name}/a') }}}}"
    done = play(
        [*tasks(chain, name, "kubevault.core."), {"ansible.builtin.debug": {"msg": lookup}}],
        tmp_path,
        env,
        config=None,
    )
    assert [result["changed"] for result in done.results] == [True, False, False, False]
    assert list(done.results[2]["secrets"][0]["keys"]) == ["a", "file"]
    assert done.last["msg"] == "sesame"
    assert chain.opened(name) == {"a": b"sesame", "file": b"\x00"}


def test_values_are_in_no_file_on_their_way_to_the_module(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str], installed: Path
) -> None:
    """Ansible would write the module and its arguments to a file, which it shows as PUT, unless pipelining is set."""
    env = bare({**env, "ANSIBLE_COLLECTIONS_PATH": str(installed), "ANSIBLE_STDOUT_CALLBACK": "default"}, tmp_path)
    options = {"name": name, "namespace": chain.namespace}
    seal = {**options, "transit_key": "derived", "data": {"a": "sesame"}}
    two = [{"kubevault.core.kubevault_secret": seal}, {"kubevault.core.kubevault_secret_info": options}]
    output = play(two, tmp_path, env, "-vvv", config=None, callback=TEXT).output
    _, *shown = output.split("TASK [kubevault.core.")
    assert [(text.partition("]")[0], "PUT " in text) for text in shown] == [
        ("kubevault_secret", False),
        ("kubevault_secret_info", True),
    ]


def test_module_defaults_of_a_group_reach_its_modules(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str], installed: Path
) -> None:
    env = bare({**env, "ANSIBLE_COLLECTIONS_PATH": f"{installed}:{posix_collections()}"}, tmp_path)
    vault = {
        option: env.pop(variable)
        for option, variable in (("vault_url", "VAULT_ADDR"), ("vault_ca_cert", "VAULT_CACERT"))
    }
    defaults = {
        "group/kubevault.core.all": vault,
        "group/kubevault.core.kubernetes": {"kubeconfig": env.pop("K8S_AUTH_KUBECONFIG")},
    }
    seal, *_ = tasks(chain, name, "kubevault.core.")
    seal["kubevault.core.kubevault_secret"].pop("files", None)
    block = {"module_defaults": defaults, "block": [seal]}
    assert play([block], tmp_path, env, config=None).last["changed"]


def test_a_group_has_all_modules_that_take_its_options() -> None:
    """Of one that does not take them, Ansible would refuse the defaults."""
    groups = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"]
    names = [f"kubevault.core.{module}" for module in MODULES]
    variables = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections")}
    command = [BIN / "ansible-doc", "--json", *names]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    options = {name: page["doc"].get("options") or {} for name, page in json.loads(done.stdout).items()}
    for group, option in (("all", "vault_url"), ("kubernetes", "kubeconfig")):
        taking = [module for module in MODULES if option in options[f"kubevault.core.{module}"]]
        assert groups[group] == sorted(taking), group


def test_every_module_has_the_action_plugin() -> None:
    """By a link, which works by path too; for a redirect in meta/runtime.yml, ansible-lint asks for its target."""
    plugins = {path.stem: path.resolve().name for path in (ROOT / "plugins/action").glob("*.py")}
    theirs = dict.fromkeys(("k8s", "k8s_info", "k8s_cluster_info"), "k8s.py")  # of kubernetes.core, for our roles
    assert plugins == {**dict.fromkeys(set(MODULES) - ON_HOSTS, "kubevault_secret.py"), **theirs}


def test_a_foreign_playbook_uses_the_modules_by_path(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str]
) -> None:
    """Without the action plugin, the module itself reads files, on the host that it runs on."""
    (tmp_path / "content.bin").write_bytes(b"\x00")
    paths = {
        "ANSIBLE_COLLECTIONS_PATH": posix_collections(),
        "ANSIBLE_LIBRARY": str(ROOT / "library"),
        "ANSIBLE_MODULE_UTILS": str(ROOT / "plugins" / "module_utils"),
        "ANSIBLE_PIPELINING": "true",
    }
    env = bare({**env, **paths}, tmp_path)
    given = tasks(chain, name)
    for task in given[:2]:
        task["kubevault_secret"]["files"] = {"file": str(tmp_path / "content.bin")}
    done = play(given, tmp_path, env, config=None)
    assert [result["changed"] for result in done.results] == [True, False, False]
    assert chain.opened(name) == {"a": b"sesame", "file": b"\x00"}


def posix_collections() -> str:
    """Where the tests' callback plugin is: the collections that come with the package ansible."""
    import ansible_collections

    return str(Path(ansible_collections.__path__[0]).parent)


@dataclass(frozen=True)
class Documentation:
    """What ansible-doc shows of a plugin: its options, as data, and its page."""

    options: dict[str, Any]
    page: str


@pytest.fixture(scope="session")
def documentation(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Documentation]:
    """By the kind and the name of each plugin. One process shows many of them."""
    folder = tmp_path_factory.mktemp("documentation")
    env = bare({"ANSIBLE_COLLECTIONS_PATH": str(installed), "ANSIBLE_NOCOLOR": "1"}, folder)
    dump = json.loads(run(["ansible-doc", "--metadata-dump", "kubevault.core"], env, folder))["all"]
    shown: dict[tuple[str, str], Documentation] = {}
    for kind, names in PLUGINS.items():
        assert set(dump[kind]) == {f"kubevault.core.{name}" for name in names}
        text = run(["ansible-doc", "-t", kind, *dump[kind]], env, folder)
        for page in re.split(r"(?m)^(?=> )", text)[1:]:
            name = page.split()[2]
            shown[kind, name.rpartition(".")[2]] = Documentation(dump[kind][name]["doc"]["options"], page)
    return shown


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in PLUGINS.items() for name in names])
def test_ansible_doc_shows_every_option(
    documentation: dict[tuple[str, str], Documentation], kind: str, name: str
) -> None:
    plugin = documentation[kind, name]

    def check(options: dict[str, Any]) -> None:
        for option, facts in options.items():
            assert re.search(rf"^\s*[-=] {option}\b", plugin.page, re.MULTILINE), option
            assert facts["description"], option
            check(facts.get("suboptions") or {})

    check(plugin.options)
    own = {
        "service_account_token": "kubeconfig",
        "kubevault_rbac_info": "kubeconfig",
        **dict.fromkeys(ON_HOSTS, "path"),
    }
    assert {"filter": "_input"}.get(kind, own.get(name, "vault_url")) in plugin.options
