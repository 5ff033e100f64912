"""The example inventory with addresses in place of names: what it yields, by certificates that a client verifies."""

from __future__ import annotations

import shutil
import socket
import ssl
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from support.ansible import ROOT, ansible_environment, run_playbook

from secretmanager.servers.http import tls_context

HOSTS = {"localhost": "DNS", "127.0.0.1": "IP", "::1": "IP"}


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with these hosts, after its certificates were made; ``urls`` in it are the addresses of Vault."""
    folder = tmp_path_factory.mktemp("site") / "example"
    shutil.copytree(ROOT / "inventories/example", folder)
    hosts = {name: {"ansible_connection": "local", "ansible_python_interpreter": sys.executable} for name in HOSTS}
    (folder / "hosts.yml").write_text(
        yaml.safe_dump({"all": {"children": {"vault": {"hosts": hosts}}}}, sort_keys=False)
    )
    tasks = [
        {"import_role": {"name": str(ROOT / "roles/certificate-authority")}},
        {
            "copy": {"dest": str(folder / "urls"), "content": "{{ kubevault_vault_url }}", "mode": "0644"},
            "run_once": True,
        },
    ]
    playbook = folder.parent / "playbook.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "vault", "gather_facts": False, "tasks": tasks}]))
    run_playbook(playbook, "-i", folder, env=ansible_environment())
    return folder


def test_the_addresses_of_vault(inventory: Path) -> None:
    urls = (inventory / "urls").read_text()
    assert urls == "https://localhost:8200,https://127.0.0.1:8200,https://[::1]:8200"
    assert [urlsplit(url).hostname for url in urls.split(",")] == list(HOSTS)


@pytest.mark.parametrize("name", HOSTS)
def test_a_client_verifies_the_certificate_of(inventory: Path, name: str) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(inventory / f"pki/{name}.crt", inventory / f"pki/{name}.key")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        thread = threading.Thread(target=lambda: server.wrap_socket(theirs, server_side=True).close())
        thread.start()
        with tls_context(str(inventory / "pki/ca.crt")).wrap_socket(ours, server_hostname=name) as tls:
            assert (HOSTS[name], name) in [
                (kind.partition(" ")[0], text.lower().replace("0:0:0:0:0:0:0:1", "::1"))
                for kind, text in tls.getpeercert()["subjectAltName"]
            ]
        thread.join()
