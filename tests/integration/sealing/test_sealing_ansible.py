"""Ansible's own ways to disk and screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible
import ansible_collections
import pytest
from support.ansible import ROOT, TEXT, play
from support.sealing import Chain

SECRET = "follow-the-white-rabbit"

BECOME = [path.stem for path in Path(ansible.__path__[0], "plugins/become").glob("[a-z]*.py")] + [
    ".".join((*path.parts[-5:-3], path.stem))
    for path in sorted(Path(next(iter(ansible_collections.__path__))).glob("*/*/plugins/become/[a-z]*.py"))
]
"""All become plugins of the package ansible."""

WARNING_OF_LOOP = "The items of the loop hold secrets (data), and Ansible prints items"

Task = dict[str, Any]


def spoken(tasks: list[Task], folder: Path, env: dict[str, str], **more: Any) -> str:
    """Return what Ansible prints of the tasks at its highest verbosity."""
    variables = {"secret": SECRET, **more.pop("variables", {})}
    return play(tasks, folder, env, "-vvvv", variables=variables, callback=TEXT, **more).output


def test_become(chain: Chain, name: str, tmp_path: Path, env: dict[str, str]) -> None:
    """PUT is how Ansible shows that it writes a file."""
    assert {"su", "sudo", "runas", "community.general.doas", "community.general.machinectl"} <= set(BECOME)
    task = {**chain.task(name, data={"a": "{{ secret }}"}), "become": True, "ignore_errors": True}
    output = spoken([{**task, "become_method": method} for method in BECOME], tmp_path, env)
    assert "PUT " not in output
    assert SECRET not in output
    for method in ("su", "doas", "machinectl"):
        assert f"{method} would write secrets to a file on the host; use another one, such as sudo" in output


def test_a_module_without_secrets_runs_all_the_same(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str]
) -> None:
    chain.seal(chain.wanted(name, {"a": b"x"}))
    info: Task = {"kubevault.core.kubevault_secret_info": {"name": name, "namespace": chain.namespace}}
    su = {"become": True, "become_method": "su", "become_user": "root"}
    run = play([{**info, **su}, {**info, "async": 60, "poll": 1}], tmp_path, env)
    assert [list(result["secrets"][0]["keys"]) for result in run.results] == [["a"], ["a"]]


@pytest.mark.parametrize(
    ("more", "variables", "message"),
    [
        ({"async": 30, "poll": 1}, {}, "data: async would write secrets to a file"),
        ({}, {"ANSIBLE_KEEP_REMOTE_FILES": "1"}, "data: ANSIBLE_KEEP_REMOTE_FILES would write secrets to a file"),
    ],
)
def test_other_ways_to_disk(
    chain: Chain,
    name: str,
    tmp_path: Path,
    env: dict[str, str],
    more: Task,
    variables: dict[str, str],
    message: str,
) -> None:
    task = {**chain.task(name, data={"a": "{{ secret }}"}), **more}
    output = spoken([task], tmp_path, {**env, **variables}, fails=True)
    assert message in output
    assert "PUT " not in output
    assert SECRET not in output


def test_a_token_among_the_arguments_takes_the_pipe_too(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str]
) -> None:
    options = {"vault_token": "{{ token }}", "resources": [{"path": f"sys/policies/acl/{name}", "state": "absent"}]}
    task = {"kubevault.core.vault_resource": options}
    token = chain.token_for({f"sys/policies/acl/{name}": ["read", "delete"]})
    variables = {"variables": {"token": token}}
    output = spoken([task], tmp_path, {**env, "ANSIBLE_PIPELINING": "false"}, **variables)
    assert "PUT " not in output
    refused = spoken([{**task, "become": True, "become_method": "su"}], tmp_path, env, fails=True, **variables)
    assert "vault_token: the become method su would write secrets" in refused
    assert token not in output + refused


def test_a_module_by_its_path_refuses_secrets_in_a_file(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str]
) -> None:
    """Without the action plugin the module comes too late to keep them out of the file, but not unnoticed."""
    (tmp_path / "ansible.cfg").touch()
    paths = {
        "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
        "ANSIBLE_LIBRARY": str(ROOT / "library"),
        "ANSIBLE_MODULE_UTILS": str(ROOT / "plugins" / "module_utils"),
    }
    task = chain.task(name, data={"a": "{{ secret }}"})
    output = spoken([task], tmp_path, {**env, **paths}, config=None, fails=True)
    assert "data: reached this host in a file, unencrypted; set pipelining" in output
    assert SECRET not in output
    paths["ANSIBLE_ACTION_PLUGINS"] = str(ROOT / "plugins" / "action")
    output = spoken([task], tmp_path, {**env, **paths}, config=None)
    assert "PUT " not in output
    assert SECRET not in output


@pytest.mark.parametrize(
    ("loop", "value", "more"),
    [
        ([{"key": "a", "value": "{{ secret }}"}], "{{ item.value }}", {}),
        (["{{ secret }}"], "prefix-{{ item }}", {}),
        ([{"value": "{{ secret }}"}], "{{ item.value }}", {"loop_control": {"label": "x"}}),
    ],
)
def test_a_loop_over_values(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str], loop: list[Any], value: str, more: Task
) -> None:
    task = {**chain.task(name, data={"a": value}), "loop": loop, **more}
    output = play([task], tmp_path, env, variables={"secret": SECRET}, callback=TEXT).output
    assert f"{WARNING_OF_LOOP}: give all of them in one task" in " ".join(output.split())


def test_a_loop_that_shows_no_values(chain: Chain, name: str, tmp_path: Path, env: dict[str, str]) -> None:
    hidden = {**chain.task(name, data={"a": "{{ item.value }}"}), "loop": [{"value": "{{ secret }}"}], "no_log": True}
    of_others = {**chain.task(name, data={"a": "{{ secret }}"}), "loop": ["a", "b"]}
    output = play([hidden, of_others], tmp_path, env, variables={"secret": SECRET}, callback=TEXT).output
    assert WARNING_OF_LOOP not in " ".join(output.split())
    assert SECRET not in output


def test_settings_that_print_arguments(chain: Chain, name: str, tmp_path: Path, env: dict[str, str]) -> None:
    """One comes with the name of the task, before the module could refuse anything."""
    task = chain.task(name, data={"a": "{{ secret }}"})
    output = spoken([task], tmp_path, {**env, "ANSIBLE_DEBUG": "1"}, fails=True)
    assert "data: ANSIBLE_DEBUG would print secrets; unset it" in output
    assert SECRET not in output
    shown = {**env, "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "1"}
    warning = "ANSIBLE_DISPLAY_ARGS_TO_STDOUT prints secrets (data): unset it, or set no_log."
    assert warning in " ".join(spoken([task], tmp_path, shown).split())
    output = spoken([{**task, "no_log": True}], tmp_path, shown)
    assert warning not in output
    assert SECRET not in output


def test_environment_with_a_token(chain: Chain, name: str, tmp_path: Path, env: dict[str, str]) -> None:
    """Ansible itself writes it on the command line of the host; the module can only say so."""
    task = {**chain.task(name, data={"a": "{{ secret }}"}), "environment": {"VAULT_TOKEN": "{{ token }}"}}
    run = play([task], tmp_path, env, variables={"secret": SECRET, "token": chain.token}, callback=TEXT)
    assert "environment: Ansible writes VAULT_TOKEN on a command line" in " ".join(run.output.split())


# By the names of ansible-core 2.19 and 2.21.
SHOW_RESULT = """p getattr(result, "_return_data", None) or result.utr.as_result_dict()\nc\n"""


def test_the_debugger_and_its_strategy(chain: Chain, tmp_path: Path, env: dict[str, str]) -> None:
    """They show a task that failed; its arguments as they are only to who asks for `task.args`."""
    task = chain.task("-", data={"a": "{{ secret }}"})
    for more, variables in ({"debugger": "on_failed"}, {}), ({}, {"ANSIBLE_STRATEGY": "ansible.builtin.debug"}):
        output = spoken([{**task, **more}], tmp_path, {**env, **variables}, stdin=SHOW_RESULT, fails=True)
        assert "(debug)> {" in output
        assert "'name': '-'" in output
        assert SECRET not in output
