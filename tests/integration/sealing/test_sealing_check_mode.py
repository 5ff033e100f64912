"""Check mode before the first run of something new: a key, a namespace or a file that an earlier task would create."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
from support.ansible import BIN, play
from support.modules import run_module, run_modules
from support.sealing import Chain

ASSUMED = "Check mode assumes that they would be created before; a run fails if they are not."


@pytest.fixture
def new() -> str:
    """Name of something that does not exist."""
    return f"new-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def sealer_of_new(chain: Chain, new: str) -> str:
    """The token of a sealer whose Transit key does not exist yet."""
    return chain.token_for({f"transit/encrypt/{new}": ["update"], f"transit/hmac/{new}-digest": ["update"]})


def both(task: dict[str, Any], folder: Path, env: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the results of a task in check mode and in a run, which fails."""
    foreseen, failed = run_modules([{**task, "check_mode": True}, task], folder, env, fails=True)
    assert foreseen["changed"]
    return foreseen, failed


def test_a_new_namespace(chain: Chain, name: str, new: str, tmp_path: Path, env: dict[str, str]) -> None:
    """The other Secrets of the task are foreseen as ever, and the run, whose namespace is mistyped, writes none."""
    secrets = [
        {"name": name, "namespace": new, "data": {"a": "sesame"}},
        {"name": name, "namespace": chain.namespace, "data": {"a": "sesame"}},
    ]
    task = {"kubevault_secret": {"transit_key": "derived", "secrets": secrets}}
    foreseen, failed = both(task, tmp_path, env)
    assert [secret["action"] for secret in foreseen["secrets"]] == ["created", "created"]
    assert [secret.get("awaits") for secret in foreseen["secrets"]] == [[f"namespace {new}"], None]
    assert foreseen["warnings"] == [f"Not there yet: namespace {new}. {ASSUMED}"]
    assert f'namespaces "{new}" not found' in failed["msg"]
    assert name not in {item.metadata.name for item in chain.api.list_namespaced_secret(chain.namespace).items}


@pytest.mark.parametrize("scope", [None, "strict", "cluster-wide"])
def test_a_new_key_and_a_sealer_that_may_not_create_it(
    chain: Chain, name: str, new: str, sealer_of_new: str, tmp_path: Path, env: dict[str, str], scope: str | None
) -> None:
    options = {"transit_key": new, "vault_token": sealer_of_new, **({"scope": scope} if scope else {})}
    foreseen, failed = both(chain.task(name, data={"a": "sesame"}, **options), tmp_path, env)
    awaits = [f"Transit key {new}", f"Transit key {new}-digest"]
    assert foreseen["secret"]["awaits"] == awaits
    assert foreseen["secret"]["scope"] == scope
    assert foreseen["secret"]["added"] == ["a"]
    assert foreseen["warnings"] == [f"Not there yet: {', '.join(awaits)}. {ASSUMED}"]
    assert "check that the key exists" in failed["msg"] or "there is no such Transit key" in failed["msg"]


def test_a_new_key_for_what_is_sealed_already(
    chain: Chain, name: str, new: str, tmp_path: Path, env: dict[str, str]
) -> None:
    """Its digests are those of an existing key, so that only encrypting could tell."""
    chain.seal(chain.wanted(name, {"a": b"sesame"}))
    before = chain.data(name)
    sealer = chain.token_for(
        {
            f"transit/encrypt/{new}": ["update"],
            f"transit/keys/{new}": ["read"],
            "transit/hmac/derived-digest": ["update"],
        }
    )
    options = {"transit_key": new, "digest_key": "derived-digest", "scope": "strict", "vault_token": sealer}
    foreseen, _ = both(chain.task(name, data={"a": "sesame"}, **options), tmp_path, env)
    assert foreseen["secret"]["action"] == "updated"
    assert foreseen["secret"]["awaits"] == [f"Transit key {new}"]
    assert chain.data(name) == before


VALUES_OF_THE_SAME_RUN: list[tuple[dict[str, Any], str]] = [
    ({"files": {"a": "made-before.key"}}, "files[a]: there is no such file; looked in"),
    ({"data": {"a": "{{ none }}"}}, "data[a] is nothing"),
    ({"binary_data": {"a": "{{ none }}"}}, "binary_data[a] is of type NoneType"),
]


def test_a_value_of_the_same_run(chain: Chain, name: str, tmp_path: Path, env: dict[str, str]) -> None:
    """Modules that make keys return null in check mode, and write no file. The action plugin stands in for them."""
    tasks = [
        {**chain.task(name, **options), **mode}
        for options, _ in VALUES_OF_THE_SAME_RUN
        for mode in ({"check_mode": True}, {"ignore_errors": True})
    ]
    results = play(tasks, tmp_path, env).results
    for (_, refusal), foreseen, failed in zip(VALUES_OF_THE_SAME_RUN, results[::2], results[1::2], strict=True):
        assert foreseen["changed"]
        assert foreseen["secret"]["added"] == ["a"]
        assert failed["failed"]
        assert refusal in failed["msg"]
    assert not chain.api.list_namespaced_secret(chain.namespace, field_selector=f"metadata.name={name}").items


def test_what_is_denied_fails_in_check_mode_too(
    chain: Chain, name: str, new: str, tmp_path: Path, env: dict[str, str]
) -> None:
    denied = chain.token_for({"transit/encrypt/plain": ["update"]})
    task = chain.task(name, data={"a": "sesame"}, vault_token=denied)
    encrypts = chain.token_for({"transit/hmac/derived-digest": ["update"]})
    another = chain.task(name, data={"a": "sesame"}, vault_token=encrypts)
    for each in (task, another):
        result = run_module({**each, "check_mode": True}, tmp_path, env)
        assert result["failed"]
        assert "transit/encrypt/derived" in result["msg"]


def test_the_command_foresees_the_same(chain: Chain, name: str, new: str, tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "a").write_text("sesame")
    command = [BIN / "kubevault", "seal", f"{new}/{name}", "--transit-key", "derived", "--from-file", "a"]
    arguments = {"cwd": tmp_path, "env": env, "capture_output": True, "text": True, "check": False}
    foreseen = subprocess.run([*command, "--check", "--output", "json"], **arguments)
    assert foreseen.returncode == 3, foreseen.stderr
    assert json.loads(foreseen.stdout)[0]["awaits"] == [f"namespace {new}"]
    assert f"Not there yet: namespace {new}. {ASSUMED}" in " ".join(foreseen.stderr.split())
    failed = subprocess.run(command, **arguments)
    assert failed.returncode == 1
    assert f'namespaces "{new}" not found' in failed.stderr
