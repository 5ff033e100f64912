"""Run playbooks as users do, and return their results."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .modules import Result, Task, run_module

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

RESULTS = "ansible.posix.json"
"""Callback plugin that prints the result of each task."""

TEXT = "ansible.builtin.default"
"""Callback plugin that prints text for people."""


@dataclass(frozen=True)
class Run:
    """How a playbook ended.

    Attributes:
        status: exit status of ansible-playbook.
        output: its standard output, then its standard error.
        results: the result of each task of the first play, if the callback plugin is `RESULTS`.
    """

    status: int
    output: str
    results: list[Result] = field(default_factory=list)

    @property
    def last(self) -> Result:
        """Result of the last task."""
        return self.results[-1]

    @property
    def changed(self) -> int:
        """Number of tasks that changed something, on all hosts."""
        return sum(self.changes.values())

    @property
    def changes(self) -> dict[str, int]:
        """Number of tasks that changed something, by host, as in the recap."""
        found = {
            name: int(number) for name, number in re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+)", self.output, re.M)
        }
        assert found, self.output
        return found


def environment(**more: str) -> dict[str, str]:
    """Return the environment without variables that configure Ansible or name a server, and with others added."""
    ours = ("VAULT_", "ANSIBLE_", "K8S_", "KUBE")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**inherited, "PATH": f"{BIN}:{os.environ['PATH']}", **more}


def ansible_environment() -> dict[str, str]:
    """Return the environment of Ansible, with the repository's configuration and nothing of the user's."""
    return environment(ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_HOME=str(ROOT / ".ansible"))


def run_playbook(
    playbook: str | Path,
    *arguments: str | Path,
    env: Mapping[str, str],
    folder: Path = ROOT,
    callback: str | None = None,
    stdin: str = "",
    fails: bool = False,
) -> Run:
    """Run a playbook; if it does not end as expected, the test fails with its output.

    Args:
        playbook: the playbook.
        arguments: further arguments of ansible-playbook.
        env: the whole environment.
        folder: the working folder.
        callback: the callback plugin for standard output; None for the one of the configuration.
        stdin: what its standard input has, for the debugger.
        fails: whether a task is expected to fail.
    """
    chosen = {"ANSIBLE_STDOUT_CALLBACK": callback, "ANSIBLE_CALLBACKS_ENABLED": callback} if callback else {}
    done = subprocess.run(
        [BIN / "ansible-playbook", playbook, *arguments],
        cwd=folder,
        # The arguments of a module are printed; from ansible-core 2.21 on, only where this asks for it.
        env={**env, **chosen, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_INJECT_INVOCATION": "1"},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == (2 if fails else 0), output
    if callback != RESULTS:
        return Run(done.returncode, output)
    found, _ = json.JSONDecoder().raw_decode(done.stdout, done.stdout.index("{"))
    return Run(done.returncode, output, [task["hosts"]["localhost"] for task in found["plays"][0]["tasks"]])


def play(
    tasks: Sequence[Task],
    folder: Path,
    env: Mapping[str, str],
    *arguments: str,
    variables: Mapping[str, Any] | None = None,
    config: Path | None = ROOT / "ansible.cfg",
    callback: str = RESULTS,
    stdin: str = "",
    fails: bool = False,
) -> Run:
    """Run tasks on this machine, by a playbook in a folder.

    Args:
        tasks: the tasks.
        folder: the folder, from which the playbook is run.
        env: the whole environment.
        arguments: further arguments of ansible-playbook.
        variables: variables of the play.
        config: Ansible's configuration; None for the one that the environment names.
        callback: as of `run_playbook`.
        stdin: as of `run_playbook`.
        fails: as of `run_playbook`.
    """
    playbook = folder / "playbook.yml"
    given = {"ansible_python_interpreter": sys.executable, **(variables or {})}
    content = {"hosts": "localhost", "gather_facts": False, "vars": given, "tasks": [dict(task) for task in tasks]}
    playbook.write_text(yaml.safe_dump([content]))
    return run_playbook(
        playbook,
        *("-i", "localhost,", "-c", "local", *arguments),
        env={**env, "ANSIBLE_CONFIG": str(config)} if config else env,
        folder=folder,
        callback=callback,
        stdin=stdin,
        fails=fails,
    )


def play_in_lab(playbook: str, lab: Path, *arguments: str, fails: bool = False) -> Run:
    """Run a playbook of this repository in a lab, with its own inventory and configuration."""
    env = {**os.environ, "KUBEVAULT_LAB": str(lab), "PATH": f"{BIN}:{os.environ['PATH']}"}
    return run_playbook(playbook, *arguments, env=env, fails=fails)


@dataclass(frozen=True)
class Ansible:
    """Ansible with this repository's modules, in a folder and an environment.

    Attributes:
        folder: where the playbooks are written and run.
        env: variables of the environment; no others of Ansible, Vault or Kubernetes are set.
    """

    folder: Path
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    def run(self, *tasks: Task, env: Mapping[str, str] | None = None) -> list[Result]:
        """Run modules in this process, one after the other, whether they fail or not; return the result of each."""
        return [run_module(task, self.folder, self._environment(env)) for task in tasks]

    def play(
        self,
        *tasks: Task,
        arguments: tuple[str, ...] = (),
        callback: str = TEXT,
        env: Mapping[str, str] | None = None,
        fails: bool = False,
    ) -> Run:
        """Run tasks by a playbook; arguments as of the function `play`."""
        return play(tasks, self.folder, self._environment(env), *arguments, callback=callback, fails=fails)

    def _environment(self, env: Mapping[str, str] | None) -> dict[str, str]:
        """Return the whole environment, with some variables that differ."""
        return environment(**{"ANSIBLE_HOME": str(ROOT / ".ansible"), **self.env, **(env or {})})
