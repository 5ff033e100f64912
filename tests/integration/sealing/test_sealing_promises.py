"""What is told of a run that did a part, foretells what a run does, or is refused as a whole."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from support.ansible import BIN
from support.intermediary import Intermediary, page
from support.modules import Result, run_module
from support.sealing import Chain, environment
from support.servers import Authority
from test_rotation import VALUES, Life, make

from secretmanager.errors import Forbidden, KubernetesError, SealingFailed
from secretmanager.sealed import Scope
from secretmanager.sealing.manifestfile import ManifestFile
from secretmanager.sealing.sealer import seal_into
from secretmanager.sealing.stores import KubernetesStore
from secretmanager.servers.kubernetes import KubernetesClient


def kubevault(env: dict[str, str], folder: Path, *arguments: str, status: int) -> str:
    command = [BIN / "kubevault", *arguments]
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def seal(chain: Chain, name: str, folder: Path, env: dict[str, str], **options: Any) -> Result:
    """Seal by the module into a manifest file and into Kubernetes."""
    task = chain.task(name, data={"a": "1"}, dest=str(folder / "manifest.yaml"), apply=True, **options)
    return run_module(task, folder, env)


@pytest.mark.parametrize("reason", ["foreign", "namespace", "scope", "unreachable"])
def test_what_kubernetes_refuses_is_not_written_to_the_manifest_file_either(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str], reason: str
) -> None:
    options: dict[str, Any] = {}
    if reason == "foreign":
        chain.put(name, {"a": b"theirs"})
    elif reason == "namespace":
        options = {"namespace": "nosuch"}
    elif reason == "scope":
        chain.seal(chain.wanted(name, {"a": b"0"}, scope=Scope.NAMESPACE_WIDE))
    else:
        options = {"api_key": "x", "host": "https://127.0.0.1:1"}
    result = seal(chain, name, tmp_path, env, **options)
    assert result["failed"]
    assert result.get("changed", False) is False
    assert not (tmp_path / "manifest.yaml").exists()


def test_a_manifest_file_that_was_written_before_kubernetes_refused_is_told(
    chain: Chain, name: str, tmp_path: Path
) -> None:
    """Somebody takes the right away just after all was tried."""

    class Refusing(KubernetesStore):
        def write(self, changes: Any, *, check: bool, done: Any) -> Any:
            if check:
                return super().write(changes, check=check, done=done)
            return {change.place: Forbidden("not any more", place=change.place) for change in changes}

    path, spec = tmp_path / "manifest.yaml", chain.wanted(name, {"a": b"1"})
    with pytest.raises(SealingFailed, match=f"0 Secrets were written, and {path}: .*not any more") as failed:
        seal_into(chain.client(), [spec], file=ManifestFile(path), kubernetes=Refusing(chain.kubernetes()))
    assert failed.value.file == str(path)
    assert path.exists()


def test_check_foretells_restarts_and_files_by_its_status(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str]
) -> None:
    shop = f"shop-{name}"
    labels = {"app": shop}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": shop, "namespace": chain.namespace},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "none"}]}},
        },
    }
    client.AppsV1Api(chain.api.api_client).create_namespaced_deployment(chain.namespace, deployment)
    (tmp_path / "a").write_text("1")
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(deployment))
    arguments = ["seal", f"{chain.namespace}/{name}", "--transit-key=derived", "--from-file=a"]
    kubevault(env, tmp_path, *arguments, status=0)
    for more in (
        [f"--restart=Deployment/{shop}"],
        [f"--restart=Deployment/{shop}", "--restart-manifest=shop.yaml"],
        ["--manifest=manifest.yaml", "--apply"],
    ):
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        kubevault(env, tmp_path, *arguments, *more, "--check", status=3)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
        kubevault(env, tmp_path, *arguments, *more, status=0)
        kubevault(env, tmp_path, *arguments, *more, "--check", status=0)


@pytest.fixture
def life(chain: Chain, name: str, tmp_path: Path) -> Life:
    life = make(chain, name, tmp_path, derived=True)
    life.seal(life.spec(name))
    return life


def test_a_rotation_that_fails_afterwards_is_told(life: Life, tmp_path: Path) -> None:
    env = environment(life.chain, tmp_path / "rotator")
    arguments = ["rotate", f"--transit-key={life.key}", "--older-than=0", "--rewrap", "--namespace=nosuch"]
    said = kubevault(env, tmp_path, *arguments, status=1)
    assert f"{life.key}: rotated, newest is version 2" in said
    assert 'namespaces "nosuch" not found' in said
    task = {"transit_key": life.key, "older_than": "0", "rewrap": True, "namespace": ["nosuch"]}
    assert run_module({"kubevault_rotation": task, "check_mode": True}, tmp_path, env)["failed"]
    done = run_module({"kubevault_rotation": task}, tmp_path, env)
    assert (done["failed"], done["changed"], done["rotated"], done["newest_version"]) == (True, True, True, 3)


def test_check_foretells_what_the_key_does_not_open_any_more(life: Life, name: str, tmp_path: Path) -> None:
    life.run("rotate", "--older-than", "0")
    life.chain.vault.write(f"transit/keys/{life.key}/config", min_decryption_version=2)
    file = tmp_path / "git" / "secret.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Secret", **_in_git(life.chain.secret(name))}))
    options = ["--namespace", life.chain.namespace, "--manifest", str(file)]
    foretold, done = (life.run("rewrap", *options, *check) for check in (["--check"], []))
    assert foretold == done
    assert done["changed"] is False
    assert len(done["skipped"]) == 2
    assert all("does not open" in why for why in done["skipped"].values())


def _in_git(secret: dict[str, Any]) -> dict[str, Any]:
    metadata = {key: secret["metadata"][key] for key in ("name", "namespace", "labels")}
    return {"metadata": metadata, "type": secret["type"], "data": secret["data"]}


def test_check_foretells_what_a_run_that_was_broken_off_left(life: Life, name: str) -> None:
    """Only the copy is there, at the newest version."""
    chain = life.chain
    secret = chain.secret(name)
    whole = {"apiVersion": "v1", "kind": "Secret", **_in_git(secret)}
    rest = {key: value for key, value in whole.items() if key != "data"}
    copy = {
        "metadata": {
            "name": f"kubevault-copy-{name}",
            "labels": secret["metadata"]["labels"],
            "annotations": {"kubevault.io/copy-of": json.dumps(rest)},
        },
        "data": secret["data"],
    }
    chain.api.delete_namespaced_secret(name, chain.namespace)
    chain.api.create_namespaced_secret(chain.namespace, copy)
    options = ["--namespace", chain.namespace, "--recreate"]
    foretold = life.run("rewrap", *options, "--check", who="all", status=3)
    done = life.run("rewrap", *options, who="all")
    assert foretold["restored"] == done["restored"] == [life.place(name)]
    assert (foretold["changed"], done["changed"]) == (True, True)
    assert chain.opened(name) == VALUES
    assert life.run("rewrap", *options, who="all")["changed"] is False


def test_125_where_the_files_of_a_program_cannot_be_written(chain: Chain, name: str, tmp_path: Path) -> None:
    chain.seal(chain.wanted(name, {"a": b"1"}))
    (tmp_path / "token").write_text(chain.vault.root.token or "")
    command = f"ulimit -f 0; exec {BIN}/kubevault exec --files --secret {chain.namespace}/{name} -- true"
    env = environment(chain, tmp_path / "token")
    done = subprocess.run(["sh", "-c", command], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 125, done.stderr
    assert "the files of the secrets cannot be written: File too large; name another tmpfs" in done.stderr


def test_a_refusal_of_several_lines_is_told_in_one(chain: Chain, name: str, tmp_path: Path) -> None:
    """As some webhooks write theirs; what answers in Kubernetes' place here is an intermediary."""
    status = {
        "kind": "Status",
        "message": "admission webhook denied the request:\n  - no owner\n\n  - no team",
        "code": 400,
    }
    host, ca = chain.api.api_client.configuration.host, chain.api.api_client.configuration.ssl_ca_cert
    authority = Authority(tmp_path, "between")
    front = Intermediary(host, ca, authority.issue("front"))
    front.answer = lambda path: page(400, json.dumps(status).encode(), "application/json")
    kubernetes = KubernetesClient.from_options({"host": front.url, "api_key": "x", "ca_cert": str(authority.file)})
    try:
        with closing(kubernetes), pytest.raises(KubernetesError) as refused:
            kubernetes.get_secret(chain.namespace, name)
    finally:
        front.close()
    assert refused.value.message == "admission webhook denied the request: - no owner - no team"
