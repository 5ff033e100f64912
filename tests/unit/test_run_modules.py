"""Modules that tests run in their own process: what they leave there, and what needs a play."""

from __future__ import annotations

import locale
import os
from pathlib import Path
from typing import Any

import pytest
from support.modules import run_module, run_modules

Task = dict[str, Any]


def remove(path: object, **keywords: Any) -> Task:
    return {"remove_entries": {"path": str(path), "entries": ["a"]}, **keywords}


def test_a_task_has_its_environment_and_folder_and_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    before = dict(os.environ), Path.cwd(), locale.setlocale(locale.LC_ALL)
    token = {"vault_token": {"path": "token", "policies": ["a"], "vault_token_file": "root"}}
    env = {"VAULT_ADDR": "https://127.0.0.1:1", "VAULT_CACERT": "ca.crt", "HOME": str(tmp_path), "LC_ALL": "C"}
    (tmp_path / "root").write_text("hvs.root")
    result = run_module(token, tmp_path, env)
    assert result["failed"]
    assert "vault_ca_cert: ca.crt cannot be used" in result["msg"]
    assert "vault_url is missing" in run_module(token, tmp_path, {"HOME": str(tmp_path)})["msg"]
    own = {**token, "environment": {"VAULT_CACERT": "own.crt"}}
    assert "vault_ca_cert: own.crt cannot be used" in run_module(own, tmp_path, env)["msg"]
    assert (dict(os.environ), Path.cwd(), locale.setlocale(locale.LC_ALL)) == before


def test_check_mode(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "a").mkdir(parents=True)
    (folder / "b").touch()
    (folder / "c").touch()
    entries: Task = {"remove_entries": {"path": str(folder), "entries": ["a/", "b"]}}
    results = run_modules([{**entries, "check_mode": True}, entries, entries], tmp_path, dict(os.environ))
    assert [result["changed"] for result in results] == [True, True, False]
    assert results[0]["removed"] == results[1]["removed"] == ["a", "b"]


def test_a_failure_ends_a_run(tmp_path: Path) -> None:
    bad, good = remove("/"), remove(tmp_path / "none")
    assert len(run_modules([good, bad, good], tmp_path, {}, fails=True)) == 2
    with pytest.raises(AssertionError, match="path: found '/'"):
        run_modules([bad], tmp_path, {})
    with pytest.raises(AssertionError):
        run_modules([good], tmp_path, {}, fails=True)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"kubevault_secret": {"name": "{{ name }}"}}, "templates"),
        ({"kubevault_secret": {"data": {"a": "{% if x %}"}}}, "templates"),
        (remove("/", loop=["a"]), "loop"),
        (remove("/", become=True), "become"),
        (remove("/", register="result"), "register"),
        (remove("/", ignore_errors=True), "ignore_errors"),
        ({"kubernetes.core.k8s": {"src": "a"}}, "is not one of our modules"),
        ({"block": [remove("/")]}, "block is not one of our modules"),
        ({"kubevault_secret": {"data": {False: "a"}}}, "JSON changes the arguments"),
        ({"kubevault_secret": {"files": {"a": "b"}}}, "files"),
        ({"kubevault_secret": {"secrets": [{"files": {"a": "b"}}]}}, "files"),
        ({"kubevault_secret": {"data": {"a": None}}, "check_mode": True}, "stand in for values"),
    ],
)
def test_what_only_a_play_does_is_refused(tmp_path: Path, task: Task, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        run_module(task, tmp_path, {})
