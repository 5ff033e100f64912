"""kubevault inject --verify: whether a workload of these manifests would get its values, asked on the lab."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import client, config
from support.ansible import BIN
from support.modules import run_module

OPTIONS = (
    "--with=exec",
    "--vault-url=https://vault.example.org:8200",
    "--image=registry.example.org/kubevault@sha256:0000000000000000000000000000000000000000000000000000000000000000",
    "--verify",
    "--in-place",
)


@pytest.fixture
def account() -> Iterator[str]:
    """A service account that no role of Vault knows."""
    config.load_kube_config(os.environ["KUBECONFIG"])
    api, name = client.CoreV1Api(), f"shop-{uuid.uuid4().hex[:8]}"
    api.create_namespaced_service_account("default", {"metadata": {"name": name}})
    yield name
    api.delete_namespaced_service_account(name, "default")


def inject(path: Path, pod: dict[str, object], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command on a Pod's manifest as a reader of docs/pods.md does, with the lab's environment."""
    spec = {"containers": [{"name": "shop", "command": ["shop"]}], **pod}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shop", "namespace": "default"}, "spec": spec}
    path.write_text(yaml.safe_dump(manifest))
    return subprocess.run(
        ["kubevault", "inject", path, *OPTIONS, *arguments],
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_workload_that_may_read_is_injected(tmp_path: Path) -> None:
    path = tmp_path / "pod.yaml"
    run = inject(path, {}, "--role=demo", "--secret=matrix-secrets/secrets.json")
    assert (run.returncode, run.stderr) == (0, "")
    assert "kubevault-exec" in path.read_text()


def test_one_of_several_files_that_may_not_keeps_all_from_being_written(tmp_path: Path, account: str) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    options = ("--role=demo", "--secret=matrix-secrets")
    assert inject(bad, {"serviceAccountName": account}, *options).returncode == 1
    run = inject(good, {}, *options, str(bad))
    assert (run.returncode, "log-in denied" in run.stderr) == (1, True)
    assert "kubevault" not in good.read_text()


def test_what_the_verification_of_a_chain_fails_for(tmp_path: Path, account: str) -> None:
    """In check mode all of it is a warning, since an earlier task of a run may put it right."""
    reads = {"role": "demo", "namespace": "default", "service_account": "default", "secrets": ["matrix-secrets"]}
    assert run_module({"kubevault_read_check": reads}, tmp_path, dict(os.environ))["secrets"]
    for wrong, message in (
        ({"secrets": ["nosuch"]}, "nosuch"),
        ({"role": "none"}, 'invalid role name "none"'),
        ({"service_account": account}, "log-in denied"),
        ({"service_account": "none"}, 'serviceaccounts "none" not found'),
    ):
        task = {"kubevault_read_check": {**reads, **wrong}}
        done = run_module(task, tmp_path, dict(os.environ))
        assert (done["failed"], message in done["msg"]) == (True, True), done["msg"]
        foretold = run_module({**task, "check_mode": True}, tmp_path, dict(os.environ))
        assert (foretold["changed"], foretold["secrets"]) == (False, {})
        assert message in foretold["warnings"][0]


def test_one_that_may_not_is_told_and_nothing_is_written(tmp_path: Path, account: str) -> None:
    path = tmp_path / "pod.yaml"
    as_default = "Pod/shop, as service account default/default: "
    for pod, role, secret, message in (
        (
            {"serviceAccountName": account},
            "demo",
            "matrix-secrets",
            "log-in denied for role demo: service account name",
        ),
        ({"serviceAccountName": "none"}, "demo", "matrix-secrets", 'serviceaccounts "none" not found'),
        ({}, "none", "matrix-secrets", f'{as_default}https://.* invalid role name "none"'),
        ({}, "demo", "nosuch", f"{as_default}.*nosuch"),
    ):
        run = inject(path, pod, f"--role={role}", f"--secret={secret}")
        assert run.returncode == 1
        assert re.search(message, run.stderr), run.stderr
        assert "kubevault" not in path.read_text()
