"""Seals that open by themselves: by a key in a second Vault, or by Google. Their change is in test_vault_cluster.py."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from support.google_kms_stand_in import NAME, GoogleKmsStandIn
from support.google_stand_in import GoogleStandIn
from support.servers import Authority, PrivateVault, running, wait_until
from support.vault_nodes import VaultNodes
from support.vault_seal import SealKey


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateVault]:
    """The second Vault, which opens others."""
    server = PrivateVault(tmp_path_factory.mktemp("second"))
    with running(server, server.set_up):
        yield server


@pytest.fixture(scope="module")
def seal_key(second: PrivateVault, tmp_path_factory: pytest.TempPathFactory) -> SealKey:
    key = SealKey(second, tmp_path_factory.mktemp("seal"))
    assert key.make() == 2
    assert key.make() == 0
    return key


@pytest.fixture(scope="module")
def nodes(seal_key: SealKey) -> Iterator[VaultNodes]:
    """Two nodes with a seal of the second Vault."""
    with VaultNodes(
        ["vault-1", "vault-2"],
        **seal_key.variables,
        vault_server_key_shares=3,
        vault_server_key_threshold=2,
        vault_operator_snapshot_token_file="{{ lab_supervisor_dir }}/secrets/snapshot-token",
    ) as nodes:
        nodes.set_up()
        nodes.new_key("shop")
        yield nodes


def test_the_token_of_the_seal_may_use_its_key_and_nothing_else(second: PrivateVault, seal_key: SealKey) -> None:
    token = seal_key.token_file.read_text().strip()
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


def test_a_vault_with_a_seal_of_the_second_opens_itself_and_has_recovery_keys(
    nodes: VaultNodes, seal_key: SealKey
) -> None:
    keys = json.loads((nodes.folder / "secrets/keys.json").read_text())
    assert (len(keys["recovery_keys_b64"]), keys["recovery_keys_threshold"]) == (3, 2)
    assert "unseal_keys_b64" not in keys
    for name in nodes.nodes:
        nodes.opens_itself(name)


def test_the_token_of_the_seal_is_not_shown(nodes: VaultNodes, seal_key: SealKey) -> None:
    token = seal_key.token_file.read_text().strip()
    name = next(name for name in nodes.nodes if name != nodes.leader())
    assert token not in Path(f"/proc/{nodes.lab.pids()[name]}/cmdline").read_text()
    (nodes.folder / name / "started-with").write_text("older")
    restarted = nodes.play("-vvv", "--diff", "--limit", name)
    assert restarted.changed > 0
    assert token not in restarted.output


def test_nodes_whose_seal_opens_by_itself_come_back_from_a_snapshot(
    nodes: VaultNodes, seal_key: SealKey, tmp_path: Path
) -> None:
    """Vault is not sealed by the restoration: https://github.com/hashicorp/vault/issues/31742."""
    token = nodes.token("snapshot-token")
    request = Request(f"{nodes.url(nodes.leader())}/v1/sys/storage/raft/snapshot", headers={"X-Vault-Token": token})
    with urlopen(request, context=ssl.create_default_context(cafile=nodes.ca)) as answer:
        (tmp_path / "snapshot").write_bytes(answer.read())
    nodes.lose()
    nodes.restore("--extra-vars", json.dumps({"vault_server_snapshot": str(tmp_path / "snapshot")}))
    unchanged = nodes.play("-vvv", "--diff")
    assert unchanged.changed == 0
    assert seal_key.token_file.read_text().strip() not in unchanged.output
    for name in nodes.nodes:
        nodes.opens_itself(name)
        client = nodes.client(name)
        wait_until("a leader", lambda client=client: client.request("GET", "transit/keys/shop").ok)


def test_the_seal_of_openbao_is_not_changed() -> None:
    with VaultNodes(["vault-1"], vault_server_product="openbao") as nodes:
        refused = nodes.play("-e", "ansible_become=false", playbook="playbooks/seal-migrate.yml", fails=True)
        assert "found openbao, whose seal this playbook cannot change" in " ".join(refused.output.split())


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
        with VaultNodes(["vault-1"], environment, **seal) as nodes:
            nodes.set_up()
            assert "recovery_keys_b64" in json.loads((nodes.folder / "secrets/keys.json").read_text())
            assert nodes.seal_status("vault-1")["type"] == "gcpckms"
            kms.called.clear()
            nodes.opens_itself("vault-1")
            assert "Decrypt" in kms.called
