"""Pods of the tests, in a namespace that enforces the Pod Security Standard "restricted"."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kubernetes import client, config
from kubernetes.stream import stream

from .cluster import await_service_account

PATIENCE = 300.0
"""Seconds to wait for what a node does at once; a test fails after them."""

VAULT = "https://10.96.0.2:8200"
"""Where pods of the lab reach Vault."""

Manifest = dict[str, Any]

SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""Security context of a container that "restricted" admits."""

LABELS = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}
"""Labels of a namespace that enforces it."""


def container(image: str, command: Sequence[str], **more: Any) -> Manifest:
    """Return a container that "restricted" admits; its image is in the node."""
    return {
        "name": "program",
        "image": image,
        "imagePullPolicy": "Never",
        "command": list(command),
        "securityContext": SECURITY,
        **more,
    }


@dataclass(frozen=True)
class Namespace:
    """A namespace of the lab, and its pods."""

    name: str
    api: client.CoreV1Api

    def start(self, spec: Mapping[str, Any], name: str | None = None) -> str:
        """Create a pod that is not restarted unless the spec says so; return its name."""
        name = name or f"pod-{uuid.uuid4().hex[:8]}"
        body = {"metadata": {"name": name}, "spec": {"restartPolicy": "Never", **spec}}
        self.api.create_namespaced_pod(self.name, body)
        return name

    def wait(self, name: str, *phases: str) -> client.V1Pod:
        """Wait until a pod is in one of some phases, such as "Running"; return it."""
        deadline = time.monotonic() + PATIENCE
        while (pod := self.api.read_namespaced_pod(name, self.name)).status.phase not in phases:
            assert time.monotonic() < deadline, f"{self.name}/{name} is not {' or '.join(phases)}: {pod.status}"
            time.sleep(0.2)
        return pod

    def wait_for_lines(self, name: str, *lines: str, container: str = "program") -> None:
        """Wait until a container has written some lines: it runs before it writes the first."""
        deadline = time.monotonic() + PATIENCE
        while missing := set(lines) - set((log := self.log(name, container)).splitlines()):
            assert time.monotonic() < deadline, f"{self.name}/{name} did not write {missing}, but: {log}"
            time.sleep(0.2)

    def log(self, name: str, container: str = "program") -> str:
        """Return what a container has written, as `kubectl logs` does."""
        # As text: the client would print bytes as Python does.
        response = self.api.read_namespaced_pod_log(name, self.name, container=container, _preload_content=False)
        return response.data.decode()

    def run(self, spec: Mapping[str, Any]) -> str:
        """Run a pod to its end, which must be a success; return what its container has written."""
        name = self.start(spec)
        pod = self.wait(name, "Succeeded", "Failed")
        log = self.log(name)
        assert pod.status.phase == "Succeeded", f"{log}\n{pod.status}"
        return log

    def execute(self, name: str, *command: str) -> str:
        """Run a command in a pod's container, as `kubectl exec` does; return what it writes."""
        # `stream` replaces the client's way of asking while it runs: so a client of its own.
        api = client.CoreV1Api(client.ApiClient(self.api.api_client.configuration))
        connect = api.connect_get_namespaced_pod_exec
        return stream(connect, name, self.name, command=list(command), stdout=True, stderr=True)


def namespace(kubeconfig: str, name: str) -> Namespace:
    """Return a namespace."""
    return Namespace(name, client.CoreV1Api(config.new_client_from_config(kubeconfig)))


def create_namespace(kubeconfig: str) -> Namespace:
    """Create a namespace that enforces "restricted"."""
    made = namespace(kubeconfig, f"pods-{uuid.uuid4().hex[:8]}")
    api = made.api
    api.create_namespace({"metadata": {"name": made.name, "labels": LABELS}})
    # Until then pods are refused.
    await_service_account(api, made.name)
    return made


@contextmanager
def own_namespace(kubeconfig: str) -> Iterator[Namespace]:
    """Create a namespace that enforces "restricted"; delete it and its pods in the end."""
    made = create_namespace(kubeconfig)
    try:
        yield made
    finally:
        made.api.delete_namespace(made.name)
