"""site.yml on the lab that it has set up: idempotence, check mode, and correction of drift."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

from support.ansible import BIN, ROOT, Run, play_in_lab, run_playbook
from support.change import Change, read, vault_of
from support.lab import Lab
from support.servers import Decoy
from support.shell import misleading

SECRETS = ("follow-the-white-rabbit", "correct-horse")


def secrets_in(run: Run, lab: Lab) -> list[str]:
    """Return the secrets that a run printed."""
    token = Path(lab.env["VAULT_TOKEN_FILE"]).read_text().strip()
    reviewer = "eyJhbGciOi"  # how every JWT begins
    return [secret for secret in (*SECRETS, token, reviewer) if secret in run.output]


def test_check_mode_of_a_second_run_foretells_no_change_and_prints_no_secret(lab: Lab) -> None:
    run = play_in_lab("site.yml", lab.folder, "-vvvv", "--diff", "--check")
    assert run.changed == 0
    assert secrets_in(run, lab) == []


def test_a_second_run_reaches_the_inventory_s_servers_alone_and_prints_no_secret(lab: Lab, tmp_path: Path) -> None:
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


def test_check_mode_foretells_what_is_new_and_what_was_changed_by_hand(lab: Lab, change: Change) -> None:
    foretold, done, again = change.runs
    assert f"namespace {change.name}. Check mode assumes that they would be created before" in " ".join(
        foretold.output.split()
    )
    assert changes(foretold) == changes(done)
    assert len(changes(done)) == 5, "keys, roles, workloads, Vault's CA, Secrets"
    assert changes(again) == []
    assert [secrets_in(run, lab) for run in change.runs] == [[]] * 3
    assert {path: read(vault_of(lab), path) for path in change.before} == change.before


def test_what_cannot_change_in_a_key_is_an_error(lab: Lab) -> None:
    """So is each such field: test_vault_modules.py."""
    vault = vault_of(lab)
    before = read(vault, "transit/keys/aes256-key")
    keys = [{"name": name, "derived": True} for name in ("aes256-key", "payments-key")]
    run = play_in_lab("playbooks/trust.yml", lab.folder, "-e", json.dumps({"kubevault_transit_keys": keys}), fails=True)
    message = " ".join(run.output.split())
    assert "transit/keys/aes256-key: derived: found" in message
    assert "is fixed when a key is created" in message
    assert read(vault, "transit/keys/aes256-key") == before


def test_a_workload_that_would_read_and_seal_with_a_key_is_refused(lab: Lab) -> None:
    workload = {
        "role": "both",
        "service_account": "default",
        "namespace": "default",
        "reads": ["aes256-key"],
        "seals": ["aes256-key"],
    }
    run = play_in_lab(
        "playbooks/trust.yml", lab.folder, "-e", json.dumps({"kubevault_workloads": [workload]}), fails=True
    )
    assert "workload both both reads and seals with aes256-key" in " ".join(run.output.split())
