"""Runs tasks by ansible-playbook on this machine, and gives their results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plays import BIN, ROOT

Task = dict[str, Any]
Result = dict[str, Any]


@dataclass(frozen=True)
class Ansible:
    """Ansible with this repository's modules and roles.

    Attributes:
        folder: for the playbooks that it makes.
        env: variables of the environment, none of Vault's or Kubernetes' own being there otherwise.
    """

    folder: Path
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    def run(self, *tasks: Task, env: Mapping[str, str] | None = None) -> list[Result]:
        """Run tasks one after the other, whatever comes of each; give the result of each."""
        run = self.play(*({**task, "ignore_errors": True} for task in tasks), callback="ansible.posix.json", env=env)
        assert run.returncode == 0, run.stdout + run.stderr
        (play,) = json.loads(run.stdout)["plays"]
        return [task["hosts"]["localhost"] for task in play["tasks"]]

    def play(
        self,
        *tasks: Task,
        arguments: tuple[str, ...] = (),
        callback: str = "ansible.builtin.default",
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run tasks; give all that Ansible printed."""
        path = self.folder / "play.json"
        variables = {"ansible_python_interpreter": sys.executable}
        play = {"hosts": "localhost", "gather_facts": False, "vars": variables, "tasks": tasks}
        path.write_text(json.dumps([play]))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("VAULT_", "K8S_", "KUBE"))}
        ours = {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": callback,
            "ANSIBLE_CALLBACKS_ENABLED": callback,  # none but that
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
        return subprocess.run(
            [BIN / "ansible-playbook", "-i", "localhost,", "-c", "local", path, *arguments],
            cwd=ROOT,
            env={**kept, **ours, **self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
