"""Log-in methods: a service account, by TokenRequest, projected token or in a pod; an AppRole; a token."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.client import VALUES, MakeAppRole, Manager, Put, Read, Refused
from support.cluster import Cluster
from support.servers import PrivateVault

from secretmanager import config as configuration
from secretmanager.errors import ConfigError, Forbidden, LoginDenied
from secretmanager.login import methods
from secretmanager.servers import kubeconfig
from secretmanager.servers.kubernetes import KubernetesClient


@pytest.fixture
def jwt(cluster: Cluster) -> Callable[..., str]:
    operator = KubernetesClient.from_kubeconfig(cluster.kubeconfig)
    return lambda account="reader", audience="vault": operator.create_token(cluster.namespace, account, audience)


@pytest.fixture
def no_token_request(cluster: Cluster, tmp_path: Path) -> str:
    """A kubeconfig whose user may get Secrets, but may not request tokens."""
    name = f"getter-{tmp_path.name.replace('_', '-')}"[:60].strip("-").lower()
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]
    return cluster.kubeconfig_of(cluster.account(name, rules), tmp_path)


def test_a_projected_token(
    manager: Manager, read: Read, refused: Refused, jwt: Callable[..., str], no_token_request: str, tmp_path: Path
) -> None:
    with refused(Forbidden, "serviceaccounts/token"):
        read(manager(kube_config=no_token_request))
    path = tmp_path / "token"
    one = manager(kube_config=no_token_request, token_file=str(path))
    with refused(ConfigError, "token: No such file or directory"):
        read(one)
    path.write_text(jwt())
    assert read(manager(kube_config=no_token_request, token_file=str(path))) == VALUES


def test_a_projected_token_that_the_kubelet_renewed(
    manager: Manager, read: Read, vault: PrivateVault, jwt: Callable[..., str], tmp_path: Path, refused: Refused
) -> None:
    path = tmp_path / "token"
    path.write_text(jwt("stranger"))
    one = manager(token_file=str(path))
    with refused(LoginDenied, "service account name not authorized"):
        read(one)
    path.write_text(jwt())
    assert read(one) == VALUES


def test_the_usual_place_of_a_projected_token(
    manager: Manager,
    read: Read,
    jwt: Callable[..., str],
    no_token_request: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Refused,
) -> None:
    path = tmp_path / "vault-token"
    monkeypatch.setattr(methods, "TOKEN_FILE", path)
    path.write_text(jwt("stranger"))  # of another service account, so it must not be used for the configured one
    with refused(Forbidden, "serviceaccounts/token"):
        read(manager(kube_config=no_token_request))
    path.write_text(jwt())
    assert read(manager(kube_config=no_token_request)) == VALUES


def test_in_a_pod(
    manager: Manager,
    read: Read,
    cluster: Cluster,
    put: Put,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The API server is found by a pod's environment and mounted service account, as the kubelet provides them."""
    rules = [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]},
    ]
    api = cluster.api.api_client.configuration
    (tmp_path / "token").write_text(cluster.account("pod", rules))
    (tmp_path / "namespace").write_text(cluster.namespace)
    shutil.copy(api.ssl_ca_cert, tmp_path / "ca.crt")
    for module in (kubeconfig, configuration):
        monkeypatch.setattr(module, "SERVICE_ACCOUNT_DIR", tmp_path)
    host, _, port = api.host.removeprefix("https://").partition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.delenv("KUBECONFIG")
    one = manager(kube_config=..., namespace=...)
    assert one.config.namespace == cluster.namespace
    assert read(one) == VALUES


def by_approle(**changes: Any) -> dict[str, Any]:
    return {"auth": "approle", "role": ..., "service_account": ..., **changes}


def test_an_approle(manager: Manager, read: Read, approle: MakeAppRole) -> None:
    role_id, secret_id = approle("service")
    assert read(manager(**by_approle(role_id=role_id, secret_id=secret_id))) == VALUES


def test_an_approle_without_a_secret_id(manager: Manager, read: Read, approle: MakeAppRole, refused: Refused) -> None:
    role_id, _ = approle("open", bind_secret_id=False, token_bound_cidrs=["127.0.0.1/32"])
    assert read(manager(**by_approle(role_id=role_id))) == VALUES
    bound, _ = approle("bound")
    with refused(LoginDenied, "missing secret_id"):
        read(manager(**by_approle(role_id=bound)))


def test_a_token_that_the_service_has(
    manager: Manager, read: Read, vault: PrivateVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    """A token as a Vault Agent writes it: the file is read again after a refusal, and the token is not revoked."""

    def token() -> str:
        return vault.write("auth/token/create", policies=["reader"], no_default_policy=True)["auth"]["client_token"]

    def given(**changes: Any) -> dict[str, Any]:
        return {"auth": "token", "role": ..., "service_account": ..., **changes}

    first, path = token(), tmp_path / "token"
    one = manager(**given(vault_token=first))
    assert read(one) == VALUES
    one.close()
    path.write_text(f"{first}\n")
    filed = manager(**given(vault_token_file=str(path)))
    assert read(filed) == VALUES
    path.write_text(token())
    vault.write("auth/token/revoke", token=first)
    assert read(filed) == VALUES
    monkeypatch.setenv("VAULT_TOKEN", token())
    assert read(manager(**given())) == VALUES
    monkeypatch.delenv("VAULT_TOKEN")
    monkeypatch.delenv("VAULT_TOKEN_FILE", raising=False)  # the lab's
    monkeypatch.setenv("HOME", str(tmp_path))
    with refused(ConfigError, r"no Vault token: .*/\.vault-token: No such file"):
        read(manager(**given()))


def test_an_approle_from_files(
    manager: Manager, read: Read, approle: MakeAppRole, tmp_path: Path, refused: Refused
) -> None:
    for name, text in zip(("role-id", "secret-id"), approle("filed"), strict=True):
        (tmp_path / name).write_text(f"{text}\n")
    files = {"role_id_file": str(tmp_path / "role-id"), "secret_id_file": str(tmp_path / "secret-id")}
    assert read(manager(**by_approle(**files))) == VALUES
    (tmp_path / "secret-id").unlink()
    with refused(ConfigError, "secret-id: No such file"):
        read(manager(**by_approle(**files)))


def test_an_approle_from_the_environment(
    manager: Manager, read: Read, approle: MakeAppRole, monkeypatch: pytest.MonkeyPatch
) -> None:
    role_id, secret_id = approle("ambient")
    monkeypatch.setenv("VAULT_ROLE_ID", role_id)
    monkeypatch.setenv("VAULT_SECRET_ID", secret_id)
    assert read(manager(**by_approle())) == VALUES


def test_a_wrapped_secret_id_opens_once_and_serves_further_log_ins(
    manager: Manager, read: Read, approle: MakeAppRole, vault: PrivateVault, refused: Refused
) -> None:
    role_id, token = approle("wrapped", wrapped=True)
    given = by_approle(role_id=role_id, secret_id=token, secret_id_wrapped=True)
    one, logins = manager(**given), vault.requests("auth/approle/login")
    assert read(one) == VALUES
    vault.write("sys/leases/revoke-prefix/auth/approle/login", sync=True)
    assert read(one) == VALUES
    assert vault.requests("auth/approle/login") == logins + 2
    with refused(LoginDenied, "find out who unwrapped it", place=f"{vault.url}/v1/sys/wrapping/unwrap"):
        read(manager(**given))


def test_a_new_wrapping_token_in_the_file_is_unwrapped_in_turn(
    manager: Manager, read: Read, approle: MakeAppRole, vault: PrivateVault, tmp_path: Path
) -> None:
    path = tmp_path / "wrapped"
    role_id, token = approle("rewrapped", wrapped=True, secret_id_num_uses=1)
    path.write_text(token)
    one = manager(**by_approle(role_id=role_id, secret_id_file=str(path), secret_id_wrapped=True))
    assert read(one) == VALUES
    path.write_text(approle("rewrapped", wrapped=True, secret_id_num_uses=1)[1])
    vault.write("sys/leases/revoke-prefix/auth/approle/login", sync=True)
    assert read(one) == VALUES


def test_a_wrapping_token_of_something_else(
    manager: Manager, read: Read, vault: PrivateVault, approle: MakeAppRole, refused: Refused
) -> None:
    role_id, _ = approle("other")
    token = vault.wrapped("sys/wrapping/wrap", x="PLAIN-x")
    with refused(ConfigError, "holds x and no secret_id"):
        read(manager(**by_approle(role_id=role_id, secret_id=token, secret_id_wrapped=True)))


def test_a_secret_id_that_is_used_up(manager: Manager, read: Read, approle: MakeAppRole, refused: Refused) -> None:
    role_id, secret_id = approle("single", secret_id_num_uses=1)
    given = by_approle(role_id=role_id, secret_id=secret_id)
    assert read(manager(**given)) == VALUES
    with refused(LoginDenied, "invalid role or secret ID.*have a new secret_id issued"):
        read(manager(**given))
