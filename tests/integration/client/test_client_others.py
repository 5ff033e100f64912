"""Other clients of Vault with the token of a workload, as the roles of Ansible grant it."""

from __future__ import annotations

import json
import os
import subprocess

import hvac
import pytest
from support.client import Manager
from support.cluster import Cluster
from support.servers import PrivateVault

from kubevault_lab.binaries import provide
from secretmanager.admin.definitions import policy_resources, role_resources, workload_policy_resources


@pytest.fixture
def token(vault: PrivateVault, cluster: Cluster, manager: Manager) -> str:
    workload = {
        "role": "others",
        "service_account": "reader",
        "namespace": cluster.namespace,
        "reads": ["plain"],
        "token_ttl": "10m",
    }
    resources = [
        *policy_resources(["plain"]),
        *workload_policy_resources("tests"),
        *role_resources([workload], owner="tests"),
    ]
    for resource in resources:
        vault.write(resource["path"], **resource["data"])
    one = manager(role="others")
    jwt = one.get_k8s_service_account_token()
    client = hvac.Client(vault.url, verify=vault.ca)
    hvac.api.auth_methods.Kubernetes(client.adapter).login("others", jwt)
    return str(client.token)


def test_hvac_finds_it_authenticated(vault: PrivateVault, token: str) -> None:
    client = hvac.Client(vault.url, token=token, verify=vault.ca)
    assert client.is_authenticated()
    assert "kubevault-reader-plain" in client.auth.token.lookup_self()["data"]["policies"]


def test_the_vault_command_looks_it_up(vault: PrivateVault, token: str) -> None:
    env = {"PATH": os.environ["PATH"], "VAULT_ADDR": vault.url, "VAULT_CACERT": vault.ca, "VAULT_TOKEN": token}
    command = [provide(["vault"])["vault"], "token", "lookup", "-format=json"]
    shown = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert "kubevault-reader-plain" in json.loads(shown)["data"]["policies"]
