"""Unseal keys that only people's PGP keys decrypt, by roles/vault-server."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.vault_nodes import VaultNodes

from secretmanager.servers.vault import VaultClient

PEOPLE = ("alice", "bob")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short, for the sockets of supervisord and gpg-agent."""
    made = Path(tempfile.mkdtemp(prefix="kubevault-pgp."))
    yield made
    subprocess.run(["gpgconf", "--homedir", str(made / "gnupg"), "--kill", "gpg-agent"], check=True)
    shutil.rmtree(made)


def gpg(home: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    command = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", "", *arguments]
    return subprocess.run(command, input=stdin, check=True, capture_output=True).stdout


def test_only_people_unseal_a_vault_whose_keys_their_pgp_keys_decrypt(folder: Path) -> None:
    home, lab = folder / "gnupg", folder / "lab"
    home.mkdir(mode=0o700)
    lab.mkdir()
    for name in PEOPLE:
        gpg(home, "--quick-generate-key", name, "default", "default", "never")
    public = [base64.b64encode(gpg(home, "--export", name)).decode() for name in PEOPLE]
    shares = {"vault_server_key_shares": 2, "vault_server_key_threshold": 2}
    nodes = VaultNodes(lab, ["vault-1"], vault_server_pgp_keys=public, **shares)
    try:
        # Initialised, but nobody has unsealed it yet.
        refused = nodes.set_up(fails=True)
        assert "only the holders of vault_server_pgp_keys can unseal it" in " ".join(refused.output.split())
        keys = json.loads((lab / "secrets/keys.json").read_text())["unseal_keys_b64"]
        vault = VaultClient(nodes.url("vault-1"), ca_cert=nodes.ca, token="")
        for key in keys:
            share = gpg(home, "--decrypt", stdin=base64.b64decode(key)).decode()
            vault.request("PUT", "sys/unseal", {"key": share})
        assert vault.request("GET", "sys/seal-status").json()["sealed"] is False
        nodes.set_up()
        assert nodes.changed() == 0
    finally:
        nodes.down()
