"""What the role workload-rbac grants to who restarts workloads, and nothing else, on the lab's Kubernetes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubernetes import client, config
from support.change import Change
from support.lab import Lab

from secretmanager.errors import Forbidden
from secretmanager.restarts.workloads import patch
from secretmanager.servers.kubernetes import KubernetesClient


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


def test_kubernetes_grants_names_or_the_whole_namespace(lab: Lab, change: Change) -> None:
    namespace = change.shop
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
