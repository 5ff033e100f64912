"""Runs this repository's playbooks against a lab, as a user does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Run:
    """How a playbook ended: how many tasks changed something, and all that it printed."""

    changed: int
    output: str


def play(playbook: str, lab: Path, *arguments: str, fails: bool = False) -> Run:
    """Run a playbook in a lab; where it does not end as expected, the test fails and shows all."""
    run = subprocess.run(
        [BIN / "ansible-playbook", playbook, *arguments],
        cwd=ROOT,
        env={**os.environ, "KUBEVAULT_LAB": str(lab), "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    output = run.stdout + run.stderr
    assert (run.returncode != 0) == fails, output
    return Run(int(re.search(r"changed=(\d+)", output)[1]), output)
