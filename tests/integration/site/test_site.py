"""site.yml on the lab that it has set up: idempotence, check mode, and correction of drift."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import uuid
from pathlib import Path

import pytest
from support.ansible import BIN, ROOT, Run, play_in_lab, run_playbook
from support.servers import Decoy
from support.shell import misleading

from kubevault_lab import environment
from secretmanager.servers.vault import VaultClient

SECRETS = ("follow-the-white-rabbit", "correct-horse")


@pytest.fixture(scope="module")
def lab() -> Path:
    assert "KUBEVAULT_LAB" in os.environ, "run by tests/in-a-lab, or set KUBEVAULT_LAB to the folder of a lab"
    return Path(os.environ["KUBEVAULT_LAB"])


@pytest.fixture(scope="module")
def vault(lab: Path) -> VaultClient:
    env = environment.read(lab)
    token = Path(env["VAULT_TOKEN_FILE"]).read_text().strip()
    return VaultClient(env["VAULT_ADDR"], ca_cert=env["VAULT_CACERT"], token=token)


def read(vault: VaultClient, path: str) -> dict[str, object]:
    answer = vault.request("GET", path)
    assert answer.ok, answer
    return answer.json()["data"]


def secrets_in(run: Run, lab: Path) -> list[str]:
    """Return the secrets that a run printed."""
    token = Path(environment.read(lab)["VAULT_TOKEN_FILE"]).read_text().strip()
    reviewer = "eyJhbGciOi"  # how every JWT begins
    return [secret for secret in (*SECRETS, token, reviewer) if secret in run.output]


def test_check_mode_of_a_second_run_foretells_no_change_and_prints_no_secret(lab: Path) -> None:
    run = play_in_lab("site.yml", lab, "-vvvv", "--diff", "--check")
    assert run.changed == 0
    assert secrets_in(run, lab) == []


def test_a_second_run_reaches_the_inventory_s_servers_alone_and_prints_no_secret(lab: Path, tmp_path: Path) -> None:
    """The operator's shell names another server for each option."""
    decoy = Decoy()
    shell = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **misleading(decoy.url, tmp_path)}
    run = run_playbook("site.yml", "-vvvv", "--diff", env=shell)
    decoy.close()
    assert run.changed == 0
    assert secrets_in(run, lab) == []
    assert decoy.connections == 0


def test_check_mode_without_a_lab_says_so_and_makes_nothing(tmp_path: Path) -> None:
    run = play_in_lab("site.yml", tmp_path / "none", "--check")
    assert run.changed > 0
    assert "ports.json yet. A run without --check creates the servers" in " ".join(run.output.split())
    assert not (tmp_path / "none").exists()


def test_check_mode_without_servers_says_so_and_makes_nothing(tmp_path: Path) -> None:
    """The example's inventory, with this machine for its hosts: check mode does nothing there."""
    inventory = tmp_path / "inventory"
    shutil.copytree(ROOT / "inventories/example", inventory)
    local = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    hosts = {group: {"hosts": {f"{group}.example.org": local}} for group in ("vault", "microk8s")}
    hosts["controller"] = {"hosts": {"localhost": local}}
    (inventory / "hosts.yml").write_text(json.dumps({"all": {"children": hosts}}))
    run = play_in_lab("site.yml", tmp_path, "--check", "-i", inventory)
    said = " ".join(run.output.split())
    assert said.count("ca.crt yet. A run without --check creates the servers") == 6, "two servers, four plays"
    assert not {"pki", "secrets"} & {path.name for path in inventory.iterdir()}


def changes(run: Run) -> list[tuple[str, str]]:
    """Return what a run changed, or would change: the names of the tasks, and the items."""
    tasks = re.split(r"^TASK \[", run.output, flags=re.MULTILINE)[1:]
    return [
        (task.partition("]")[0], line) for task in tasks for line in task.splitlines() if line.startswith("changed:")
    ]


REVIEWER = "auth/kubernetes/config"
# A policy that was edited, and a role whose token lives longer.
DRIFT: dict[str, dict[str, object]] = {
    "sys/policies/acl/kubevault-reader-aes256-key": {
        "policy": 'path "transit/decrypt/*" {\n  capabilities = ["update"]\n}\n'
    },
    "auth/kubernetes/role/demo": {
        "bound_service_account_names": ["default"],
        "bound_service_account_namespaces": ["default"],
        "audience": "vault",
        "token_ttl": "1h",
        "token_max_ttl": "1h",
        "token_policies": ["kubevault-reader-aes256-key"],
    },
}


@pytest.fixture
def before_drift(vault: VaultClient) -> dict[str, dict[str, object]]:
    """What was in Vault, by its path, before somebody changed it by hand."""
    before = {path: read(vault, path) for path in (*DRIFT, REVIEWER)}
    kept = {name: before[REVIEWER][name] for name in ("kubernetes_host", "kubernetes_ca_cert", "disable_local_ca_jwt")}
    # Vault does not tell the reviewer's token.
    assert vault.request("POST", REVIEWER, {**kept, "token_reviewer_jwt": "gone"}).ok
    for path, body in DRIFT.items():
        assert vault.request("POST", path, body).ok
        assert read(vault, path) != before[path]
    return before


def test_check_mode_foretells_what_is_new_and_what_was_changed_by_hand(
    lab: Path, vault: VaultClient, before_drift: dict[str, dict[str, object]]
) -> None:
    """New are a key, a namespace, a workload and a Secret, each of which needs those before it."""
    new = f"new-{uuid.uuid4().hex[:8]}"
    workload = {"role": new, "service_account": new, "namespace": new, "reads": [new], "secrets": [new]}
    inventory = {
        "kubevault_transit_keys": [{"name": "aes256-key"}, {"name": new, "derived": True}],
        "kubevault_workloads": [
            {
                "role": "demo",
                "service_account": "default",
                "namespace": "default",
                "reads": ["aes256-key"],
                "secrets": ["matrix-secrets"],
                "watch": True,
            },
            {
                "role": f"{new}-too",
                "service_account": "default",
                "namespace": "default",
                "reads": ["aes256-key", new],
                "secrets": ["matrix-secrets", new],
            },
            workload,
        ],
        "kubevault_secrets": [
            {"name": new, "namespace": namespace, "transit_key": new, "data": {"a": "follow-the-white-rabbit"}}
            for namespace in ("default", new)
        ],
    }
    playbooks = [f"playbooks/{name}.yml" for name in ("seal", "verify")]
    runs = [
        play_in_lab("playbooks/trust.yml", lab, *playbooks, *check, "-e", json.dumps(inventory))
        for check in (["--check"], [], [])
    ]
    assert f"namespace {new}. Check mode assumes that they would be created before" in " ".join(runs[0].output.split())
    assert changes(runs[0]) == changes(runs[1])
    assert len(changes(runs[1])) == 6, "keys, roles, two workloads, Vault's CA, Secrets"
    assert changes(runs[2]) == []
    assert {path: read(vault, path) for path in before_drift} == before_drift


def test_what_cannot_change_in_a_key_is_an_error(lab: Path, vault: VaultClient) -> None:
    """So is each such field: test_vault_modules.py."""
    before = vault.request("GET", "transit/keys/aes256-key").json()["data"]
    keys = {"kubevault_transit_keys": [{"name": "aes256-key", "derived": True}]}
    run = play_in_lab("playbooks/trust.yml", lab, "-e", json.dumps(keys), fails=True)
    message = " ".join(run.output.split())
    assert "transit/keys/aes256-key: derived: found" in message
    assert "is fixed when a key is created" in message
    assert vault.request("GET", "transit/keys/aes256-key").json()["data"] == before


def test_a_workload_that_would_read_and_seal_with_a_key_is_refused(lab: Path) -> None:
    workload = {
        "role": "both",
        "service_account": "default",
        "namespace": "default",
        "reads": ["aes256-key"],
        "seals": ["aes256-key"],
    }
    run = play_in_lab("playbooks/trust.yml", lab, "-e", json.dumps({"kubevault_workloads": [workload]}), fails=True)
    assert "workload both both reads and seals with aes256-key" in " ".join(run.output.split())
