"""A Google service account logs in through Vault's real gcp auth method, with a stand-in for Google."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.auth.compute_engine import _metadata
from support.client import Manager, Refused
from support.cluster import Cluster
from support.google_stand_in import GoogleStandIn, SigningKey
from support.servers import PrivateVault, sealed

from secretmanager import SecretManager
from secretmanager.errors import ConfigError, LoginDenied


@pytest.fixture
def given(google_vault: PrivateVault, cluster: Cluster) -> dict[str, Any]:
    secret = sealed(google_vault, (cluster.namespace, "for-google"), "plain", {"a": "PLAIN-a"}, None)
    cluster.put("for-google", secret)
    return {"auth": "gcp", "vault_url": google_vault.url, "ca_cert": google_vault.ca, "service_account": ...}


def read(manager: SecretManager, cluster: Cluster) -> dict[str, Any]:
    return manager.read_secrets("for-google", cluster.namespace, transit_key="plain")


def test_a_key_file(
    manager: Manager, cluster: Cluster, google: GoogleStandIn, given: dict[str, Any], tmp_path: Path, refused: Refused
) -> None:
    given["gcp_credentials_file"] = str(google.key_file(tmp_path / "key.json"))
    assert read(manager(**given), cluster) == {"a": "PLAIN-a"}
    with refused(LoginDenied, "is not authorized for role"):
        read(manager(**given, role="other"), cluster)


def test_a_forged_key_file(
    manager: Manager, cluster: Cluster, google: GoogleStandIn, given: dict[str, Any], tmp_path: Path, refused: Refused
) -> None:
    forged = google.key_file(tmp_path / "key.json", SigningKey("account-key"))
    with refused(LoginDenied, "error in cryptographic primitive"):
        read(manager(**given, gcp_credentials_file=str(forged)), cluster)


def test_what_is_no_key_file(
    manager: Manager, cluster: Cluster, given: dict[str, Any], tmp_path: Path, refused: Refused
) -> None:
    (tmp_path / "key.json").write_text('{"private_key": "PLAIN-key"}')
    with refused(ConfigError, "is not a JSON key file of a Google service account"):
        read(manager(**given, gcp_credentials_file=str(tmp_path / "key.json")), cluster)
    with refused(ConfigError, "No such file"):
        read(manager(**given, gcp_credentials_file=str(tmp_path / "nosuch")), cluster)


def test_the_metadata_server(
    cluster: Cluster, google: GoogleStandIn, options: dict[str, Any], given: dict[str, Any]
) -> None:
    """In a new process, because google-auth reads the server's address when it is imported."""
    config = {name: value for name, value in {**options, **given, "role": "machine"}.items() if value is not ...}
    code = (
        "from secretmanager import SecretManager\n"
        f"with SecretManager({config!r}) as manager:\n"
        f"    print(manager.read_secrets('for-google', {cluster.namespace!r}, transit_key='plain'))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "GCE_METADATA_HOST": google.url.removeprefix("http://"), "NO_GCE_CHECK": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "{'a': 'PLAIN-a'}\n"), run.stderr


def test_a_metadata_server_without_an_account(
    manager: Manager,
    cluster: Cluster,
    google: GoogleStandIn,
    given: dict[str, Any],
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", google.url.removeprefix("http://"))
    monkeypatch.setattr(google, "answer", lambda path, query: None)
    with refused(ConfigError, "metadata server issues no token: .*Status: 404.*name gcp_credentials_file"):
        read(manager(**given), cluster)
