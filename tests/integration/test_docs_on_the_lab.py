"""What docs/sealing.md says of reading back, as a reader would run it, on the lab that site.yml has set up."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from support.ansible import BIN, ROOT, play

PAGE = (ROOT / "docs/sealing.md").read_text()


def block(language: str) -> str:
    """Return a fenced block of the section."""
    section = PAGE.partition("\n## Reading back\n")[2].partition("\n## ")[0]
    (text,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return str(text)


@pytest.fixture
def shell() -> dict[str, str]:
    """The environment of a reader after `eval "$(make -s lab-env)"`."""
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}


def test_the_commands_read_as_the_workload(shell: dict[str, str]) -> None:
    run = subprocess.run(["bash", "-euc", block("bash")], env=shell, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    secret, username, files = run.stdout.rpartition("neo\n")
    assert username == "neo\n"
    assert "username" in secret
    assert files == "secrets.json\n"


def test_the_operator_s_token_is_told_whom_to_log_in_as(shell: dict[str, str]) -> None:
    refused = subprocess.run(
        ["kubevault", "read", "default/matrix-secrets/secrets.json"],
        env=shell,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "log in as a workload that reads with this key, by auth method kubernetes" in refused.stderr


def test_the_lookup_reads_as_the_workload(shell: dict[str, str], tmp_path: Path) -> None:
    (task,) = yaml.safe_load(block("yaml"))
    check = {"ansible.builtin.assert": {"that": ["matrix.username == 'neo'"], "quiet": True}}
    assert [result["changed"] for result in play([task, check], tmp_path, shell).results] == [False, False]
