"""The token reviewer of Vault, in the lab's Kubernetes: what a run shows of its token."""

from __future__ import annotations

import uuid
from base64 import b64decode
from pathlib import Path

import pytest
from support.ansible import TEXT, ansible_environment, play, play_in_lab
from support.lab import Lab
from support.search import shows


def test_no_run_and_no_log_shows_the_reviewer_s_token(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the run that makes it nor one that finds it, nor check mode, nor the removal. No Vault uses this one."""
    variables = {"microk8s_vault_auth_service_account": f"reviewer-{uuid.uuid4().hex[:8]}"}
    (account,) = variables.values()
    log = tmp_path / "log"
    monkeypatch.setenv("ANSIBLE_LOG_PATH", str(log))
    verbose = ("-vvvv", "--diff")
    trust = ("playbooks/trust.yml", lab.folder, *verbose, "-e", f"microk8s_vault_auth_service_account={account}")
    runs = [play_in_lab(*trust), play_in_lab(*trust)]
    token = b64decode(lab.operator().get_secret("kube-system", account)["data"]["token"]).decode()
    env = {**ansible_environment(), "ANSIBLE_LOG_PATH": str(log)}
    for steps, more in (({}, ["--check"]), ({"tasks_from": "remove"}, ["--check"]), ({"tasks_from": "remove"}, [])):
        role = {"include_role": {"name": "microk8s-vault-auth", **steps}}
        task = {"block": [role], "environment": lab.env}
        runs.append(play([task], tmp_path, env, *verbose, *more, variables=variables, callback=TEXT))
    assert [run.changed for run in runs] == [1, 0, 0, 1, 1]
    assert [shows(output, token) for output in (*(run.output for run in runs), log.read_text())] == [False] * 6
    assert log.read_text().count("PLAY RECAP") == 5
