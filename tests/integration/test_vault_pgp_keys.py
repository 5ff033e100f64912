"""Unseal keys that only people's PGP keys decrypt, by roles/vault-server."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.gnupg import KeyRing, key_ring
from support.vault_nodes import VaultNodes

from secretmanager.servers.vault import VaultClient

PEOPLE = ("alice", "bob")


@pytest.fixture
def ring() -> Iterator[KeyRing]:
    with key_ring() as made:
        yield made


def test_only_people_unseal_a_vault_whose_keys_their_pgp_keys_decrypt(ring: KeyRing) -> None:
    for name in PEOPLE:
        ring.make_key(name)
    public = [base64.b64encode(ring.export(name)).decode() for name in PEOPLE]
    shares = {"vault_server_key_shares": 2, "vault_server_key_threshold": 2}
    # A short path, for supervisord's socket; `down` deletes it.
    lab = Path(tempfile.mkdtemp(prefix="kubevault-pgp."))
    nodes = VaultNodes(lab, ["vault-1"], vault_server_pgp_keys=public, **shares)
    try:
        # Initialised, but nobody has unsealed it yet.
        refused = nodes.set_up(fails=True)
        assert "only the holders of vault_server_pgp_keys can unseal it" in " ".join(refused.output.split())
        keys = json.loads((lab / "secrets/keys.json").read_text())["unseal_keys_b64"]
        vault = VaultClient(nodes.url("vault-1"), ca_cert=nodes.ca, token="")
        for key in keys:
            share = ring.decrypt(base64.b64decode(key)).decode()
            vault.request("PUT", "sys/unseal", {"key": share})
        assert vault.request("GET", "sys/seal-status").json()["sealed"] is False
        nodes.set_up()
        assert nodes.changed() == 0
    finally:
        nodes.down()
