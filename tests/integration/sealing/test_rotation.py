"""Rotate, rewrap and retire on real servers, by the command and with the rights of a rotator and a retirer alone."""

from __future__ import annotations

import base64
import itertools
import json
import os
import queue
import re
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote

import pytest
import yaml
from click.testing import CliRunner
from kubernetes import client
from support import forked
from support.ansible import BIN
from support.cluster import Cluster, own_namespace
from support.intermediary import Intermediary, page
from support.lab import Lab
from support.sealing import Chain, environment, rules
from support.servers import Authority, wait_until

from secretmanager.commands import rewrap, rotation
from secretmanager.rotation.planning import Options, Shard
from secretmanager.rotation.rewrapper import Report, Rewrapper
from secretmanager.sealed import sealed_values
from secretmanager.sealing.manifestfile import ManifestFile
from secretmanager.sealing.recreation import recreate
from secretmanager.sealing.sealer import Sealer, seal_into
from secretmanager.sealing.spec import SecretSpec
from secretmanager.sealing.stores import KubernetesStore
from secretmanager.servers.http import tls_context
from secretmanager.servers.kubernetes import KubernetesClient
from secretmanager.servers.vault import TransitItem, VaultClient

VALUES = {"a": b"PLAIN-a", "b.json": b'{"x": "PLAIN-b"}'}


@dataclass(frozen=True)
class Life:
    """A Transit key of its own, and the command with the token of its rotator or its retirer."""

    chain: Chain
    key: str
    folder: Path

    def run(self, command: str, *options: str, status: int = 0, who: str | None = None) -> dict[str, Any]:
        """Run a subcommand; return what it prints as JSON, or with another status the text of its errors."""
        token = self.folder / (who or ("retirer" if command == "retire" else "rotator"))
        arguments = [command, "--transit-key", self.key, "--output", "json", *options]
        process = forked.kubevault(*arguments, env=environment(self.chain, token))
        output, errors = process.stdout.decode(), process.stderr.decode()
        assert process.returncode == status, output + errors
        assert "PLAIN-" not in output + errors
        facts: dict[str, Any] = json.loads(output) if output else {}
        return {**facts, "said": errors}

    def spec(self, name: str, values: dict[str, bytes] | None = None, **options: Any) -> SecretSpec:
        return SecretSpec(self.chain.namespace, name, values or VALUES, **{"transit_key": self.key, **options})

    @property
    def root(self) -> VaultClient:
        return self.chain.client(self.chain.vault.root.token)

    def seal(self, *specs: SecretSpec) -> None:
        Sealer(self.root, KubernetesStore(self.chain.kubernetes())).seal(specs)

    def make_old(self) -> None:
        """Have the key's versions be a day old, by a backup in which they are."""
        path, vault = f"transit/keys/{self.key}", self.chain.vault
        vault.write(f"{path}/config", exportable=True, allow_plaintext_backup=True)
        backup = vault.root.request("GET", f"transit/backup/{self.key}").json()["data"]["backup"]
        content = json.loads(base64.b64decode(backup))
        created = datetime.now(UTC) - timedelta(days=1)
        for version in (*content["policy"]["keys"].values(), *content["archived_keys"]["keys"]):
            version |= {"time": created.isoformat(), "creation_time": int(created.timestamp())}
        old = base64.b64encode(json.dumps(content).encode()).decode()
        vault.write(f"transit/restore/{self.key}", backup=old, force=True)

    def versions(self, name: str) -> set[int]:
        return {value.version for value in sealed_values(self.chain.secret(name)).values()}

    def place(self, name: str) -> str:
        return f"{self.chain.namespace}/{name}"


@pytest.fixture(params=[True, False], ids=["derived", "plain"])
def life(chain: Chain, name: str, tmp_path: Path, request: pytest.FixtureRequest) -> Life:
    return make(chain, name, tmp_path, derived=request.param)


@pytest.fixture
def one_life(chain: Chain, name: str, tmp_path: Path) -> Life:
    return make(chain, name, tmp_path, derived=True)


def make(chain: Chain, name: str, folder: Path, *, derived: bool) -> Life:
    key = f"key-{name}"
    chain.vault.new_key(key, derived=derived)
    (folder / "all").write_text(chain.vault.root.token or "")
    for who in ("rotator", "retirer"):
        (folder / who).write_text(chain.token_for(rules(who, key)))
    return Life(chain, key, folder)


def test_the_whole_life_of_a_key(life: Life, name: str) -> None:
    chain, names = life.chain, [f"{name}-{number}" for number in range(3)]
    life.seal(*(life.spec(each) for each in names))
    plain = chain.opened(names[0])
    assert life.run("rotate", "--older-than", "1h")["rotated"] is False
    assert life.run("rotate", "--older-than", "0", "--check", status=3) | {"said": ""} == {
        "changed": True,
        "rotated": True,
        "newest_version": 1,
        "current": 0,
        "rewrapped": [],
        "skipped": {},
        "failed": {},
        "retired": False,
        "min_decryption_version": 1,
        "said": "",
    }
    assert life.run("rotate", "--older-than", "0")["newest_version"] == 2
    refused = life.run("retire", status=1)
    assert (refused["retired"], refused["newest_version"], refused["min_decryption_version"]) == (False, 2, 1)
    refused = refused["said"]
    assert f"3 Secrets are behind: {life.place(names[0])} (version 1)" in refused
    checked, done = life.run("rewrap", "--check", status=3), life.run("rewrap")
    assert checked["rewrapped"] == done["rewrapped"] == [life.place(each) for each in names]
    assert [life.versions(each) for each in names] == [{2}] * 3
    assert chain.opened(names[0]) == plain == VALUES
    assert life.run("rewrap", "--check")["changed"] is False
    again = life.run("rewrap")
    assert (again["changed"], again["current"], again["rewrapped"]) == (False, 3, [])
    assert life.run("retire", "--check", status=3)["retired"] is True
    retired = life.run("retire", "--trim")
    assert (retired["retired"], retired["min_decryption_version"]) == (True, 2)
    assert life.run("retire", "--trim")["changed"] is False
    assert chain.opened(names[0]) == VALUES


def test_a_sealing_run_after_it_changes_nothing(life: Life, name: str) -> None:
    life.seal(life.spec(name))
    life.run("rotate", "--older-than", "0", "--rewrap")
    before = life.chain.secret(name)
    life.seal(life.spec(name))
    assert life.chain.secret(name) == before


def test_one_command_does_all_three(one_life: Life, name: str) -> None:
    one_life.seal(one_life.spec(name))
    metrics = one_life.folder / "rotation.prom"
    options = ("--older-than", "0", "--rewrap", "--retire", "--trim", f"--metrics={metrics}")
    for status, more in ((3, ["--check"]), (0, [])):
        done = one_life.run("rotate", *options, *more, who="all", status=status)
        assert (done["rotated"], done["rewrapped"], done["retired"]) == (True, [one_life.place(name)], True)
        assert metrics.exists() is (status == 0)
    metric, value = metrics.read_text().splitlines()[-1].split(" ")
    assert metric == f'kubevault_rotation_last_success_timestamp_seconds{{transit_key="{one_life.key}"}}'
    assert value.isdigit()


def test_each_command_as_users_start_it(one_life: Life, name: str) -> None:
    """In all other tests, it runs in a process that is forked."""
    one_life.seal(one_life.spec(name))
    environments = {who: environment(one_life.chain, one_life.folder / who) for who in ("rotator", "retirer")}
    for who, command, *options in (
        ("rotator", "rotate", "--older-than", "0"),
        ("rotator", "rewrap", "--namespace", one_life.chain.namespace),
        ("retirer", "retire"),
    ):
        command_line = [BIN / "kubevault", command, "--transit-key", one_life.key, *options]
        subprocess.run(command_line, env=environments[who], check=True)
    assert one_life.versions(name) == {2}
    assert one_life.root.read_key(one_life.key)["min_decryption_version"] == 2


@pytest.mark.parametrize("command", ["rewrap", "rotate --older-than 0 --rewrap"])
@pytest.mark.parametrize("output", ["text", "json"])
def test_what_fails_ends_the_process_with_1(one_life: Life, name: str, command: str, output: str) -> None:
    """A CronJob, a timer or a shard's Job would not notice anything else. What can be written is."""
    one_life.seal(one_life.spec(name))
    one_life.chain.vault.write(f"transit/keys/{one_life.key}/rotate")
    bad = one_life.folder / "bad.yml"
    bad.write_text("a: vault:v1:x\n b: [")
    metrics = one_life.folder / "rotation.prom"
    options = ["--transit-key", one_life.key, "--output", output, "--manifest", str(bad)]
    options += [f"--metrics={metrics}"] if command.startswith("rotate") else []
    run = subprocess.run(
        [BIN / "kubevault", *command.split(), *options],
        env=environment(one_life.chain, one_life.folder / "rotator"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "is not YAML" in run.stdout
    assert output == "text" or list(json.loads(run.stdout)["failed"]) == [str(bad)]
    assert run.stderr == "kubevault: 1 could not be rewrapped\n"
    assert not metrics.exists()
    assert one_life.versions(name) == {2 + command.count("rotate")}


@pytest.mark.parametrize("age", ["30", "1.5d", "1d12h", ""])
def test_an_age_has_a_unit(one_life: Life, age: str) -> None:
    """30 would be seconds: a key of minutes would be rotated, at every run."""
    refused = one_life.run("rotate", "--older-than", age, status=2)["said"]
    assert f"--older-than: found '{age}'; allowed is a number with s, m, h or d, such as 30d, or 0" in refused
    assert one_life.root.read_key(one_life.key)["latest_version"] == 1


def test_what_is_left_behind_is_told_and_not_retired(one_life: Life, name: str) -> None:
    chain = one_life.chain
    labels = {"kustomize.toolkit.fluxcd.io/name": "x"}
    names = {kind: f"{name}-{kind}" for kind in ("immutable", "flux", "argo", "damaged", "fine")}
    one_life.seal(
        one_life.spec(names["immutable"], immutable=True),
        one_life.spec(names["flux"], labels=labels),
        one_life.spec(names["argo"], annotations={"argocd.argoproj.io/tracking-id": "x"}),
        one_life.spec(names["damaged"]),
        one_life.spec(names["fine"]),
    )
    other = chain.secret(names["fine"])["data"]["a"]
    chain.api.patch_namespaced_secret(names["damaged"], chain.namespace, {"data": {"a": other}})
    done = one_life.run("rotate", "--older-than", "0", "--rewrap")
    assert done["rewrapped"] == [one_life.place(names["fine"])]
    assert {place.rpartition("-")[2]: why.partition(":")[0] for place, why in done["skipped"].items()} == {
        "immutable": "it is immutable",
        "flux": "Argo CD or Flux owns it",
        "argo": "Argo CD or Flux owns it",
        "damaged": "its manifest, or a value, is damaged",
    }
    assert "4 Secrets are behind" in one_life.run("retire", status=1)["said"]
    more = one_life.run("rewrap", "--gitops")
    assert len(more["rewrapped"]) == 2
    chain.api.delete_namespaced_secret(names["damaged"], chain.namespace)
    assert "1 Secrets are behind" in one_life.run("retire", status=1)["said"]


def test_a_copy_is_left_and_told(one_life: Life, name: str) -> None:
    """Vault does not rewrap what it cannot open."""
    chain = one_life.chain
    one_life.seal(one_life.spec(name))
    secret = chain.secret(name)
    metadata = {"name": f"{name}-copy", "labels": secret["metadata"]["labels"]}
    chain.api.create_namespaced_secret(chain.namespace, {"metadata": metadata, "data": secret["data"]})
    done = one_life.run("rotate", "--older-than", "0", "--rewrap")
    assert done["rewrapped"] == [one_life.place(name)]
    (why,) = done["skipped"].values()
    assert why.startswith("it is a copy: its values were sealed for another Secret")
    chain.api.delete_namespaced_secret(f"{name}-copy", chain.namespace)


def test_a_quota_that_still_counts_what_is_deleted_keeps_no_secret_away(
    chain: Chain, name: str, tmp_path: Path
) -> None:
    """Kubernetes counts a deletion only after a while; what is recreated is gone meanwhile."""
    with own_namespace("quota") as cluster:
        life = make(replace(chain, cluster=cluster), name, tmp_path, derived=True)
        life.seal(life.spec(name, immutable=True))
        place = {"namespace": cluster.namespace, "name": "secrets"}
        cluster.api.create_namespaced_resource_quota(
            cluster.namespace, {"metadata": place, "spec": {"hard": {"count/secrets": "2"}}}
        )

        def used() -> str | None:
            found = cluster.api.read_namespaced_resource_quota(**place)
            return (found.status.used or {}).get("count/secrets")

        wait_until("the count", lambda: used() == "1")
        done = life.run("rotate", "--older-than", "0", "--rewrap", "--recreate", who="all")
        assert done["rewrapped"] == [life.place(name)]
        assert life.versions(name) == {2}
        cluster.api.patch_namespaced_resource_quota(
            "secrets", cluster.namespace, {"spec": {"hard": {"count/secrets": "1"}}}
        )
        wait_until("the count", lambda: used() == "1")
        life.seal(life.spec(name, {"a": b"PLAIN-new"}, immutable=True, recreate=True))
        assert life.chain.opened(name)["a"] == b"PLAIN-new"


def test_what_a_policy_would_keep_away_is_not_deleted(chain: Chain, name: str, tmp_path: Path) -> None:
    """The copy that a recreation makes first passes the policy; the Secret itself would not."""
    with own_namespace("policy") as cluster:
        life = make(replace(chain, cluster=cluster), name, tmp_path, derived=True)
        life.seal(life.spec(name, immutable=True, labels={"app": "shop"}))
        before = life.chain.secret(name)
        with refusing_label("app", cluster):
            life.run("rotate", "--older-than", "0", who="all")
            foretold = life.run("rewrap", "--recreate", "--check", who="all", status=1)
            done = life.run("rewrap", "--recreate", who="all", status=1)
        assert foretold["failed"] == done["failed"]
        assert "no Secret with this label" in done["failed"][life.place(name)]
        assert life.chain.secret(name) == before
        assert len(cluster.api.list_namespaced_secret(cluster.namespace).items) == 1


def test_an_immutable_secret_with_finalizers_is_not_lost(chain: Chain, name: str, tmp_path: Path) -> None:
    """Kubernetes keeps it for a while after its deletion; what stands for it meanwhile is its copy."""
    life = make(chain, name, tmp_path, derived=True)
    life.seal(life.spec(name, immutable=True))
    held = {"metadata": {"finalizers": ["example.org/backup"]}}
    chain.api.patch_namespaced_secret(name, chain.namespace, held)
    life.run("rotate", "--older-than", "0")
    root, kubernetes = life.root, chain.kubernetes()
    with patch.object(recreate, "__defaults__", (0.1,)):
        report = Report()
        Rewrapper(root, kubernetes, Options(life.key, recreate=True), 2, [chain.namespace]).run(report)
    assert "finalizers that keep it: example.org/backup" in report.failed[life.place(name)]
    release = {"metadata": {"finalizers": None}}
    chain.api.patch_namespaced_secret(name, chain.namespace, release)
    with pytest.raises(client.ApiException, match="not found"):
        chain.secret(name)
    done = life.run("rewrap", "--recreate", "--namespace", chain.namespace, who="all")
    assert done["changed"] is True
    assert life.chain.opened(name) == VALUES
    assert life.versions(name) == {2}
    chain.api.patch_namespaced_secret(name, chain.namespace, release)


@contextmanager
def refusing_label(label: str, cluster: Cluster) -> Iterator[None]:
    """Have the API refuse new Secrets of a namespace that have a label."""
    api = client.AdmissionregistrationV1Api(cluster.api.api_client)
    name = cluster.namespace
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"], "operations": ["CREATE"]}
    expression = f"!has(object.metadata.labels) || !('{label}' in object.metadata.labels)"
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": expression, "message": "no Secret with this label"}],
    }
    api.create_validating_admission_policy({"metadata": {"name": name}, "spec": spec})
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": here}
    api.create_validating_admission_policy_binding({"metadata": {"name": name}, "spec": binding})

    def refused() -> bool:
        body = {"metadata": {"name": "probe", "labels": {label: "x"}}}
        try:
            cluster.api.create_namespaced_secret(name, body, dry_run="All")
        except client.ApiException as error:
            return error.status == 422
        return False

    try:
        wait_until("the policy", refused)
        yield
    finally:
        api.delete_validating_admission_policy_binding(name)
        api.delete_validating_admission_policy(name)


def test_a_damaged_manifest_is_told_of_the_key_that_opens_its_values(life: Life, name: str) -> None:
    chain = life.chain
    life.seal(life.spec(name), life.spec(f"{name}-other", transit_key="derived"))
    broken = {"data": {".kubevault": base64.b64encode(b"{").decode()}}
    for each in (name, f"{name}-other"):
        chain.api.patch_namespaced_secret(each, chain.namespace, broken)
    done = life.run("rotate", "--older-than", "0", "--rewrap")
    assert done["skipped"] == {life.place(name): "its manifest, or a value, is damaged: seal it again"}
    refused = life.run("retire", status=1)["said"]
    assert f"1 Secrets are behind: {life.place(name)} (its manifest" in refused
    for each in (name, f"{name}-other"):
        chain.api.delete_namespaced_secret(each, chain.namespace)
    assert life.run("retire")["retired"]


def test_values_of_an_older_tool(chain: Chain, name: str, tmp_path: Path) -> None:
    with own_namespace("older") as cluster:  # in which nobody else leaves a plain Secret
        chain = replace(chain, cluster=cluster)
        life, root = make(chain, name, tmp_path, derived=False), chain.vault.root
        (ours,) = root.encrypt(life.key, [TransitItem(b"PLAIN-old")])
        other = f"foreign-{name}"  # at version 1, which is behind; other tests rotate the shared keys
        chain.vault.new_key(other, derived=False)
        (foreign,) = root.encrypt(other, [TransitItem(b"PLAIN-foreign")])
        chain.put(name, {"value": ours.encode()})
        chain.put(f"{name}-foreign", {"value": foreign.encode()})
        done = life.run("rotate", "--older-than", "0", "--rewrap")
        assert (done["rewrapped"], done["skipped"]) == ([], {})
        assert f"1 Secrets are behind: {life.place(name)}" in life.run("retire", status=1)["said"]
        done = life.run("rewrap", "--unmanaged", "--namespace", chain.namespace)
        assert done["rewrapped"] == [life.place(name)]
        assert set(done["skipped"]) == {life.place(f"{name}-foreign")}
        # A retirer alone cannot tell whose it is.
        chain.api.delete_namespaced_secret(f"{name}-foreign", chain.namespace)


def test_files_of_git(life: Life, name: str, tmp_path: Path) -> None:
    chain, folder = life.chain, tmp_path / "manifests"
    (folder / "deep").mkdir(parents=True)
    path = folder / "deep" / "secret.yaml"
    seal_into(life.root, [life.spec(name)], file=ManifestFile(path))
    path.write_text(f"# of the team\n{path.read_text()}---\nkind: ConfigMap # stays\n")
    (folder / "helm.yaml").write_text("{{ no: yaml")
    before = path.read_text().splitlines()
    done = life.run("rotate", "--older-than", "0", "--rewrap", "--no-kubernetes", "--manifest", str(folder))
    assert done["rewrapped"] == [f"{path}: {life.place(name)}"]
    after = path.read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == len(VALUES) + 1  # the values, and the manifest with their checksums
    secret = next(yaml.safe_load_all(path.read_text()))
    assert {value.version for value in sealed_values(secret).values()} == {2}
    assert life.run("rewrap", "--no-kubernetes", "--manifest", str(path))["changed"] is False
    unplaced = path.with_name("unplaced.yaml")
    unplaced.write_text("\n".join(line for line in before if "namespace:" not in line) + "\n")
    done = life.run("rewrap", "--no-kubernetes", "--manifest", str(unplaced))
    assert done["skipped"] == {
        f"{unplaced}: {name}": "its file names no namespace, which its values may be bound to: add it"
    }
    assert f"{unplaced}: {name} (version 1)" in life.run("retire", "--manifest", str(unplaced), status=1)["said"]
    unplaced.unlink()
    chain.vault.write(f"transit/keys/{life.key}/rotate")
    assert f"{path}: {life.place(name)} (version 2)" in life.run("retire", "--manifest", str(folder), status=1)["said"]
    secret = next(yaml.safe_load_all(path.read_text()))
    path.unlink()
    for kind, suffix in (("List", "json"), ("SecretList", "yaml")):
        listed = path.with_suffix(f".{suffix}")
        listed.write_text(json.dumps({"apiVersion": "v1", "kind": kind, "items": [secret]}))
        refused = life.run("retire", "--manifest", str(folder), status=1)["said"]
        assert f"{listed}: {life.place(name)} (version 2)" in refused
        done = life.run("rewrap", "--no-kubernetes", "--manifest", str(folder))
        assert done["rewrapped"] == [f"{listed}: {life.place(name)}"]
        (rewrapped,) = json.loads(listed.read_text())["items"]
        assert {value.version for value in sealed_values(rewrapped).values()} == {3}
        listed.unlink()


# Broken-off runs, and others at the same time


Fronts = tuple[Intermediary, Intermediary]
"""What is in front of Vault and of Kubernetes."""


@pytest.fixture
def between(chain: Chain, tmp_path: Path) -> Iterator[Fronts]:
    """Something in front of Vault and of Kubernetes that sees each request."""
    authority = Authority(tmp_path, "between")
    configuration = chain.api.api_client.configuration
    servers = ((chain.vault.url, chain.vault.ca), (configuration.host, configuration.ssl_ca_cert))
    front = [Intermediary(url, ca, authority.issue(f"front-{n}")) for n, (url, ca) in enumerate(servers)]
    yield front[0], front[1]
    for one in front:
        one.close()


@dataclass(frozen=True)
class Rotation:
    """A whole rotation through the intermediaries."""

    arguments: list[str]
    env: dict[str, str]

    @classmethod
    def of(cls, life: Life, between: Fronts) -> Rotation:
        """Return a rotation with the rights of a rotator, in Vault and in Kubernetes."""
        vault, kubernetes = between
        ca = str(life.folder / "between.crt")
        rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "get", "update", "create", "delete"]}
        user = life.chain.cluster.account(f"rotator-{uuid.uuid4().hex[:8]}", [rule])
        kubeconfig = life.chain.cluster.kubeconfig_of(user, life.folder, kubernetes.url, ca)
        servers = {"VAULT_ADDR": vault.url, "VAULT_CACERT": ca, "K8S_AUTH_KUBECONFIG": kubeconfig}
        arguments = ["rotate", "--transit-key", life.key, "--older-than", "1h", "--rewrap"]
        arguments += ["--namespace", life.chain.namespace, "--recreate", "--concurrency", "1"]
        return cls(arguments, {**environment(life.chain, life.folder / "rotator"), **servers})

    def start(self, *options: str, **variables: str) -> forked.Forked:
        """Start it, without waiting for its end."""
        return forked.start(*self.arguments, *options, env={**self.env, **variables})

    def run(self, *options: str) -> None:
        process = self.start(*options)
        assert process.wait() == 0, process.output


@pytest.mark.parametrize("lost", ["the request", "the response"])
def test_kill_at_every_request(one_life: Life, name: str, between: Fronts, lost: str, tmp_path: Path) -> None:
    chain, names = one_life.chain, [f"{name}-a", f"{name}-b", f"{name}-c"]
    file = tmp_path / "secrets.yaml"
    rotation, file_options = Rotation.of(one_life, between), ("--manifest", str(file))
    points = []
    for number in itertools.count(1):
        for each in names:
            chain.api.delete_collection_namespaced_secret(chain.namespace, field_selector=f"metadata.name={each}")
        file.unlink(missing_ok=True)
        one_life.seal(one_life.spec(names[0]), one_life.spec(names[1]), one_life.spec(names[2], immutable=True))
        seal_into(one_life.root, [one_life.spec(names[0])], file=ManifestFile(file))
        chain.vault.write(f"transit/keys/{one_life.key}/rotate")
        asked: list[str] = []
        processes: queue.SimpleQueue[forked.Forked] = queue.SimpleQueue()

        def at(path: str, asked: list[str] = asked, processes: Any = processes, number: int = number) -> None:
            asked.append(path.partition("?")[0])
            if len(asked) == number:
                processes.get().kill()

        def refuse(path: str, at: Any = at, asked: list[str] = asked, number: int = number) -> bytes | None:
            at(path)
            return b"" if len(asked) >= number else None

        for one in between:
            one.answer, one.after = (refuse, lambda path: None) if lost == "the request" else (lambda path: None, at)
        process = rotation.start(*file_options)
        processes.put(process)
        status = process.wait()
        if status == 0:
            break
        assert status == -signal.SIGKILL, process.output
        points.append(asked[-1])
        for one in between:
            one.answer, one.after = lambda path: None, lambda path: None
        rotation.run(*file_options)
        newest = int(chain.vault.root.read_key(one_life.key)["latest_version"])
        assert [one_life.versions(each) for each in names] == [{newest}] * 3, points
        assert [chain.opened(each) for each in names] == [VALUES] * 3, points
        found = [secret.metadata.name for secret in chain.api.list_namespaced_secret(chain.namespace).items]
        assert not [each for each in found if each.startswith("kubevault-copy-")], points
        assert chain.secret(names[2])["immutable"] is True
        (secret,) = ManifestFile(file).load().values()
        assert {value.version for value in sealed_values(secret).values()} == {newest}
    print(len(points), *points, sep="\n")
    # The key, the list, the batch, two writes, a copy, a deletion, a new one, the copy's deletion, the file's batch.
    assert len(points) >= 10


def test_an_interrupted_run_says_what_is_done_and_the_next_one_goes_on(
    one_life: Life, name: str, between: Fronts
) -> None:
    one_life.seal(*(one_life.spec(f"{name}-{number}") for number in range(30)))
    one_life.chain.vault.write(f"transit/keys/{one_life.key}/rotate")
    rotation = Rotation.of(one_life, between)
    command = [BIN / "kubevault", *rotation.arguments]
    process = subprocess.Popen(command, env=rotation.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    seen: list[str] = []

    def look(path: str) -> None:
        if f"/secrets/{name}-" in path:
            seen.append(path)
            if len(seen) == 5:
                process.send_signal(signal.SIGINT)

    between[1].after = look
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    told = re.search(r"interrupted: (\d+) rewrapped, .* left behind; the next run goes on from there", said)
    assert told, said
    assert 0 < int(told[1]) <= 30
    assert len(one_life.run("rewrap")["rewrapped"]) == 30 - int(told[1])


def test_its_memory_holds_no_plaintext(one_life: Life, name: str, between: Fronts) -> None:
    """The process is stopped when it has rewrapped all, before it writes the last Secret."""
    chain = one_life.chain
    one_life.seal(*(one_life.spec(f"{name}-{number}") for number in range(20)))
    chain.vault.write(f"transit/keys/{one_life.key}/rotate")
    rotation = Rotation.of(one_life, between)
    process = subprocess.Popen([BIN / "kubevault", *rotation.arguments], env=rotation.env)
    memories: list[bytes] = []

    def look(path: str) -> None:
        if f"/secrets/{name}-" in path and not memories:
            process.send_signal(signal.SIGSTOP)
            memories.append(memory_of(process.pid))
            process.send_signal(signal.SIGCONT)

    between[1].after = look
    assert process.wait(60) == 0
    (memory,) = memories
    assert one_life.key.encode() in memory
    assert chain.secret(f"{name}-0")["data"]["a"].encode() in memory
    assert b"PLAIN-" not in memory
    assert base64.b64encode(b"PLAIN-a") not in memory


def memory_of(pid: int) -> bytes:
    """Return what a process can write to: its heap, stacks and buffers (proc_pid_mem(5))."""
    parts = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights = line.split()[:2]
            first, last = (int(number, 16) for number in place.split("-"))
            if rights.startswith("rw") and "[vvar" not in line:
                memory.seek(first)
                parts.append(memory.read(last - first))
    return b"".join(parts)


def test_a_sealer_a_reader_and_a_second_rotator_at_the_same_time(one_life: Life, name: str) -> None:
    chain, names = one_life.chain, [f"{name}-{number}" for number in range(30)]
    one_life.seal(*(one_life.spec(each) for each in names))
    chain.vault.write(f"transit/keys/{one_life.key}/rotate")
    stop = threading.Event()
    newest = {"a": b"PLAIN-new", "b.json": VALUES["b.json"]}

    def read() -> int:
        count = 0
        while not stop.is_set():
            for each in names:
                assert chain.opened(each) in (VALUES, newest)
                count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        reading = pool.submit(read)
        rotators = [pool.submit(one_life.run, "rewrap", "--namespace", chain.namespace) for _ in range(2)]
        try:
            one_life.seal(*(one_life.spec(each, newest) for each in names[::2]))
            reports = [rotator.result() for rotator in rotators]
        finally:
            stop.set()
        assert reading.result() > 0
    assert [report["failed"] for report in reports] == [{}, {}]
    assert [one_life.versions(each) for each in names] == [{2}] * 30
    assert [chain.opened(each) for each in names] == [newest, VALUES] * 15


def test_progress(one_life: Life, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines for logs; on a terminal the same text beside a spinner."""
    one_life.seal(*(one_life.spec(f"{name}-{number}") for number in range(3)))
    one_life.chain.vault.write(f"transit/keys/{one_life.key}/rotate")
    monkeypatch.setattr(rotation, "EVERY", 0.0)
    for variable, value in environment(one_life.chain, one_life.folder / "rotator").items():
        monkeypatch.setenv(variable, value)
    options = ["--transit-key", one_life.key, "--namespace", one_life.chain.namespace]
    told = CliRunner().invoke(rewrap.command, options)
    assert told.exit_code == 0, told.output
    assert re.findall(r"kubevault: (\d) rewrapped", told.stderr) == ["1", "2", "3"]
    assert f"{one_life.key}: 3 rewrapped" in told.stdout


def test_shards(one_life: Life, name: str) -> None:
    names = [f"{name}-{number}" for number in range(40)]
    one_life.seal(*(one_life.spec(each) for each in names))
    one_life.chain.vault.write(f"transit/keys/{one_life.key}/rotate")
    done = [one_life.run("rewrap", "--shard", f"{index}/4")["rewrapped"] for index in range(3)]
    assert "are behind" in one_life.run("retire", status=1)["said"]
    done.append(one_life.run("rewrap", "--shard", "3/4")["rewrapped"])
    assert all(done)
    assert sorted(itertools.chain(*done)) == sorted(one_life.place(each) for each in names)
    assert one_life.run("retire")["retired"]
    assert "allowed is I/N" in one_life.run("rewrap", "--shard", "4/4", status=2)["said"]


def test_four_shards_of_which_one_is_killed(one_life: Life, name: str, between: Fronts) -> None:
    """As an Indexed Job runs them: all at once, and the one that failed again."""
    chain, names = one_life.chain, [f"{name}-{number}" for number in range(40)]
    one_life.seal(*(one_life.spec(each) for each in names))
    chain.vault.write(f"transit/keys/{one_life.key}/rotate")
    places = {each: {"metadata": {"namespace": chain.namespace, "name": each}} for each in names}
    doomed = [f"/{each}?" for each, place in places.items() if place in Shard(2, 4)]
    rotation, shards = Rotation.of(one_life, between), list[forked.Forked]()
    written: list[str] = []

    def kill(path: str) -> None:
        written.extend(each for each in doomed if each in path)
        if len(written) == 2:
            shards[2].kill()

    between[1].after = kill

    def shard(index: int) -> forked.Forked:
        return rotation.start(JOB_COMPLETION_INDEX=str(index), KUBEVAULT_SHARDS="4")

    for index in range(4):
        shards.append(shard(index))
    assert [process.wait() for process in shards] == [0, 0, -signal.SIGKILL, 0]
    left = [each for each in names if one_life.versions(each) == {1}]
    assert len(left) == len(doomed) - 2
    said = one_life.run("retire", status=1)["said"]
    assert f"{len(left)} Secrets are behind: {one_life.place(min(left))} (version 1)" in said
    assert shard(2).wait() == 0
    assert [one_life.versions(each) for each in names] == [{2}] * 40
    assert [chain.opened(each) for each in names] == [VALUES] * 40
    assert one_life.run("retire")["retired"] is True


def test_the_first_shard_rotates_for_all(one_life: Life, name: str) -> None:
    one_life.seal(*(one_life.spec(f"{name}-{number}") for number in range(10)))
    one_life.make_old()
    options = ("--older-than", "1h", "--rewrap", "--shard")
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(one_life.run, "rotate", *options, f"{index}/2") for index in (1, 0)]
        others, first = (each.result() for each in done)
    assert (first["rotated"], others["rotated"]) == (True, False)
    assert (first["newest_version"], others["newest_version"]) == (2, 2)
    assert len(first["rewrapped"] + others["rewrapped"]) == 10
    refused = one_life.run("rotate", "--older-than", "0", "--shard", "1/2", status=1)
    assert "--older-than: found 0, together with a shard" in refused["said"]


def test_a_rerun_is_one_list(chain: Chain, name: str, tmp_path: Path, between: Fronts) -> None:
    with own_namespace("rerun") as cluster:
        life = make(replace(chain, cluster=cluster), name, tmp_path, derived=True)
        life.seal(*(life.spec(f"{name}-{number}") for number in range(20)))
        chain.vault.write(f"transit/keys/{life.key}/rotate")
        rotation = Rotation.of(life, between)
        rotation.run()
        for one in between:
            one.paths.clear()
        rotation.run()
        assert between[0].paths == [f"/v1/transit/keys/{life.key}"]
        selector = "labelSelector=kubevault.io%2Fsealed%3Dtrue"
        assert between[1].paths == [f"/api/v1/namespaces/{cluster.namespace}/secrets?limit=500&{selector}"]


def test_an_api_that_is_busy(one_life: Life, name: str, between: Fronts) -> None:
    """The API answers so if more requests wait than its priority level has queues for (flow-control)."""
    names = [f"{name}-{number}" for number in range(2)]
    one_life.seal(*(one_life.spec(each) for each in names))
    one_life.chain.vault.write(f"transit/keys/{one_life.key}/rotate")
    status = {"kind": "Status", "message": "too many requests, please try again later", "code": 429}
    busy = page(429, json.dumps(status).encode(), "application/json", "Retry-After: 1")
    refused: set[str] = set()

    def answer(path: str) -> bytes | None:
        known = path in refused
        refused.add(path)
        return None if known else busy

    between[1].answer = answer
    Rotation.of(one_life, between).run()
    assert len(refused) == 3  # the list, and each Secret
    assert [one_life.versions(each) for each in names] == [{2}] * 2


def test_a_run_outlasts_the_token_of_its_list(
    one_life: Life, name: str, between: Fronts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API refuses a token whose state etcd has dropped. Instead of waiting for that, the token is made old."""
    chain, front = one_life.chain, between[1]
    names = [f"{name}-{number}" for number in range(5)]
    one_life.seal(*(one_life.spec(each) for each in names))
    chain.vault.write(f"transit/keys/{one_life.key}/rotate")
    forward, statuses = front.forward, []

    def age(method: str, path: str, body: bytes, headers: dict[str, str]) -> Any:
        address, _, token = path.partition("&continue=")
        if token and not statuses:
            old = {**json.loads(base64.urlsafe_b64decode(f"{unquote(token)}==")), "rv": 2}
            path = f"{address}&continue={base64.urlsafe_b64encode(json.dumps(old).encode()).decode().rstrip('=')}"
        response = forward(method, path, body, headers)
        if token:
            statuses.append(response.status)
        return response

    monkeypatch.setattr(front, "forward", age)
    monkeypatch.setattr("secretmanager.servers.kubernetes.PAGE", 2)
    compact(Path(os.environ["KUBEVAULT_LAB"]))
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "get", "update"]}
    user = chain.cluster.account(name, [rule])
    kubeconfig = chain.cluster.kubeconfig_of(user, one_life.folder, front.url, str(one_life.folder / "between.crt"))
    report = Report()
    kubernetes = KubernetesClient.from_kubeconfig(kubeconfig)
    Rewrapper(one_life.root, kubernetes, Options(one_life.key), 2, [chain.namespace]).run(report)
    assert (statuses[0], set(statuses[1:])) == (410, {200})
    assert sorted(report.rewrapped) == [one_life.place(each) for each in names]


def compact(lab: Path) -> None:
    """Have the lab's etcd drop all states but the present one, as the API does after 5 to 10 minutes."""
    context = tls_context(str(lab / "pki" / "ca.crt"))
    context.load_cert_chain(lab / "pki" / "kube-apiserver.crt", lab / "pki" / "kube-apiserver.key")
    connection = HTTPSConnection("127.0.0.1", Lab(lab).ports["etcd"], context=context)

    def send(path: str, body: dict[str, Any]) -> dict[str, Any]:
        connection.request("POST", path, json.dumps(body))
        answer: dict[str, Any] = json.load(connection.getresponse())
        return answer

    revision = send("/v3/kv/range", {"key": "AA=="})["header"]["revision"]
    assert send("/v3/kv/compaction", {"revision": revision})["header"]
