"""Seals that open by themselves: by a key in a second Vault, from the beginning or later, and back to unseal keys."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from support.ansible import ROOT, Ansible
from support.google_kms_stand_in import NAME, GoogleKmsStandIn
from support.google_stand_in import GoogleStandIn
from support.servers import Authority, PrivateVault, running, wait_until
from support.vault_nodes import VaultNodes

NAMES = ["vault-1", "vault-2", "vault-3"]


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateVault]:
    """The second Vault, which opens others."""
    server = PrivateVault(tmp_path_factory.mktemp("second"))
    with running(server, server.set_up):
        yield server


@pytest.fixture(scope="module")
def seal(second: PrivateVault, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Variables of vault-server for a seal by the second Vault, whose key roles/vault-seal-key made."""
    folder = tmp_path_factory.mktemp("seal")
    (folder / "admin").write_text(str(second.root.token))
    given = {
        "vault_seal_key_vault_url": second.url,
        "vault_seal_key_vault_ca_cert": second.ca,
        "vault_seal_key_admin_token_file": str(folder / "admin"),
        "vault_seal_key_token_file": str(folder / "token"),
    }
    role = {"import_role": {"name": str(ROOT / "roles/vault-seal-key")}, "vars": given}
    assert Ansible(folder).play(role).changed == 2
    assert Ansible(folder).play(role).changed == 0
    options = {"address": second.url, "mount_path": "transit/", "key_name": "vault-seal", "tls_ca_cert": second.ca}
    return {
        "vault_server_seal": "transit",
        "vault_server_seal_options": options,
        "vault_server_seal_token_file": str(folder / "token"),
    }


def status(nodes: VaultNodes, name: str) -> dict[str, Any]:
    return nodes.client(name, token="").request("GET", "sys/seal-status").json()


def opens_itself(nodes: VaultNodes, name: str) -> None:
    """Restart a node, and wait until it serves, without anybody's help."""
    nodes.supervise("restart", name)
    health = nodes.client(name, token="", retries=20)
    wait_until("an open Vault", lambda: health.request("GET", "sys/health?standbyok=true").status == 200)


def test_the_token_of_the_seal_may_use_its_key_and_nothing_else(second: PrivateVault, seal: dict[str, Any]) -> None:
    token = Path(seal["vault_server_seal_token_file"]).read_text().strip()
    about = second.root.request("GET", "auth/token/lookup-self", token=token).json()["data"]
    assert (about["policies"], about["period"], about["renewable"]) == (["default", "vault-seal"], 768 * 3600, True)
    second.new_key("other")
    body = {"plaintext": "dmFsdWU="}
    status = {
        path: second.root.request("POST", path, body, token=token).status
        for path in ("transit/encrypt/vault-seal", "transit/encrypt/other", "transit/keys/vault-seal/rotate")
    }
    assert status == {
        "transit/encrypt/vault-seal": 200,
        "transit/encrypt/other": 403,
        "transit/keys/vault-seal/rotate": 403,
    }


def test_a_vault_with_a_seal_of_the_second_opens_itself_and_has_recovery_keys(seal: dict[str, Any]) -> None:
    with VaultNodes(NAMES[:1], **seal, vault_server_key_shares=3, vault_server_key_threshold=2) as nodes:
        nodes.set_up()
        keys = json.loads((nodes.folder / "secrets/keys.json").read_text())
        assert (len(keys["recovery_keys_b64"]), keys["recovery_keys_threshold"]) == (3, 2)
        assert "unseal_keys_b64" not in keys
        opens_itself(nodes, "vault-1")
        token = Path(seal["vault_server_seal_token_file"]).read_text().strip()
        shown = nodes.play("-vvv", "--diff")
        assert shown.changed == 0
        assert token not in shown.output
        command = Path(f"/proc/{nodes.lab.pids()['vault-1']}/cmdline").read_text()
        assert token not in command
        (nodes.folder / "vault-1/started-with").write_text("older")
        changed = nodes.play("-vvv", "--diff")
        assert token not in changed.output


def test_the_seal_changes_to_the_second_vault_and_back_on_each_node(seal: dict[str, Any]) -> None:
    migrate = ("-e", "ansible_become=false")
    with VaultNodes(NAMES, vault_server_key_shares=3, vault_server_key_threshold=2) as nodes:
        nodes.set_up()
        nodes.variables |= seal
        refused = nodes.play(fails=True)
        assert "Run playbooks/seal-migrate.yml" in " ".join(refused.output.split())
        nodes.play(*migrate, playbook="playbooks/seal-migrate.yml")
        assert [status(nodes, name)["type"] for name in NAMES] == ["transit"] * 3
        for name in NAMES:
            opens_itself(nodes, name)
        assert nodes.changed() == 0

        nodes.variables |= {
            f"vault_server_former_{name.removeprefix('vault_server_')}": value
            for name, value in seal.items()
            if "token" not in name
        }
        nodes.variables |= {"vault_server_seal": "shamir", "vault_server_seal_options": {}}
        nodes.play(*migrate, playbook="playbooks/seal-migrate.yml")
        assert [(status(nodes, name)["type"], status(nodes, name)["sealed"]) for name in NAMES] == [
            ("shamir", False)
        ] * 3


def test_the_seal_of_openbao_is_not_changed() -> None:
    with VaultNodes(NAMES[:1], vault_server_product="openbao") as nodes:
        refused = nodes.play("-e", "ansible_become=false", playbook="playbooks/seal-migrate.yml", fails=True)
        assert "found openbao, whose seal this playbook cannot change" in " ".join(refused.output.split())


def test_nodes_whose_seal_opens_by_itself_come_back_from_a_snapshot(seal: dict[str, Any], tmp_path: Path) -> None:
    """Vault is not sealed by the restoration: https://github.com/hashicorp/vault/issues/31742."""
    snapshot_token = "{{ lab_supervisor_dir }}/secrets/snapshot-token"
    with VaultNodes(NAMES[:2], **seal, vault_operator_snapshot_token_file=snapshot_token) as nodes:
        nodes.set_up()
        nodes.new_key("shop")
        token = (nodes.folder / "secrets/snapshot-token").read_text().strip()
        request = Request(f"{nodes.url(nodes.leader())}/v1/sys/storage/raft/snapshot", headers={"X-Vault-Token": token})
        with urlopen(request, context=ssl.create_default_context(cafile=nodes.ca)) as answer:
            (tmp_path / "snapshot").write_bytes(answer.read())
        nodes.lose()
        nodes.restore("--extra-vars", json.dumps({"vault_server_snapshot": str(tmp_path / "snapshot")}))
        assert nodes.changed() == 0
        for name in nodes.nodes:
            opens_itself(nodes, name)
            assert nodes.client(name).request("GET", "transit/keys/shop").ok


def test_a_vault_with_a_seal_of_google_opens_itself(tmp_path: Path) -> None:
    """Its configuration is the role's; Google is a stand-in."""
    authority = Authority(tmp_path, "google")
    options = {"project": "project", "region": "global", "key_ring": "vault", "crypto_key": "vault-seal"}
    key = "projects/project/locations/global/keyRings/vault/cryptoKeys/vault-seal"
    with closing(GoogleStandIn()) as google, closing(GoogleKmsStandIn(authority.issue(NAME), key)) as kms:
        environment = {
            "GOOGLE_APPLICATION_CREDENTIALS": str(google.key_file(tmp_path / "account.json")),
            "HTTPS_PROXY": kms.url,
            "SSL_CERT_FILE": str(authority.file),
        }
        seal = {"vault_server_seal": "gcpckms", "vault_server_seal_options": options}
        with VaultNodes(NAMES[:1], environment, **seal) as nodes:
            nodes.set_up()
            assert "recovery_keys_b64" in json.loads((nodes.folder / "secrets/keys.json").read_text())
            assert status(nodes, "vault-1")["type"] == "gcpckms"
            kms.called.clear()
            opens_itself(nodes, "vault-1")
            assert "Decrypt" in kms.called
            assert nodes.changed() == 0
