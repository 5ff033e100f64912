"""Files that are renewed under a running service: CAs, client certificates, tokens, kubeconfigs."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.client import VALUES, Manager, Read, Refused
from support.cluster import Cluster
from support.intermediary import Intermediary
from support.servers import Authority, PrivateVault

from secretmanager import SecretManager
from secretmanager.errors import ConfigError, Forbidden, TLSError

User = dict[str, Any]


def test_the_ca_of_vault(
    manager: Manager,
    read: Read,
    refused: Refused,
    vault: PrivateVault,
    before_vault: Intermediary,
    through_vault: dict[str, Any],
    tmp_path: Path,
) -> None:
    one, file = manager(**through_vault), Path(through_vault["ca_cert"])
    assert read(one) == VALUES
    before_vault.close()
    folder = tmp_path / "renewed"
    folder.mkdir()
    authority = Authority(folder)
    renewed = Intermediary(vault.url, vault.ca, authority.issue("load-balancer"), before_vault.port)
    try:
        with refused(TLSError, reason="unknown authority"):
            read(one)
        file.write_bytes(authority.file.read_bytes())
        assert read(one) == VALUES
        file.unlink()
        assert read(one) == VALUES  # what is in use is not read again without need
    finally:
        renewed.close()


def test_the_client_certificate_for_vault(
    manager: Manager, read: Read, refused: Refused, vault: PrivateVault, tmp_path: Path
) -> None:
    cert, key = tmp_path / "client.crt", tmp_path / "client.key"
    given = {"vault_client_cert": str(cert), "vault_client_key": str(key)}

    def present(name: str, life: timedelta) -> None:
        for path, issued in zip((cert, key), vault.clients.issue(name, life=life), strict=True):
            path.write_bytes(issued.read_bytes())

    present("ended", timedelta(hours=-1))
    one = manager(vault_url=vault.mutual_url, **given)
    with refused(TLSError, reason="client certificate"):
        read(one)
    key.unlink()
    with refused(ConfigError, "vault_client_cert and vault_client_key cannot be read: No such file"):
        read(one)
    present("renewed", timedelta(hours=1))
    assert read(one) == VALUES


def test_the_ca_of_kubernetes(
    manager: Manager,
    read: Read,
    cluster: Cluster,
    before_kubernetes: Intermediary,
    through_kubernetes: dict[str, Any],
    tmp_path: Path,
) -> None:
    one = manager(**through_kubernetes)
    assert read(one) == VALUES
    before_kubernetes.close()
    folder = tmp_path / "renewed"
    folder.mkdir()
    authority = Authority(folder)
    configuration = cluster.api.api_client.configuration
    renewed = Intermediary(
        configuration.host, configuration.ssl_ca_cert, authority.issue("ingress"), before_kubernetes.port
    )
    (tmp_path / "front-of-kubernetes.crt").write_bytes(authority.file.read_bytes())
    try:
        assert read(one) == VALUES
    finally:
        renewed.close()


def by_token(token: str, folder: Path) -> User:
    return {"token": token}


def by_token_file(token: str, folder: Path) -> User:
    (folder / "token").write_text(token)
    return {"tokenFile": "token"}


def by_plugin(token: str, folder: Path) -> User:
    version = "client.authentication.k8s.io/v1"
    credential = {"apiVersion": version, "kind": "ExecCredential", "status": {"token": token}}
    (folder / "credential").write_text(json.dumps(credential))
    run = {"command": "cat", "args": [str(folder / "credential")], "interactiveMode": "Never"}
    return {"exec": {"apiVersion": version, **run}}


@pytest.mark.parametrize("user", [by_token, by_token_file, by_plugin])
@pytest.mark.parametrize("use", ["read", "watch"])
def test_the_credentials_of_a_user_of_kubernetes(
    manager: Manager,
    read: Read,
    refused: Refused,
    cluster: Cluster,
    before_kubernetes: Intermediary,
    through_kubernetes: dict[str, Any],
    tmp_path: Path,
    user: Callable[[str, Path], User],
    use: str,
) -> None:
    path = Path(through_kubernetes["kube_config"])
    content = yaml.safe_load(path.read_text())

    def write(token: str) -> None:
        content["users"][0]["user"] = user(token, tmp_path)
        path.write_text(yaml.safe_dump(content))

    good = content["users"][0]["user"]["token"]
    write("ended")
    one = manager(**through_kubernetes)

    def watch(_: SecretManager) -> dict[str, str]:
        events = one.connect_to_k8s().watch("secrets", cluster.namespace, "none", seconds=1)
        return VALUES if list(events) == [] else {}

    ask = read if use == "read" else watch
    asked = len(before_kubernetes.paths)
    with refused(Forbidden, "check the kubeconfig's user", status=401):
        ask(one)
    assert len(before_kubernetes.paths) == asked + 2  # once more, with what the file holds then
    write(good)
    assert ask(one) == VALUES


def test_the_client_certificate_for_kubernetes(
    manager: Manager, read: Read, refused: Refused, cluster: Cluster, tmp_path: Path
) -> None:
    path = tmp_path / "kubeconfig"
    content = yaml.safe_load(Path(cluster.kubeconfig).read_text())
    good = content["users"][0]["user"]
    cert, key = Authority(tmp_path, "strange").issue("client")
    content["users"][0]["user"] = {"client-certificate": str(cert), "client-key": str(key)}
    path.write_text(yaml.safe_dump(content))
    one = manager(kube_config=str(path))
    with refused(Forbidden, status=401):
        read(one)
    content["users"][0]["user"] = good
    path.write_text(yaml.safe_dump(content))
    assert read(one) == VALUES
