"""What is not a workload's own is refused, in pods too."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from support.images import KUBEVAULT, PROBE
from support.lab import Lab
from support.pods import SECURITY, VAULT, Manifest, Namespace, container, namespace, own_namespace

from secretmanager.injection.objects import inject


@pytest.fixture(scope="module")
def default(lab: Lab) -> Namespace:
    """The workload's namespace, with another service account in it."""
    return namespace(lab.env["KUBECONFIG"], "default")


@pytest.fixture(scope="module")
def another_account(default: Namespace) -> Iterator[str]:
    """Another service account of the workload's namespace."""
    name = f"another-{uuid.uuid4().hex[:8]}"
    default.api.create_namespaced_service_account("default", {"metadata": {"name": name}})
    yield name
    default.api.delete_namespaced_service_account(name, "default")


@pytest.fixture(scope="module")
def another_namespace(lab: Lab) -> Iterator[Namespace]:
    """Another namespace, which has a service account of the same name, and Vault's CA."""
    with own_namespace(lab.env["KUBECONFIG"]) as made:
        ca = made.api.read_namespaced_config_map("kubevault-ca", "default").data
        made.api.create_namespaced_config_map(made.name, {"metadata": {"name": "kubevault-ca"}, "data": ca})
        yield made


def log_in(pods: Namespace, account: str, audience: str) -> str:
    """Log in to the workload's role from a pod, with a projected token; return Vault's status."""
    command = [
        "/probe",
        "login",
        "-ca",
        "/ca/ca.crt",
        "-role",
        "demo",
        "/token/token",
        f"{VAULT}/v1/auth/kubernetes/login",
    ]
    token = {"serviceAccountToken": {"audience": audience, "path": "token"}}
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("token", "ca")]
    spec = {
        "serviceAccountName": account,
        "containers": [container(PROBE, command, volumeMounts=mounts)],
        "volumes": [
            {"name": "token", "projected": {"sources": [token]}},
            {"name": "ca", "configMap": {"name": "kubevault-ca"}},
        ],
    }
    return pods.run(spec).strip()


def test_who_may_log_in(default: Namespace, another_account: str, another_namespace: Namespace) -> None:
    assert log_in(default, "default", "vault") == "200"
    assert log_in(default, another_account, "vault") == "403"
    assert log_in(another_namespace, "default", "vault") == "403"
    assert log_in(default, "default", "https://kubernetes.default.svc") == "403"


def reader(account: str, namespace: str, secret: str = "matrix-secrets/secrets.json") -> Manifest:
    """Return a pod that wants the values of the workload's Secret."""
    program = container(PROBE, ["/probe", "env"], securityContext={**SECURITY, "runAsUser": 1000})
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"reader-{uuid.uuid4().hex[:8]}"},
        "spec": {"serviceAccountName": account, "restartPolicy": "Never", "containers": [program]},
    }
    options = {"role": "demo", "vault_url": VAULT, "image": KUBEVAULT, "arguments": ["--wait=0"]}
    made: Manifest = inject(pod, "init", secrets=[secret], **options)
    return made


def refusal(pods: Namespace, pod: Manifest) -> str:
    """Return the termination message of our container in a pod, which must fail."""
    name = pods.start(pod["spec"])
    status = pods.wait(name, "Failed", "Succeeded").status
    (container_status,) = status.init_container_statuses
    assert container_status.state.terminated.exit_code == 1, status
    return str(container_status.state.terminated.message)


def test_a_pod_of_another_service_account_gets_nothing(default: Namespace, another_account: str) -> None:
    assert "service account name not authorized" in refusal(default, reader(another_account, "default"))


def test_a_pod_of_another_namespace_gets_nothing(another_namespace: Namespace) -> None:
    assert "namespace not authorized" in refusal(another_namespace, reader("default", another_namespace.name))


def test_a_secret_that_is_not_named_is_refused(default: Namespace) -> None:
    assert "secrets" in refusal(default, reader("default", "default", "payments-database"))
