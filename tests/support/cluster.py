"""The lab's Kubernetes API: a new namespace for a test run, users and their kubeconfig files."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config

from secretmanager.servers.kubernetes import KubernetesClient

from .servers import wait_until


@dataclass(frozen=True)
class Cluster:
    """The lab's Kubernetes API, the namespace of this test run, and clients of the official Kubernetes package."""

    kubeconfig: str
    namespace: str
    api: client.CoreV1Api
    rbac: client.RbacAuthorizationV1Api

    def kubernetes(self) -> KubernetesClient:
        """Return a client of this package, as the cluster's administrator."""
        return KubernetesClient.from_kubeconfig(self.kubeconfig)

    def put(self, name: str, secret: Mapping[str, Any]) -> str:
        """Create or replace a Secret; return its resourceVersion."""
        try:
            made = self.api.create_namespaced_secret(self.namespace, dict(secret))
        except client.ApiException as error:
            if error.status != 409:
                raise
            made = self.api.replace_namespaced_secret(name, self.namespace, dict(secret))
        return made.metadata.resource_version

    def account(self, name: str, rules: Sequence[Mapping[str, Any]] = ()) -> str:
        """Create a service account with rights in the namespace; return its token for the API."""
        self.api.create_namespaced_service_account(self.namespace, {"metadata": {"name": name}})
        if rules:
            self.rbac.create_namespaced_role(self.namespace, {"metadata": {"name": name}, "rules": list(rules)})
            binding = {
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": self.namespace}],
            }
            self.rbac.create_namespaced_role_binding(self.namespace, binding)
            self.await_rights(name, rules[0])
        return self.kubernetes().create_token(self.namespace, name, None)

    def await_rights(self, account: str, rule: Mapping[str, Any]) -> None:
        """Wait until the API server's authorizer knows a new service account's rights, by one of them."""
        resource, _, subresource = rule["resources"][0].partition("/")
        attributes = {
            "namespace": self.namespace,
            "group": rule["apiGroups"][0],
            "resource": resource,
            "subresource": subresource,
            "verb": rule["verbs"][0],
            "name": next(iter(rule.get("resourceNames", [])), ""),
        }
        spec = {"user": f"system:serviceaccount:{self.namespace}:{account}", "resourceAttributes": attributes}
        review = client.AuthorizationV1Api(self.api.api_client).create_subject_access_review
        wait_until(f"the rights of {account}", lambda: review({"spec": spec}).status.allowed)

    def kubeconfig_of(self, token: str, folder: Path, server: str | None = None, ca: str | None = None) -> str:
        """Return a kubeconfig file whose user is a bearer token; by default for the API itself and its CA."""
        configuration = self.api.api_client.configuration
        path = folder / f"kubeconfig-{uuid.uuid4().hex[:8]}"
        cluster = {
            "server": server or configuration.host,
            "certificate-authority": ca or configuration.ssl_ca_cert,
        }
        content = {
            "clusters": [{"name": "it", "cluster": cluster}],
            "users": [{"name": "it", "user": {"token": token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "current-context": "it",
        }
        path.write_text(yaml.safe_dump(content))
        return str(path)

    def kubeconfig_for(self, folder: Path, verbs: Sequence[str]) -> str:
        """Return a kubeconfig file of a new user who has these verbs on the namespace's Secrets."""
        rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": list(verbs)}
        return self.kubeconfig_of(self.account(f"user-{uuid.uuid4().hex[:8]}", [rule]), folder)


def await_service_account(api: client.CoreV1Api, namespace: str) -> None:
    """Wait for the service account "default", which the controller manager makes after a namespace was created."""
    find = partial(api.list_namespaced_service_account, namespace, field_selector="metadata.name=default")
    wait_until(f"the service account of {namespace}", lambda: bool(find().items))


@contextmanager
def own_namespace(prefix: str) -> Iterator[Cluster]:
    """Create a namespace in the lab's Kubernetes, and delete it in the end."""
    assert "KUBECONFIG" in os.environ, "KUBECONFIG is not set: source .lab/env, or run `make test`"
    kubeconfig = os.environ["KUBECONFIG"]
    connection = config.new_client_from_config(kubeconfig)
    cluster = Cluster(
        kubeconfig,
        f"{prefix}-{uuid.uuid4().hex[:8]}",
        client.CoreV1Api(connection),
        client.RbacAuthorizationV1Api(connection),
    )
    cluster.api.create_namespace({"metadata": {"name": cluster.namespace}})
    try:
        await_service_account(cluster.api, cluster.namespace)
        yield cluster
    finally:
        cluster.api.delete_namespace(cluster.namespace)
