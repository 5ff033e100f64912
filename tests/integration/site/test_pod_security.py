"""All manifests of ours, and what kubevault inject adds, on the real API server; and the role workload-ca."""

from __future__ import annotations

import json
import os
import re
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config, utils
from support.ansible import ROOT, Run, run_playbook
from support.lab import Lab
from support.restricted import pods
from support.servers import wait_until

from secretmanager.injection.options import from_options
from secretmanager.injection.pods import injected

PODS = list(pods())


@pytest.fixture(scope="module")
def core(lab: Lab) -> client.CoreV1Api:
    return client.CoreV1Api(config.new_client_from_config(lab.env["KUBECONFIG"]))


@pytest.fixture(scope="module")
def namespace(core: client.CoreV1Api) -> Iterator[str]:
    """A namespace that enforces the standard, and has the service accounts that the pods name."""
    name = f"restricted-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core.create_namespace({"metadata": {"name": name, "labels": labels}})
    core.create_namespaced_service_account(name, {"metadata": {"name": "rotator"}})

    def accounts() -> list[str]:
        return [account.metadata.name for account in core.list_namespaced_service_account(name).items]

    wait_until("the namespace's own account", lambda: "default" in accounts())
    yield name
    core.delete_namespace(name)


def dry_run(core: client.CoreV1Api, namespace: str, pod: dict[str, Any]) -> None:
    body = {"metadata": {"generateName": "pod-"}, "spec": {**pod, "restartPolicy": "Never"}}
    core.create_namespaced_pod(namespace, body, dry_run="All")


@pytest.mark.parametrize(("name", "pod"), PODS, ids=[name for name, _ in PODS])
def test_a_restricted_namespace_admits_each_pod(
    core: client.CoreV1Api, namespace: str, name: str, pod: dict[str, Any]
) -> None:
    dry_run(core, namespace, pod)


def test_a_namespace_with_a_quota_for_limits_admits_what_has_them(core: client.CoreV1Api) -> None:
    name = f"quota-{uuid.uuid4().hex[:8]}"
    core.create_namespace({"metadata": {"name": name}})
    names = ("cpu", "memory", "ephemeral-storage")
    kinds = ("requests", "limits")
    hard = {f"{kind}.{resource}": "1Gi" for kind in kinds for resource in names}
    core.create_namespaced_resource_quota(name, {"metadata": {"name": "all"}, "spec": {"hard": hard}})
    amounts = {"cpu": "500m", "memory": "100Mi", "ephemeral-storage": "64Mi"}
    shop = {"name": "shop", "image": "shop:1", "resources": dict.fromkeys(kinds, amounts)}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [shop]}}

    def admitted(**more: Any) -> dict[str, Any]:
        options = {"secrets": ["a"], "vault_url": "https://vault:8200", "role": "a", "image": "kubevault:1", **more}
        pod: dict[str, Any] = injected(manifest, from_options({"with": "sidecar", **options}))["spec"]
        dry_run(core, name, pod)
        return pod

    def accounted() -> bool:
        quota = core.read_namespaced_resource_quota("all", name)
        return bool(quota.status.used) and bool(core.list_namespaced_service_account(name).items)

    try:
        wait_until("the quota is accounted", accounted)
        with pytest.raises(client.ApiException, match=r"must specify limits\.cpu for: kubevault"):
            admitted()
        given = {"limits": {"cpu": "500m", "ephemeral-storage": "64Mi"}, "requests": {"ephemeral-storage": "1Mi"}}
        assert admitted(resources=given)["initContainers"][0]["resources"]["limits"]["cpu"] == "500m"
    finally:
        core.delete_namespace(name)


def test_it_refuses_others(core: client.CoreV1Api, namespace: str) -> None:
    with pytest.raises(client.ApiException, match='violates PodSecurity \\\\"restricted'):
        dry_run(core, namespace, {"containers": [{"name": "a", "image": "a:1"}]})


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*/*.yaml")), ids=lambda path: path.stem)
def test_the_api_takes_each_example_as_it_is(lab: Lab, path: Path) -> None:
    connection = config.new_client_from_config(lab.env["KUBECONFIG"])
    for manifest in yaml.safe_load_all(path.read_text()):
        (made,) = utils.create_from_dict(connection, manifest, dry_run="All", field_validation="Strict")
        assert made.metadata.uid


def certificates(lab: Lab, core: client.CoreV1Api, namespace: str) -> str:
    found: str = core.read_namespaced_config_map("kubevault-ca", namespace).data["ca.crt"]
    return found


def test_the_ca_is_in_each_workload_s_namespace(lab: Lab, core: client.CoreV1Api) -> None:
    ca = Path(lab.env["VAULT_CACERT"]).read_text().strip()
    for namespace in ("default", "payments", "kubevault"):
        assert certificates(lab, core, namespace).strip() == ca


def play(lab: Lab, folder: Path, *arguments: str, fails: bool = False, **cases: tuple[list[str], str]) -> Run:
    """Run the role for some cases at once, each with namespaces for the ConfigMap, and with certificates."""
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "cases": cases,
        "workload_ca_namespaces": "{{ cases[inventory_hostname][0] }}",
        "workload_ca_pem": "{{ cases[inventory_hostname][1] }}",
    }
    content = {
        "hosts": "all",
        "gather_facts": False,
        "vars": variables,
        "environment": {"K8S_AUTH_KUBECONFIG": lab.env["KUBECONFIG"]},
        "tasks": [{"ansible.builtin.import_role": {"name": "workload-ca"}}],
    }
    playbook = folder / "ca.yml"
    playbook.write_text(json.dumps([content]))
    inventory = f"--inventory={','.join(cases)},"
    return run_playbook(playbook, inventory, *arguments, env=dict(os.environ), fails=fails)


def test_a_new_ca_is_renewed_beside_the_old_one(
    lab: Lab, core: client.CoreV1Api, namespace: str, tmp_path: Path
) -> None:
    """Check mode predicts it, diff shows it in each namespace, and a rerun changes nothing."""
    old = Path(lab.env["VAULT_CACERT"]).read_text()
    # The other one has it.
    assert play(lab, tmp_path, old=([namespace, "default"], old)).changed == 1
    foretold = play(lab, tmp_path, "--check", "--diff", both=([namespace, "default"], old + old))
    assert foretold.changed == 1
    assert foretold.output.count("ca.crt: |") == 2
    both = ([namespace], old + old)
    assert certificates(lab, core, namespace).count("BEGIN CERTIFICATE") == 1
    assert [play(lab, tmp_path, both=both).changed for _ in range(2)] == [1, 0]
    assert certificates(lab, core, namespace).count("BEGIN CERTIFICATE") == 2


def test_a_namespace_that_check_mode_does_not_have_yet_is_foretold(lab: Lab, tmp_path: Path) -> None:
    pem = Path(lab.env["VAULT_CACERT"]).read_text()
    assert play(lab, tmp_path, "--check", new=([f"new-{uuid.uuid4().hex[:8]}"], pem)).changed == 1


def test_what_is_refused(lab: Lab, core: client.CoreV1Api, tmp_path: Path) -> None:
    """A private key is not published; and a run needs its namespace, which check mode foretells."""
    run = play(
        lab,
        tmp_path,
        nowhere=([f"new-{uuid.uuid4().hex[:8]}"], Path(lab.env["VAULT_CACERT"]).read_text()),
        nothing=(["default"], ""),
        key=(["default"], "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n"),
        fails=True,
    )
    blocks = re.split(r"^(?:fatal|failed): \[", run.output, flags=re.MULTILINE)[1:]
    failures = {block.partition("]")[0]: " ".join(block.split()) for block in blocks}
    assert failures.keys() == {"nowhere", "nothing", "key"}
    assert "not found" in failures["nowhere"]
    for case in ("nothing", "key"):
        assert "allowed are certificates as PEM" in failures[case]
    assert "PRIVATE" not in certificates(lab, core, "default")
    assert "c2VjcmV0" not in run.output
