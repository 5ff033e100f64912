"""The signature of Vault's release as roles/vault-server verifies it, with GnuPG and an HTTP server on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import ROOT, TEXT, ansible_environment, play
from support.gnupg import KeyRing, key_ring

ROLE = ROOT / "roles/vault-server"


@pytest.fixture(scope="module")
def ring() -> Iterator[KeyRing]:
    """The key of those who release, and one of somebody else."""
    with key_ring() as ring:
        for name in ("releases@example.org", "stranger@example.org"):
            ring.make_key(name)
        yield ring


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """Serves the folder `site`; the address."""
    folder = tmp_path / "site"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def fingerprint(ring: KeyRing, name: str) -> str:
    listed = ring.run("--with-colons", "--fingerprint", name).decode().splitlines()
    return next(line.split(":")[9] for line in listed if line.startswith("fpr:"))


def verify(ring: KeyRing, site: str, folder: Path, signer: str, *, fails: bool = False, **variables: Any) -> str:
    """Sign checksums, publish the signature and the signer's key, and have the role verify them; return its output."""
    partial_folder = folder / "partial"
    partial_folder.mkdir()
    (partial_folder / "checksums").write_text("0" * 64 + "  vault.zip\n")
    checksums = (partial_folder / "checksums").read_bytes()
    signature = ring.run("--local-user", signer, "--detach-sign", "--output", "-", stdin=checksums)
    (folder / "site/checksums.sig").write_bytes(signature)
    (folder / "site/key.asc").write_bytes(ring.export(signer, "--armor"))
    release = {
        "checksums": "checksums",
        "signature": "checksums.sig",
        "key": f"{site}/key.asc",
        "fingerprint": fingerprint(ring, "releases@example.org"),
    }
    options = {
        "vault_server_partial": str(partial_folder),
        "vault_server_upstream": site,
        "vault_server_release": release,
        **variables,
    }
    task = {"include_role": {"name": "vault-server", "tasks_from": "signature"}, "vars": options}
    return " ".join(play([task], folder, ansible_environment(), callback=TEXT, fails=fails).output.split())


def test_the_published_key_is_downloaded_and_known_by_its_fingerprint(ring: KeyRing, site: str, tmp_path: Path) -> None:
    verify(ring, site, tmp_path, "releases@example.org")


def test_another_key_where_it_is_published_is_refused(ring: KeyRing, site: str, tmp_path: Path) -> None:
    """The server has been taken over: key, signature and checksums fit."""
    output = verify(ring, site, tmp_path, "stranger@example.org", fails=True)
    expected = fingerprint(ring, "releases@example.org")
    assert f"{site}/checksums is not signed by the key {expected} ({site}/key.asc), so nothing was installed" in output


def test_a_key_of_the_user_needs_no_other(ring: KeyRing, site: str, tmp_path: Path) -> None:
    key = tmp_path / "mine.asc"
    key.write_bytes(ring.export("stranger@example.org", "--armor"))
    verify(ring, site, tmp_path, "stranger@example.org", vault_server_release_key=str(key))


def test_another_key_than_the_user_s_is_refused(ring: KeyRing, site: str, tmp_path: Path) -> None:
    key = tmp_path / "mine.asc"
    key.write_bytes(ring.export("stranger@example.org", "--armor"))
    options = {"vault_server_release_key": str(key)}
    output = verify(ring, site, tmp_path, "releases@example.org", fails=True, **options)
    assert f"is not signed by vault_server_release_key ({key})" in output


def test_a_signature_is_verified_unless_the_user_says_otherwise() -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    assert (defaults["vault_server_verify_signature"], defaults["vault_server_release_key"]) == (True, "")
    steps = yaml.safe_load((ROLE / "tasks/release.yml").read_text())[0]["block"]
    (step,) = [step for step in steps if step.get("ansible.builtin.include_tasks") == "signature.yml"]
    assert step["when"] == "vault_server_verify_signature"
