"""The drill of docs/servers.md, after all other tests: all hosts of Vault are lost, and each Secret is read again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.ansible import Run
from testinfra.host import Host

from kubevault_lab.hosts import machine

pytestmark = pytest.mark.skipif("KUBEVAULT_HOSTS_SANDBOX" not in os.environ, reason="hosts of a user are not destroyed")


@pytest.fixture(scope="module")
def snapshot(vaults: dict[str, Host], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot that was copied off its host."""
    for host in vaults.values():
        host.check_output("systemctl start vault-snapshot")
    taken = [path for host in machine.hosts() for path in host.root.glob("var/lib/vault-snapshot/vault-*.snap.age")]
    newest = max(taken, key=lambda path: path.name)
    copy = tmp_path_factory.mktemp("backup") / newest.name
    copy.write_bytes(newest.read_bytes())
    return copy


@pytest.fixture(scope="module")
def restore(run: Callable[..., Run], snapshot: Path) -> Callable[..., Run]:
    """Runs the playbook, with an answer to its question."""
    key = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "backup.key"

    def restore(answer: str, *, fails: bool = False) -> Run:
        given = {
            "vault_server_snapshot": str(snapshot),
            "vault_server_snapshot_decrypt": ["age", "--decrypt", "--identity", str(key)],
            "kubevault_restore_confirmed": answer,
        }
        return run("playbooks/restore.yml", f"--extra-vars={json.dumps(given)}", fails=fails)

    return restore


def test_nothing_is_restored_unless_it_is_wanted(restore: Callable[..., Run]) -> None:
    refused = restore("no", fails=True)
    assert "Nothing was changed." in refused.output
    assert refused.changed == 0


def test_the_drill(
    restore: Callable[..., Run], run: Callable[..., Run], inventory: Path, groups: dict[str, list[str]]
) -> None:
    kept = {path.name: path.read_bytes() for path in (inventory / "secrets").iterdir()}
    for host in machine.hosts():
        if host.name in groups["vault"]:
            host.remove()
    machine.create(groups["vault"])
    restored = restore("yes")
    # What each workload read, by its own service account.
    assert "shop/shop: shop-database" in restored.output
    assert {path.name: path.read_bytes() for path in (inventory / "secrets").iterdir()} == kept
    assert run("site.yml", "--limit=vault:controller").changed == 0
