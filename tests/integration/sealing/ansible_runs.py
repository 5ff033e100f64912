"""Runs tasks of this repository's modules as a user's playbook does, and gives what they returned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from conftest import Chain

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Run:
    """A playbook's run: the result of each task, and all that it printed."""

    results: list[dict[str, Any]]
    output: str
    status: int

    @property
    def last(self) -> dict[str, Any]:
        return self.results[-1]


def environment(chain: Chain, token_file: Path, **more: str) -> dict[str, str]:
    """Give the variables by which the modules find the chain, and no other such variable."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("VAULT_", "ANSIBLE_", "K8S_", "KUBE"))
    }
    return {
        **inherited,
        "VAULT_ADDR": chain.vault.url,
        "VAULT_CACERT": chain.vault.ca,
        "VAULT_TOKEN_FILE": str(token_file),
        "K8S_AUTH_KUBECONFIG": chain.kubeconfig,
        "ANSIBLE_HOME": str(token_file.parent / "ansible"),
        **more,
    }


def play(
    tasks: Sequence[Mapping[str, Any]],
    folder: Path,
    env: Mapping[str, str],
    *arguments: str,
    variables: Mapping[str, Any] | None = None,
    config: Path | None = ROOT / "ansible.cfg",
    callback: str = "ansible.posix.json",
) -> Run:
    """Run tasks by a playbook in a folder."""
    playbook = folder / "playbook.yml"
    given = {"ansible_python_interpreter": sys.executable, **(variables or {})}
    play = {"hosts": "localhost", "gather_facts": False, "vars": given, "tasks": list(tasks)}
    playbook.write_text(yaml.safe_dump([play]))
    env = {**env, "ANSIBLE_STDOUT_CALLBACK": callback, "ANSIBLE_NOCOLOR": "1"}
    if config:
        env["ANSIBLE_CONFIG"] = str(config)
    run = subprocess.run(
        [BIN / "ansible-playbook", "-i", "localhost,", "-c", "local", playbook, *arguments],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    output = run.stdout + run.stderr
    if callback != "ansible.posix.json":
        return Run([], output, run.returncode)
    found, _ = json.JSONDecoder().raw_decode(run.stdout, run.stdout.index("{"))
    return Run([task["hosts"]["localhost"] for task in found["plays"][0]["tasks"]], output, run.returncode)
