"""What Ansible's users are told: which Secret, which path, which variable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.ansible import ROOT, TEXT, ansible_environment, play
from support.sealing import Chain


def refusal(tasks: list[dict[str, Any]], folder: Path, env: dict[str, str]) -> str:
    """Return what is said of a play that fails."""
    return " ".join(play(tasks, folder, env, callback=TEXT, fails=True).output.split())


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("keys/nosuch.pem", "files[tls.key]: there is no such file: keys/nosuch.pem; looked in"),
        # It may be a value.
        ("PLAIN-x", "files[tls.key]: there is no such file; looked in"),
        ("PLAIN/x", "files[tls.key]: there is no such file; looked in"),
    ],
)
def test_a_file_that_is_not_there(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str], path: str, said: str
) -> None:
    (tmp_path / "keys").mkdir()
    entry = {"name": name, "namespace": chain.namespace, "transit_key": "derived", "files": {"tls.key": path}}
    shown = refusal([{"kubevault_secret": {"secrets": [entry]}}], tmp_path, env)
    assert f"secrets[0] {chain.namespace}/{name}: {said} {tmp_path}, and in files of each" in shown
    assert refusal([{"kubevault_secret": entry}], tmp_path, env).count(f"{chain.namespace}/{name}: {said}")


def test_a_role_without_the_address_of_vault(tmp_path: Path) -> None:
    """The shell has one, which roles do not look at."""
    env = {**ansible_environment(), "VAULT_ADDR": "https://127.0.0.1:1"}
    role = {"include_role": {"name": "transit-keys"}, "vars": {"transit_keys": [{"name": "k"}]}}
    shown = refusal([role], tmp_path, env)
    assert (
        "vault_url is missing: roles do not look at variables of the shell; set VAULT_ADDR in environment of a" in shown
    )
    assert "or set VAULT_ADDR" not in shown


def test_without_kubernetes_core(tmp_path: Path) -> None:
    found = {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_COLLECTIONS_SCAN_SYS_PATH": "false"}
    env = {**ansible_environment(), **found}
    shown = refusal([{"kubevault.core.k8s_info": {"kind": "Pod"}}], tmp_path, env)
    assert "the collection kubernetes.core is not installed: run ansible-galaxy collection install" in shown
