"""What is told of a run that did a part, foretells what a run does, or is refused as a whole."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from kubernetes import client
from support.ansible import BIN
from support.cluster import own_namespace
from support.intermediary import Intermediary, page
from support.modules import Result, run_module
from support.sealing import Chain, environment
from support.servers import Authority, Decoy
from test_rotation import VALUES, Life, make

from secretmanager.errors import ConfigError, Forbidden, KubernetesError, SealingFailed
from secretmanager.rotation.planning import Skip
from secretmanager.sealed import Scope
from secretmanager.sealing.manifestfile import ManifestFile
from secretmanager.sealing.recreation import copy_name
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
        def write(self, changes: Any, *, check: bool, on_written: Any) -> Any:
            if check:
                return super().write(changes, check=check, on_written=on_written)
            return {change.place: Forbidden("not any more", place=change.place) for change in changes}

    path, spec = tmp_path / "manifest.yaml", chain.wanted(name, {"a": b"1"})
    with pytest.raises(SealingFailed, match=f"0 Secrets were written, and {path}: .*not any more") as failed:
        seal_into(chain.client(), [spec], file=ManifestFile(path), kubernetes=Refusing(chain.kubernetes()))
    assert failed.value.file == str(path)
    assert path.exists()


@pytest.fixture
def shop(chain: Chain, name: str, tmp_path: Path) -> Deployment:
    """A Deployment in Kubernetes, and its manifest in the file shop.yaml."""
    labels = {"app": f"shop-{name}"}
    spec = {
        "replicas": 0,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "none"}]}},
    }
    metadata = {"name": f"shop-{name}", "namespace": chain.namespace}
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(manifest))
    shop = Deployment(client.AppsV1Api(chain.api.api_client), metadata["name"], chain.namespace)
    shop.api.create_namespaced_deployment(chain.namespace, manifest)
    return shop


class Deployment(NamedTuple):
    """A Deployment, as the official client sees it."""

    api: client.AppsV1Api
    name: str
    namespace: str

    @property
    def generation(self) -> int:
        return int(self.api.read_namespaced_deployment(self.name, self.namespace).metadata.generation)


def test_check_foretells_restarts_and_files_by_its_status(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str], shop: Deployment
) -> None:
    (tmp_path / "a").write_text("1")
    arguments = ["seal", f"{chain.namespace}/{name}", "--transit-key=derived", "--from-file=a"]
    kubevault(env, tmp_path, *arguments, status=0)
    for more in (
        [f"--restart=Deployment/{shop.name}"],
        [f"--restart=Deployment/{shop.name}", "--restart-manifest=shop.yaml"],
        ["--manifest=manifest.yaml", "--apply"],
    ):
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        kubevault(env, tmp_path, *arguments, *more, "--check", status=3)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
        kubevault(env, tmp_path, *arguments, *more, status=0)
        kubevault(env, tmp_path, *arguments, *more, "--check", status=0)


def test_a_stamp_for_git_is_written_to_its_file_alone(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str], shop: Deployment
) -> None:
    file = tmp_path / "shop.yaml"
    sealing = chain.task(name, data={"a": "1"}, restart=[f"Deployment/{shop.name}"], restart_dest=str(file))
    before = file.read_text()
    foretold = run_module({**sealing, "check_mode": True}, tmp_path, env)
    assert file.read_text() == before
    done, again = (run_module(sealing, tmp_path, env) for _ in range(2))
    assert (
        foretold["restarted"]
        == done["restarted"]
        == [{"namespace": chain.namespace, "kind": "Deployment", "name": shop.name, "secrets": [name]}]
    )
    assert [result["changed"] for result in (foretold, done, again)] == [True, True, False]
    stamped = yaml.safe_load(file.read_text())["spec"]["template"]["metadata"]["annotations"]
    assert list(stamped) == ["kubevault.io/digest"]
    assert shop.generation == 1


def test_a_workload_that_is_not_in_the_file_keeps_all_from_being_sealed(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str], shop: Deployment
) -> None:
    file = tmp_path / "shop.yaml"
    before = file.read_text()
    sealing = chain.task(name, data={"a": "1"}, restart=["Deployment/none"], restart_dest=str(file))
    result = run_module(sealing, tmp_path, env)
    assert "there is no Deployment" in result["msg"]
    assert file.read_text() == before
    with pytest.raises(client.ApiException, match="not found"):
        chain.secret(name)


def test_what_was_written_before_others_failed_is_told(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str]
) -> None:
    """The API refuses one Secret of several, which a dry run of another one does not foretell."""
    entries = [{"name": f"{name}-{number}", "data": {"a": "1"}} for number in range(3)]
    entries[2]["type"] = "kubernetes.io/basic-auth"  # lacks username and password
    (tmp_path / "secrets.yaml").write_text(
        yaml.safe_dump([{**entry, "namespace": chain.namespace, "transit_key": "derived"} for entry in entries])
    )
    said = kubevault(env, tmp_path, "seal", "--secrets=secrets.yaml", status=1)
    for written in entries[:2]:
        assert f"{chain.namespace}/{written['name']}: created" in said
    options = {"namespace": chain.namespace, "transit_key": "derived"}
    others = [{**entry, "name": f"{entry['name']}-other"} for entry in entries]
    result = run_module({"kubevault_secret": {**options, "secrets": others}}, tmp_path, env)
    assert (result["failed"], result["changed"]) == (True, True)
    assert [(item["name"], item["action"]) for item in result["secrets"]] == [
        (entry["name"], "created") for entry in others[:2]
    ]


def test_a_manifest_file_that_cannot_be_written_stays_as_it_was(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str]
) -> None:
    (tmp_path / "a").write_text("1")
    arguments = ["seal", f"{chain.namespace}/{name}", "--transit-key=derived", "--manifest=git/manifest.yaml"]
    (tmp_path / "git").mkdir()
    kubevault(env, tmp_path, *arguments, "--from-file=a", status=0)
    before = (tmp_path / "git/manifest.yaml").read_bytes()
    command = f"ulimit -f 0; exec {BIN}/kubevault {' '.join(arguments)} --from-file=b=a"
    done = subprocess.run(["sh", "-c", command], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert [path.read_bytes() for path in (tmp_path / "git").iterdir()] == [before]


def test_for_git_alone_kubernetes_is_not_contacted(life: Life, name: str, tmp_path: Path) -> None:
    decoy = Decoy()
    env = environment(life.chain, tmp_path / "all", K8S_AUTH_HOST=decoy.url, K8S_AUTH_API_KEY="x")
    del env["K8S_AUTH_KUBECONFIG"]
    sealing = life.chain.task(name, transit_key=life.key, data={"a": "1"}, dest=str(tmp_path / "git.yaml"))
    assert run_module(sealing, tmp_path, env)["changed"]
    life.chain.vault.write(f"transit/keys/{life.key}/rotate")
    arguments = ["rewrap", f"--transit-key={life.key}", "--no-kubernetes", "--manifest=git.yaml"]
    before = (tmp_path / "git.yaml").read_bytes()
    kubevault(env, tmp_path, *arguments, "--check", status=3)
    assert (tmp_path / "git.yaml").read_bytes() == before
    kubevault(env, tmp_path, *arguments, status=0)
    assert (tmp_path / "git.yaml").read_bytes() != before
    decoy.close()
    assert decoy.connections == 0


@pytest.fixture
def life(chain: Chain, name: str, tmp_path: Path) -> Iterator[Life]:
    """A key, and a Secret in a namespace in which nobody else leaves anything."""
    with own_namespace("promises") as cluster:
        life = make(replace(chain, cluster=cluster), name, tmp_path, derived=True)
        life.seal(life.spec(name))
        yield life


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


def test_a_file_that_is_damaged_keeps_no_other_from_being_rewrapped(life: Life, name: str, tmp_path: Path) -> None:
    env = environment(life.chain, tmp_path / "rotator")
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [")
    life.chain.vault.write(f"transit/keys/{life.key}/rotate")
    options = {"transit_key": life.key, "rewrap": True, "rotate": False, "namespace": [life.chain.namespace]}
    leased = {**options, "lease_namespace": life.chain.namespace}
    foretold = run_module({"kubevault_rotation": leased, "check_mode": True}, tmp_path, env)
    assert foretold["rewrapped"] == [life.place(name)]
    leases = client.CoordinationV1Api(life.chain.api.api_client).list_namespaced_lease(life.chain.namespace).items
    assert not [lease for lease in leases if life.key in lease.metadata.name]  # check mode holds none
    result = run_module({"kubevault_rotation": {**options, "manifest": [str(bad)]}}, tmp_path, env)
    assert (result["failed"], result["changed"]) == (True, True)
    assert list(result["failed_secrets"]) == [str(bad)]
    assert result["rewrapped"] == [life.place(name)]


def test_check_foretells_what_a_run_that_was_broken_off_left(life: Life, name: str) -> None:
    """Only the copy is there, at the newest version."""
    chain = life.chain
    secret = chain.secret(name)
    whole = {"apiVersion": "v1", "kind": "Secret", **_in_git(secret)}
    rest = {key: value for key, value in whole.items() if key != "data"}
    copy = {
        "metadata": {
            "name": copy_name(name),
            "labels": secret["metadata"]["labels"],
            "annotations": {"kubevault.io/copy-of": json.dumps(rest)},
        },
        "data": secret["data"],
    }
    chain.api.delete_namespaced_secret(name, chain.namespace)
    chain.api.create_namespaced_secret(chain.namespace, copy)
    options = ["--namespace", chain.namespace, "--recreate"]
    # Anybody may have written the copy: nothing is made of it unasked.
    left = life.run("rewrap", *options[:2], who="all")
    assert (left["changed"], left["skipped"]) == (False, {life.place(name): str(Skip.LEFT)})
    with pytest.raises(ConfigError, match=f"its copy {copy_name(name)} is there, .*; set recreate to make it"):
        life.seal(life.spec(name, {"a": b"PLAIN-new"}))
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
