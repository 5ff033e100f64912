"""Any program in a real pod reads its sealed secret; these tests hold before and after the side effects."""

from __future__ import annotations

import hashlib

import pytest
from kubernetes import client
from support.images import BUSYBOX
from support.lab import Lab
from support.pods import PATIENCE, Namespace, container, namespace, own_namespace
from support.search import files_with
from support.servers import wait_until

from secretmanager import SecretManager

FILES = {"example-init": "/kubevault", "example-sidecar": "/kubevault", "web": "/srv"}
VARIABLES = ["example-exec", "probe"]
SIGNALLED = ["trap"]
SERVICES = {
    "example-kubevault": "read: password username",
    "example-kubernetes": "read: language page_size",
    "example-file": "read: password username",
    "example-environment": "read: password username",
}


@pytest.fixture(scope="module")
def default(lab: Lab) -> Namespace:
    """The namespace of the workloads."""
    return namespace(lab.env["KUBECONFIG"], "default")


@pytest.fixture(scope="module")
def values(lab: Lab) -> dict[str, str]:
    """What is sealed now, as the chain gives it outside of pods."""
    env = lab.env
    options = {"SOURCE": "KUBEVAULT", "kube_config": env["KUBEVAULT_WORKLOAD_KUBECONFIG"], "service_account": "default"}
    vault = {"vault_url": env["VAULT_ADDR"], "ca_cert": env["VAULT_CACERT"], "role": env["KUBEVAULT_ROLE"]}
    with SecretManager({**options, **vault, "namespace": "default"}) as manager:
        return manager.read_secrets("matrix-secrets", "default", "SECRET", "secrets.json", "aes256-key")


def digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def pod_of(default: Namespace, deployment: str) -> client.V1Pod:
    """Return the pod of a Deployment of one replica."""
    label = f"app.kubernetes.io/name={deployment}"
    pods = default.api.list_namespaced_pod("default", label_selector=label).items
    (pod,) = [pod for pod in pods if not pod.metadata.deletion_timestamp]
    return pod


@pytest.mark.parametrize("deployment", [*FILES, *VARIABLES, *SIGNALLED, *SERVICES])
def test_each_runs_and_was_not_restarted_by_an_error(default: Namespace, deployment: str) -> None:
    def containers() -> list[client.V1ContainerStatus]:
        status = pod_of(default, deployment).status
        return [*status.container_statuses, *(status.init_container_statuses or [])]

    # The kubelet was killed before the second time, and a new one has to look at each container first.
    wait_until(f"a ready {deployment}", lambda: all(each.ready for each in containers()), PATIENCE)
    assert {each.restart_count for each in containers()} == {0}


@pytest.mark.parametrize("deployment", ["example-init", "example-sidecar"])
def test_files_are_in_memory_and_for_the_program_alone(
    default: Namespace, values: dict[str, str], deployment: str
) -> None:
    pod = pod_of(default, deployment).metadata.name
    for name, value in values.items():
        assert default.execute(pod, "cat", f"/kubevault/{name}") == value
    assert "tmpfs /kubevault tmpfs ro," in default.execute(pod, "cat", "/proc/mounts")
    assert default.execute(pod, "stat", "-Lc", "%a %u", "/kubevault/password").split() == ["444", "1000"]


def test_a_web_server_of_another_image_serves_them(lab: Lab, default: Namespace, values: dict[str, str]) -> None:
    address = pod_of(default, "web").status.pod_ip
    # A log is no place for a value. After a change, the sidecar writes it a moment later.
    ask = f"wget -q -O - http://{address}:8080/password | sha256sum"
    until = f"until {ask} | grep -q {digest(values['password'])}; do sleep 1; done; {ask}"
    with own_namespace(lab.env["KUBECONFIG"]) as pods:
        shown = pods.run({"containers": [container(BUSYBOX, ["/bin/sh", "-c", until])]})
    assert shown.split()[0] == digest(values["password"])


def test_a_program_has_them_as_variables_and_is_alone(default: Namespace, values: dict[str, str]) -> None:
    pod = pod_of(default, "example-exec").metadata.name
    variables = default.execute(pod, "cat", "/proc/1/environ").split("\0")
    assert {f"{name}={value}" for name, value in values.items()} <= set(variables)
    assert default.execute(pod, "cat", "/proc/1/cmdline").startswith(("sh\0", "sleep\0"))
    assert not {variable.split("=")[0] for variable in variables} & {"VAULT_ADDR", "KUBEVAULT_ROLE"}


def test_a_static_go_program_has_them_too(default: Namespace, values: dict[str, str]) -> None:
    default.wait_for_lines(
        pod_of(default, "probe").metadata.name, *(f"{name}={digest(value)}" for name, value in values.items())
    )


@pytest.mark.parametrize(("deployment", "line"), SERVICES.items())
def test_a_python_service_reads_from_each_source(default: Namespace, deployment: str, line: str) -> None:
    default.wait_for_lines(pod_of(default, deployment).metadata.name, line, container="service")


def test_no_value_is_on_the_disk(lab: Lab, values: dict[str, str]) -> None:
    """All of the lab's servers, the kubelet, containerd and the logs of pods are in its folder."""
    assert any("etcd" in str(path) for path in files_with(b"vault:v", lab.folder)), "the search finds no ciphertext"
    assert list(files_with(values["password"].encode(), lab.folder)) == []
