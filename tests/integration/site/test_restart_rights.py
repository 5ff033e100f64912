"""What the role workload-rbac grants to who restarts workloads, and nothing else, on the lab's Kubernetes."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config
from support.ansible import play_in_lab
from support.lab import Lab

from secretmanager.errors import Forbidden
from secretmanager.restarts.workloads import patch
from secretmanager.servers.kubernetes import KubernetesClient


@pytest.fixture(scope="module")
def lab() -> Lab:
    assert "KUBEVAULT_LAB" in os.environ, "run by tests/in-a-lab, or set KUBEVAULT_LAB to the folder of a lab"
    return Lab(Path(os.environ["KUBEVAULT_LAB"]))


def refusals(kubernetes: KubernetesClient, namespace: str) -> set[str]:
    """Return what Kubernetes refuses to do with workloads; nothing is written."""
    stamp = patch("a=1")
    attempts: dict[str, Callable[[], Any]] = {
        "get shop": lambda: kubernetes.get("deployments", namespace, "shop"),
        "patch shop": lambda: kubernetes.merge("deployments", namespace, "shop", stamp, dry_run=True),
        "get other": lambda: kubernetes.get("deployments", namespace, "other"),
        "patch other": lambda: kubernetes.merge("deployments", namespace, "other", stamp, dry_run=True),
        "patch a set": lambda: kubernetes.merge("statefulsets", namespace, "shop", stamp, dry_run=True),
        **{
            f"list {resource}": lambda resource=resource: list(kubernetes.list_objects(resource, namespace))
            for resource in ("deployments", "statefulsets", "daemonsets", "pods", "events", "secrets")
        },
        "elsewhere": lambda: kubernetes.get("deployments", "default", "shop"),
    }
    found = set()
    for what, attempt in attempts.items():
        try:
            attempt()
        except Forbidden:
            found.add(what)
    return found


def test_kubernetes_grants_names_or_the_whole_namespace(lab: Lab) -> None:
    namespace = f"shop-{uuid.uuid4().hex[:8]}"

    def workload(account: str, *restarts: str, **more: bool) -> dict[str, Any]:
        common = {"role": f"{namespace}-{account}", "namespace": namespace, "service_account": account}
        return {**common, "seals": ["aes256-key"], "restarts": list(restarts), **more}

    workloads = [
        workload("named", "Deployment/shop"),
        workload("waiting", "Deployment/shop", restart_wait=True),
        workload("annotated", "annotated"),
    ]
    given = json.dumps({"kubevault_workloads": workloads})
    assert play_in_lab("playbooks/trust.yml", lab.folder, "-e", given).changed
    api = client.AppsV1Api(config.new_client_from_config(lab.env["KUBECONFIG"]))
    for kind, name in (("deployment", "shop"), ("deployment", "other"), ("stateful_set", "shop")):
        pods = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "app", "image": "none"}]}}
        spec = {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": pods}
        spec |= {"serviceName": name} if kind == "stateful_set" else {}
        getattr(api, f"create_namespaced_{kind}")(namespace, {"metadata": {"name": name}, "spec": spec})

    lists = {f"list {resource}" for resource in ("deployments", "statefulsets", "daemonsets")}
    others = {"get other", "patch other", "patch a set", *lists}
    never = {"list secrets", "elsewhere"}
    reasons = {"list pods", "list events"}
    assert refusals(lab.workload(namespace, "named"), namespace) == {*others, *reasons, *never}
    assert refusals(lab.workload(namespace, "waiting"), namespace) == {*others, *never}
    assert refusals(lab.workload(namespace, "annotated"), namespace) == {*reasons, *never}
