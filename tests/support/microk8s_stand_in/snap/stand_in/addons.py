"""Some of MicroK8s' addons, as far as the API goes: no pod runs here."""

from __future__ import annotations

import json
import subprocess
from typing import Any, NamedTuple

from paths import ARGS, kubectl, restart, set_argument

DNS = ["configmap/coredns", "deployment/coredns", "service/kube-dns"]
STORAGE = ["storageclass/microk8s-hostpath", "deployment/hostpath-provisioner"]


class Addon(NamedTuple):
    """An addon of the repository core."""

    description: str
    version: str


ADDONS = {
    "dns": Addon("CoreDNS", "1.12.0"),
    "hostpath-storage": Addon("Storage class; allocates storage from host directory", "1.5.0"),
    "rbac": Addon("Role-Based Access Control for authorisation", ""),
}


def enabled(name: str) -> bool:
    """Whether an addon is enabled."""
    if name == "rbac":
        return "--authorization-mode=RBAC" in (ARGS / "kube-apiserver").read_text()
    return _exists((DNS if name == "dns" else STORAGE)[-1])


def enable(name: str, argument: str | None) -> None:
    """Enable an addon."""
    if name == "rbac":
        if set_argument("kube-apiserver", "--authorization-mode", "RBAC,Node"):
            restart("kubelite")
    elif name == "dns":
        upstream = argument.replace(",", " ") if argument else "/etc/resolv.conf"
        _apply("v1", "ConfigMap", "coredns", data={"Corefile": f".:53 {{\n    forward . {upstream}\n}}\n"})
        _deploy("coredns")
        ports = [{"name": "dns", "port": 53, "protocol": "UDP"}]
        spec = {"selector": {"app": "coredns"}, "clusterIP": "10.152.183.10", "ports": ports}
        _apply("v1", "Service", "kube-dns", spec=spec)
    else:
        _deploy("hostpath-provisioner")
        _apply("storage.k8s.io/v1", "StorageClass", "microk8s-hostpath", provisioner="microk8s.io/hostpath")


def disable(name: str) -> None:
    """Disable an addon."""
    if name == "rbac":
        set_argument("kube-apiserver", "--authorization-mode", "AlwaysAllow")
        restart("kubelite")
    else:
        kubectl("delete", "--namespace=kube-system", "--ignore-not-found", *(DNS if name == "dns" else STORAGE))


def _exists(resource: str) -> bool:
    try:
        return bool(kubectl("get", "--namespace=kube-system", "--ignore-not-found", "--output=name", resource))
    except subprocess.CalledProcessError:
        return False


def _deploy(name: str) -> None:
    labels = {"app": name}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": name, "image": f"stand-in/{name}"}]}}
    _apply("apps/v1", "Deployment", name, spec={"selector": {"matchLabels": labels}, "template": pod})


def _apply(version: str, kind: str, name: str, **content: Any) -> None:
    metadata = {"name": name, "namespace": "kube-system"}
    if kind == "StorageClass":
        del metadata["namespace"]
    manifest = {"apiVersion": version, "kind": kind, "metadata": metadata, **content}
    kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(manifest))
