"""Keys and values as YAML 1.1 and the templates of Ansible read them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from textwrap import indent

import yaml
from support.ansible import BIN, RESULTS, ROOT, play, run_playbook
from support.sealing import Chain

MISREAD = [
    ("data: {NO: x}", "data: a key was read as False"),
    ("data: {on: x}", "data: a key was read as True"),
    ("data: {1.5: x}", "data: a key was read as 1.5"),
    ("data: {~: x}", "data: a key was read as None"),
    ("data: {2024-01-01: x}", "data: a key was read as 2024-01-01, which is not text; write it in quotes"),
    ("binary_data: {no: eA==}", "binary_data: a key was read as False"),
    ("files: {8080: x}", "files: a key was read as 8080"),
    ("data: {a: {b: [{off: 1}]}}", "data[a][b][0]: a key was read as False"),
    ("data: {a: x}\n    labels: {yes: x}", "labels: a key was read as True"),
    ("data: {a: 2024-01-01}", "data[a]: a value was read as a date; quote it"),
    ("absent_keys: [NO]", "absent_keys: a key was read as False, which is not text; write it in quotes"),
    (
        "data: {a: 0123}",
        "data[a] is a value of type int; allowed are text, dict and list, so quote it, or add `| string`",
    ),
    ("data: {a: on}", "data[a] is a value of type bool"),
    ("data: {a: ~}", "data[a] is nothing"),
    ('data: {a: "{{ 123 }}"}', "data[a] is a value of type int"),
    ('data: {a: "{{ 1 == 1 }}"}', "or add `| string` to a template"),
    ('data: {a: "{{ none }}"}', "data[a] is nothing"),
]
"""Options of a task as YAML, and what the module says of them."""


def test_what_yaml_and_templates_make_of_text(chain: Chain, name: str, tmp_path: Path, env: dict[str, str]) -> None:
    head = f"name: {name}\n    namespace: {chain.namespace}\n    transit_key: derived\n    "
    playbook = tmp_path / "playbook.yml"
    tasks = "".join(f"- kubevault_secret:\n    {head}{options}\n  ignore_errors: true\n" for options, _ in MISREAD)
    playbook.write_text("- hosts: localhost\n  gather_facts: false\n  tasks:\n" + indent(tasks, "    "))
    arguments = ("-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={BIN / 'python'}")
    configured = {**env, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    run = run_playbook(playbook, *arguments, env=configured, folder=tmp_path, callback=RESULTS)
    for (options, message), result in zip(MISREAD, run.results, strict=True):
        assert message in result["msg"], options


def test_text_that_looks_like_something_else(chain: Chain, name: str, tmp_path: Path, env: dict[str, str]) -> None:
    """It stays text, in Kubernetes and in a manifest file."""
    data = {"NO": "{{ pin | string }}", "1.5": "{{ quoted }}", "null": "on", "json": "{{ text }}"}
    variables = {"pin": 123, "quoted": "0123", "text": json.dumps({"a": 1})}
    task = chain.task(name, data=data, dest=str(tmp_path / "sealed.yml"), apply=True)
    assert [run["changed"] for run in play([task, task], tmp_path, env, variables=variables).results] == [True, False]
    assert chain.opened(name) == {"NO": b"123", "1.5": b"0123", "null": b"on", "json": b'{"a": 1}'}
    assert yaml.safe_load((tmp_path / "sealed.yml").read_text())["data"].keys() == {*data, ".kubevault"}


def test_the_command_refuses_the_same(chain: Chain, tmp_path: Path, env: dict[str, str]) -> None:
    secret = f"name: x\nnamespace: {chain.namespace}\ntransit_key: derived\n"
    for text, message in {
        "data: {NO: PLAIN, a: PLAIN}": 'data: a key was read as False, which is not text; write it in quotes, as "NO"',
        "data: {a: {on: PLAIN}}": "or a key that is not text",
        "data: {a: 0123}": "data[a] is a value of type int; allowed are text, dict and list, so quote it",
        "data: {a: 2026-13-01, b: PLAIN}": "--secrets: is not YAML",
    }.items():
        (tmp_path / "secrets.yml").write_text(
            "secrets:\n" + indent(f"- {secret}{text}", "  ").replace("\n  ", "\n    ")
        )
        command = [BIN / "kubevault", "seal", "--secrets", "secrets.yml"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert message in done.stderr
        assert "PLAIN" not in done.stderr
