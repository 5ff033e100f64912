"""Unseal keys that only people's PGP keys decrypt, by roles/vault-server."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator

import pytest
from support.gnupg import KeyRing, key_ring
from support.vault_nodes import VaultNodes

from secretmanager.servers.vault import VaultClient

PEOPLE = ("alice", "bob")


@pytest.fixture
def ring() -> Iterator[KeyRing]:
    with key_ring() as ring:
        yield ring


def test_only_people_unseal_a_vault_whose_keys_their_pgp_keys_decrypt(ring: KeyRing) -> None:
    for name in PEOPLE:
        ring.make_key(name)
    public = [base64.b64encode(ring.export(name)).decode() for name in PEOPLE]
    shares = {"vault_server_key_shares": 2, "vault_server_key_threshold": 2}
    with VaultNodes(["vault-1"], vault_server_pgp_keys=public, **shares) as nodes:
        # Initialised, but nobody has unsealed it yet.
        refused = nodes.set_up(fails=True)
        assert "only the holders of vault_server_pgp_keys can unseal it" in " ".join(refused.output.split())
        keys = json.loads((nodes.folder / "secrets/keys.json").read_text())["unseal_keys_b64"]
        vault = VaultClient(nodes.url("vault-1"), ca_cert=nodes.ca, token="")
        for key in keys:
            share = ring.decrypt(base64.b64decode(key)).decode()
            vault.request("PUT", "sys/unseal", {"key": share})
        assert vault.request("GET", "sys/seal-status").json()["sealed"] is False
        unsealed = nodes.set_up()
        assert re.search(r"Initialise Vault once, and unseal it\] .*\nok: \[vault-1", unsealed.output)
