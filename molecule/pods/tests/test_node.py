"""The lab's node: it is ready, and a pod under the standard "restricted" reaches Kubernetes and Vault over TLS."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from kubernetes import client
from support.images import BUSYBOX, PROBE, WEB
from support.lab import Lab
from support.pods import VAULT, Namespace, container, own_namespace

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


@pytest.fixture(scope="module")
def pods(lab: Lab) -> Iterator[Namespace]:
    with own_namespace(lab.env["KUBECONFIG"]) as made:
        yield made


def test_the_node_is_ready(pods: Namespace) -> None:
    (node,) = pods.api.list_node().items
    assert {each.type: each.status for each in node.status.conditions}["Ready"] == "True"


def test_a_pod_reaches_kubernetes_by_its_own_token(pods: Namespace) -> None:
    """The address is in the certificate, the authority and the token are mounted by Kubernetes."""
    review = "https://$(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT)/api/v1/namespaces/default/secrets"
    command = ["/probe", "get", "-ca", f"{ACCOUNT}/ca.crt", "-bearer", f"{ACCOUNT}/token", review]
    status, body = pods.run({"containers": [container(PROBE, command)]}).split("\n", 1)
    assert status == "403"
    assert f'User \\"system:serviceaccount:{pods.name}:default\\" cannot list' in body


def test_a_pod_reaches_vault(pods: Namespace) -> None:
    command = ["/probe", "get", "-ca", f"{ACCOUNT}/ca.crt", f"{VAULT}/v1/sys/health"]
    status, body = pods.run({"containers": [container(PROBE, command)]}).split("\n", 1)
    assert status == "200"
    assert json.loads(body)["sealed"] is False


def test_a_projected_token_of_a_pod_is_another_workloads_to_vault(pods: Namespace) -> None:
    """Vault has Kubernetes review it, and refuses: the role "demo" is bound to another namespace."""
    token = {"serviceAccountToken": {"audience": "vault", "path": "token"}}
    mount = {"name": "vault", "mountPath": "/vault"}
    command = ["/probe", "login", "-ca", f"{ACCOUNT}/ca.crt", "-role", "demo", "/vault/token"]
    spec = {
        "containers": [container(PROBE, [*command, f"{VAULT}/v1/auth/kubernetes/login"], volumeMounts=[mount])],
        "volumes": [{"name": "vault", "projected": {"sources": [token]}}],
    }
    assert pods.run(spec).strip() == "403"


def test_what_is_not_restricted_is_refused(pods: Namespace) -> None:
    with pytest.raises(client.ApiException, match="violates PodSecurity"):
        pods.start({"hostNetwork": True, "containers": [container(BUSYBOX, ["/bin/sh"])]})


def test_exec_and_logs_and_another_pods_server(pods: Namespace) -> None:
    """A web server of another image serves what it finds in a volume in memory; a second pod asks it."""
    files = {"name": "files", "mountPath": "/srv"}
    temporary = {"name": "temporary", "mountPath": "/tmp"}
    server = pods.start(
        {
            "initContainers": [
                container(
                    BUSYBOX, ["/bin/sh", "-c", "echo hello >/srv/index.html"], name="writer", volumeMounts=[files]
                )
            ],
            "containers": [container(WEB, ["/usr/sbin/nginx"], volumeMounts=[files, temporary])],
            "volumes": [
                {"name": "files", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                {"name": "temporary", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            ],
        }
    )
    address = pods.wait(server, "Running").status.pod_ip
    asking = pods.start({"containers": [container(BUSYBOX, ["/bin/sh", "-c", "echo up; exec sleep 3600"])]})
    pods.wait(asking, "Running")
    ask = f"until wget -q -O - http://{address}:8080/; do sleep 1; done"
    assert pods.execute(asking, "/bin/sh", "-c", ask).strip() == "hello"
    pods.wait_for_lines(asking, "up")
    assert pods.log(asking) == "up\n"


def test_the_outside_is_out_of_reach(pods: Namespace) -> None:
    """The node's network has no route to anywhere: not to another port of this machine, not to the internet."""
    command = ["/probe", "get", "-ca", f"{ACCOUNT}/ca.crt", "https://198.51.100.1/"]
    name = pods.start({"containers": [container(PROBE, command)]})
    pods.wait(name, "Failed")
    assert "network is unreachable" in pods.log(name)
