"""vault_kubernetes_login_info on a private Vault and the lab's Kubernetes: `source .lab/env` first."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config
from support.ansible import Ansible, Result, Task
from support.servers import PrivateVault, free_port, running

from secretmanager.servers.kubernetes import KubernetesClient


@dataclass(frozen=True)
class Trust:
    """A Vault server that trusts the lab's Kubernetes, and a new namespace."""

    vault: PrivateVault
    namespace: str
    config: dict[str, Any]

    def configure(self, **changes: Any) -> None:
        self.vault.write("auth/kubernetes/config", **{**self.config, **changes})


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trust]:
    assert "KUBECONFIG" in os.environ, "KUBECONFIG is not set: source .lab/env, or run `make test`"
    connection = config.new_client_from_config(os.environ["KUBECONFIG"])
    api = client.CoreV1Api(connection)
    namespace = f"login-{uuid.uuid4().hex[:8]}"
    vault = PrivateVault(tmp_path_factory.mktemp("vault"))
    with running(vault, vault.set_up):
        api.create_namespace({"metadata": {"name": namespace}})
        for name in ("reader", "stranger"):
            api.create_namespaced_service_account(namespace, {"metadata": {"name": name}})
        reviewer = KubernetesClient.from_kubeconfig(os.environ["KUBECONFIG"]).create_token(
            "kube-system", "vault-auth", None
        )
        vault.write("sys/auth/kubernetes", type="kubernetes")
        vault.write("sys/auth/empty", type="kubernetes")
        for mount in ("kubernetes", "empty"):
            for role, options in {
                "service": {"token_ttl": 60},
                "batch": {"token_type": "batch", "token_ttl": 60},
                "mute": {"token_no_default_policy": True, "token_ttl": 60},
            }.items():
                vault.write(
                    f"auth/{mount}/role/{role}",
                    bound_service_account_names=["reader"],
                    bound_service_account_namespaces=[namespace],
                    audience="vault",
                    **options,
                )
        made = Trust(
            vault,
            namespace,
            {
                "kubernetes_host": connection.configuration.host,
                "kubernetes_ca_cert": Path(connection.configuration.ssl_ca_cert).read_text(),
                "token_reviewer_jwt": reviewer,
                "disable_local_ca_jwt": True,
            },
        )
        made.configure()
        yield made
        api.delete_namespace(namespace)


@pytest.fixture
def ansible(trust: Trust, tmp_path: Path) -> Ansible:
    env = {
        "VAULT_ADDR": trust.vault.url,
        "VAULT_CACERT": trust.vault.ca,
        "K8S_AUTH_KUBECONFIG": os.environ["KUBECONFIG"],
    }
    return Ansible(tmp_path, env)


def login(trust: Trust, **options: Any) -> Task:
    given = {"role": "service", "service_account": "reader", "namespace": trust.namespace, **options}
    return {"vault_kubernetes_login_info": given}


def told(result: Result) -> tuple[bool, str]:
    assert not result.get("failed"), result
    assert not result["changed"]
    return result["allowed"], result["reason"]


def failure(result: Result) -> str:
    assert result["failed"], result
    return result["msg"]


def tokens(trust: Trust) -> int:
    """Return the number of tokens in Vault."""
    return len(trust.vault.root.request("LIST", "auth/token/accessors").json()["data"]["keys"])


def test_a_login_that_works_leaves_no_token(ansible: Ansible, trust: Trust) -> None:
    before = tokens(trust)
    results = ansible.run(
        login(trust), {**login(trust), "check_mode": True}, login(trust, role="batch"), login(trust, role="batch")
    )
    assert [told(result) for result in results] == [(True, "")] * 4
    assert tokens(trust) == before
    mute, again = ansible.run(login(trust, role="mute"), login(trust))
    assert told(mute) == told(again) == (True, "")
    assert mute["warnings"] == ["The token may not revoke itself; it ends in 60 s."]
    assert "warnings" not in again


def test_what_does_not_fit_is_told(ansible: Ansible, trust: Trust) -> None:
    cases: list[tuple[dict[str, str], str]] = [
        ({"role": "none-such"}, 'invalid role name "none-such"'),
        ({"mount": "none-such"}, "auth/none-such/login: log-in denied"),
        ({"mount": "empty"}, "could not load backend configuration"),
        ({"service_account": "stranger"}, "service account name not authorized"),
        ({"namespace": "default", "service_account": "default"}, "not authorized"),
        ({"audience": "other"}, "invalid audience"),
        ({"service_account": "none-such"}, 'serviceaccounts "none-such" not found'),
        ({"namespace": "none-such"}, "not found"),
    ]
    results = [told(result) for result in ansible.run(*(login(trust, **options) for options, _ in cases))]
    for (allowed, reason), (options, expected) in zip(results, cases, strict=True):
        assert not allowed, options
        assert expected in reason, options


@pytest.mark.parametrize("changes", [{"token_reviewer_jwt": "eyJhbGciOiJub25lIn0.e30."}, {"kubernetes_host": "nobody"}])
def test_a_token_reviewer_that_does_not_work_is_told(ansible: Ansible, trust: Trust, changes: dict[str, str]) -> None:
    if "kubernetes_host" in changes:
        changes = {"kubernetes_host": f"https://127.0.0.1:{free_port()}"}
    trust.configure(**changes)
    run = ansible.run(login(trust))
    trust.configure()
    allowed, reason = told(run[0])
    assert not allowed
    assert "log-in denied for role service: permission denied" in reason
    assert "token reviewer" in reason
    assert told(ansible.run(login(trust))[0]) == (True, "")


def test_what_cannot_be_told_is_a_failure(ansible: Ansible, trust: Trust, tmp_path: Path) -> None:
    nobody = f"https://127.0.0.1:{free_port()}"
    trust.vault.seal()
    (sealed,) = ansible.run(login(trust))
    trust.vault.unseal()
    powerless = {"host": trust.config["kubernetes_host"], "ca_cert": str(tmp_path / "ca"), "api_key": "nobody's"}
    (tmp_path / "ca").write_text(trust.config["kubernetes_ca_cert"])
    results = ansible.run(
        login(trust, vault_url=nobody),
        login(trust, vault_url=trust.vault.expired_url),
        login(trust, kubeconfig=str(tmp_path / "none")),
        login(trust, **powerless),
    )
    expected = [nobody, "expired", str(tmp_path / "none"), "does not know the caller"]
    assert "sealed" in failure(sealed)
    for result, part in zip(results, expected, strict=True):
        assert part in failure(result)


def test_no_token_is_shown(ansible: Ansible, trust: Trust) -> None:
    output = ansible.play(login(trust), login(trust, role="none-such"), arguments=("-vvvv", "--diff")).output
    for allowed in ("true", "false"):
        assert f"allowed: {allowed}" in output
    assert "eyJ" not in output
    assert "hvs." not in output
