"""Run modules of ours in the process of the test, with the arguments that Ansible would send them.

A playbook takes 1.5 s of CPU time before its first task, and 0.5 s for each; so it is left for what only Ansible does:
`support.ansible.play`. Here everything below Ansible is real too: the module, its checks of the arguments, the servers.
"""

from __future__ import annotations

import json
import locale
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, redirect_stdout, suppress
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

from ansible.module_utils import _internal
from ansible.module_utils.common import warnings
from ansible.module_utils.testing import patch_module_args

_ROOT = Path(__file__).parents[2]
sys.path.append(str(_ROOT / "collections"))

COLLECTION = "kubevault.core"
MODULES = {path.stem for path in (_ROOT / "plugins/modules").glob("*.py")}

KEYWORDS = {"check_mode", "diff", "environment"}
"""Keywords of a task that mean something without Ansible."""

TEMPLATE = re.compile(r"\{[{%#]")

Task = Mapping[str, Any]
Result = dict[str, Any]


def run_modules(tasks: Sequence[Task], folder: Path, env: Mapping[str, str], *, fails: bool = False) -> list[Result]:
    """Run tasks one after the other until one fails, as a play does; return the result of each.

    Args:
        tasks: tasks with modules of ours, and without anything that only Ansible does.
        folder: the working folder.
        env: the whole environment.
        fails: whether one is expected to fail; otherwise, the test fails with it.
    """
    results = []
    for task in tasks:
        results.append(run_module(task, folder, env))
        if results[-1].get("failed"):
            break
    assert bool(results[-1].get("failed")) is fails, results[-1]
    return results


def run_module(task: Task, folder: Path, env: Mapping[str, str]) -> Result:
    """Run the module of a task, whether it fails or not; return its result."""
    name, arguments = _module_of(task)
    internal = {
        "_ansible_module_name": name,
        "_ansible_check_mode": task.get("check_mode", False),
        "_ansible_diff": task.get("diff", False),
    }
    module = import_module(f"ansible_collections.{COLLECTION}.plugins.modules.{name}")
    output = StringIO()
    with (
        mock.patch.dict(os.environ, {**env, **task.get("environment", {})}, clear=True),
        # True once a test has imported Ansible's controller; a module's warnings would go to the screen then.
        mock.patch.object(_internal, "is_controller", False),
        mock.patch.dict(warnings._global_warnings, clear=True),
        mock.patch.dict(warnings._global_deprecations, clear=True),
        _locale_restored(),
        chdir(folder),
        patch_module_args({**arguments, **internal}),
    ):
        with redirect_stdout(output), suppress(SystemExit):
            module.main()
        messages = list(warnings.get_warning_messages())
    result: Result = json.loads(output.getvalue())
    # As Ansible's controller reports it.
    return {"changed": False, **result, **({"warnings": messages} if messages else {})}


def _module_of(task: Task) -> tuple[str, dict[str, Any]]:
    """Return the name of a task's module, and its arguments; refuse what needs a play."""
    names = task.keys() - KEYWORDS
    assert len(names) == 1, f"only a play can do all of {sorted(names)}; here are one module and {sorted(KEYWORDS)}"
    (action,) = names
    name = action.removeprefix(f"{COLLECTION}.")
    assert name in MODULES, f"{action} is not one of our modules, so it needs a play"
    text = json.dumps(task[action])
    assert not TEMPLATE.search(text), f"only a play can evaluate the templates of {name}"
    assert json.loads(text) == task[action], f"JSON changes the arguments of {name}; a play sees their types"
    if name == "kubevault_secret":
        assert '"files": ' not in text, "only a play has the action plugin read files"
        nothing = bool(task.get("check_mode")) and ": null" in text
        assert not nothing, "only a play has the action plugin stand in for values of nothing in check mode"
    return name, dict(task[action])


@contextmanager
def _locale_restored() -> Iterator[None]:
    """Undo that a module of Ansible takes the locale of the environment."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)
