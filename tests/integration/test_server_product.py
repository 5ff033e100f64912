"""Which product a program is: by its name, and by what it says itself.

OpenBao is not built here. A script takes the place of its program, which prints the first line that it prints; the
real Vault is the other one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.ansible import TEXT, ansible_environment, play

from kubevault_lab.binaries import provide


def checked(folder: Path, program: Path, *, fails: bool = False, **variables: Any) -> str:
    """Run the check of a program; return what is printed."""
    step = {"include_role": {"name": "vault-server", "tasks_from": "product"}}
    given = {"vault_server_binary": str(program), **variables}
    run = play([step], folder, ansible_environment(), variables=given, callback=TEXT, fails=fails)
    assert run.changed == 0
    return " ".join(run.output.split())


@pytest.fixture
def bao(tmp_path: Path) -> Path:
    """A stand-in for OpenBao's program, of its name."""
    program = tmp_path / "bao"
    program.write_text("#!/bin/sh\necho 'OpenBao v2.6.2 (0123456), built 2026-01-01T00:00:00Z'\n")
    program.chmod(0o755)
    return program


def test_a_program_is_what_its_name_says(tmp_path: Path, bao: Path) -> None:
    for program in (bao, provide(["vault"])["vault"]):
        checked(tmp_path, program)


def test_a_program_that_says_otherwise_ends_the_run(tmp_path: Path, bao: Path) -> None:
    vault = bao.rename(tmp_path / "vault")
    said = "vault_server_product: found vault, and"
    assert f"{said} {vault} says that it is OpenBao v2.6.2" in checked(tmp_path, vault, fails=True)
    checked(tmp_path, vault, vault_server_product="openbao")
    real = provide(["vault"])["vault"]
    output = checked(tmp_path, real, fails=True, vault_server_product="openbao")
    assert f"vault_server_product: found openbao, and {real} says that it is Vault v" in output
