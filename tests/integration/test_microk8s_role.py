"""What roles/microk8s does about the CA, by a stand-in for the command `microk8s`; tests/roles runs it on hosts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.ansible import ROOT, Ansible, Run
from support.servers import Authority

STAND_IN = """#!/bin/sh
# As MicroK8s' scripts/wrappers/refresh_certs.py (1.35): a folder with ca.crt and an RSA key.
set -eu
cd "$(dirname "$0")"
case $1 in
config)
    printf 'clusters:\\n- cluster: {certificate-authority-data: %s}\\n' "$(base64 -w 0 ca.crt)" ;;
refresh-certs)
    openssl rsa -in "$2/ca.key" -check -noout
    stat -c %a "$2" "$2/ca.key" > modes
    cp "$2/ca.crt" . ;;
status) ;;
esac
"""


@dataclass(frozen=True)
class MicroK8s:
    """A stand-in with its own CA in a folder."""

    folder: Path

    def run(self, *arguments: str, fails: bool = False, with_own: bool = False, **variables: Any) -> Run:
        """Run the role's tasks for the CA and the kubeconfig file, for an authority of one's own if that is said."""
        authority = {"certificate_authority_dir": str(self.own), "certificate_authority_key_type": "RSA"}
        options = {
            "microk8s_kubeconfig": str(self.folder / "kubeconfig"),
            "microk8s_command": str(self.folder / "microk8s"),
            "microk8s_data": str(self.folder),
        }
        if with_own:
            options["microk8s_ca_dir"] = str(self.own)
        roles = [("certificate-authority", "main", authority)] if with_own else []
        roles += [("microk8s", name, {**options, **variables}) for name in ("authority", "kubeconfig")]
        return Ansible(self.folder).play(
            *(
                {"import_role": {"name": str(ROOT / "roles" / role), "tasks_from": name}, "vars": values}
                for role, name, values in roles
            ),
            arguments=arguments,
            fails=fails,
        )

    @property
    def own(self) -> Path:
        return self.folder / "own"

    @property
    def ca(self) -> str:
        return (self.folder / "ca.crt").read_text()


@pytest.fixture
def microk8s(tmp_path: Path) -> MicroK8s:
    """With the CA of an older MicroK8s."""
    (tmp_path / "microk8s").write_text(STAND_IN)
    (tmp_path / "microk8s").chmod(0o755)
    Authority(tmp_path, without="keyUsage")
    return MicroK8s(tmp_path)


def test_an_older_ca_is_named(microk8s: MicroK8s) -> None:
    run = microk8s.run(fails=True)
    assert "keyUsage with keyCertSign" in run.output
    assert "refresh-certs --cert ca.crt" in run.output


def test_a_complete_ca_is_kept(microk8s: MicroK8s) -> None:
    Authority(microk8s.folder)
    before = microk8s.ca
    microk8s.run()
    assert microk8s.ca == before


def test_it_is_replaced_once(microk8s: MicroK8s) -> None:
    before = microk8s.ca
    microk8s.own.mkdir()
    foretold = microk8s.run("--check", with_own=True)
    assert "would issue its certificates again" in foretold.output
    assert (microk8s.ca, list(microk8s.own.iterdir())) == (before, [])
    microk8s.run(with_own=True)
    assert microk8s.ca == (microk8s.own / "ca.crt").read_text()
    assert (microk8s.folder / "modes").read_text() == "700\n600\n"
    assert microk8s.run(with_own=True).changed == 0


def test_a_key_that_microk8s_does_not_take(microk8s: MicroK8s) -> None:
    before = microk8s.ca
    microk8s.own.mkdir()
    Authority(microk8s.own)
    run = microk8s.run(fails=True, microk8s_ca_dir=str(microk8s.own), microk8s_check_ca=False)
    assert "set certificate_authority_key_type: RSA" in run.output
    assert microk8s.ca == before
