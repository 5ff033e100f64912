"""Kubeconfig files as users have them: exec plugins, and fields that change who asks, or whom."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ansible
from support.client import assert_no_secret
from support.cluster import Cluster

from secretmanager.errors import ConfigError, Forbidden, TLSError
from secretmanager.servers.kubernetes import KubernetesClient

V1 = "client.authentication.k8s.io/v1"
V1BETA1 = "client.authentication.k8s.io/v1beta1"

PROGRAM = """#!/bin/sh
printf '%s\\n' "$KUBERNETES_EXEC_INFO" >> "$(dirname "$0")/told"
echo "$GREETING" "$@" >> "$(dirname "$0")/arguments"
echo "PLAIN- on standard error" >&2
cat "$(dirname "$0")/output"
exit "$(cat "$(dirname "$0")/status")"
"""


@dataclass(frozen=True)
class Plugin:
    """An exec plugin, which gives what a test puts into its folder."""

    cluster: Cluster
    folder: Path

    def gives(self, version: str = V1, **status: Any) -> None:
        credential = {"apiVersion": version, "kind": "ExecCredential", "status": status}
        (self.folder / "output").write_text(json.dumps(credential))

    def kubeconfig(self, **changes: Any) -> str:
        """Return a kubeconfig whose user is the plugin; None as a change leaves a field out."""
        plugin = {
            "apiVersion": V1,
            "command": "./plugin",
            "args": ["get", "token"],
            "env": [{"name": "GREETING", "value": "hello"}],
            "interactiveMode": "IfAvailable",
            **changes,
        }
        user = {"exec": {name: value for name, value in plugin.items() if value is not None}}
        return changed(self.cluster, self.folder, lambda content: content["users"][0].update(user=user))

    @property
    def told(self) -> list[dict[str, Any]]:
        """What it was told at each of its runs."""
        return [json.loads(line) for line in (self.folder / "told").read_text().splitlines()]


@pytest.fixture
def plugin(cluster: Cluster, tmp_path: Path) -> Plugin:
    (tmp_path / "plugin").write_text(PROGRAM)
    (tmp_path / "plugin").chmod(0o755)
    (tmp_path / "status").write_text("0")
    return Plugin(cluster, tmp_path)


@pytest.fixture(scope="module")
def token(cluster: Cluster) -> str:
    """Token of a user who may list the namespace's Secrets."""
    return cluster.account("plugged", [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}])


def changed(cluster: Cluster, folder: Path, change: Callable[[Any], None], token: str = "none") -> str:
    path = Path(cluster.kubeconfig_of(token, folder))
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content))
    return str(path)


def secrets(cluster: Cluster, kubeconfig: str, times: int = 1) -> None:
    """List Secrets, which fails without a user who may."""
    client = KubernetesClient.from_kubeconfig(kubeconfig)
    for _ in range(times):
        list(client.list_secrets(cluster.namespace))


@pytest.mark.parametrize(("version", "mode"), [(V1, "Never"), (V1, "IfAvailable"), (V1BETA1, None)])
def test_a_token(plugin: Plugin, token: str, version: str, mode: str | None) -> None:
    plugin.gives(version, token=token)
    secrets(plugin.cluster, plugin.kubeconfig(apiVersion=version, interactiveMode=mode), times=2)
    assert plugin.told == [{"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}}]
    assert (plugin.folder / "arguments").read_text() == "hello get token\n"


def test_the_command_uses_a_plugin_too(plugin: Plugin, token: str) -> None:
    plugin.gives(token=token)
    env = ansible.environment(HOME=str(plugin.folder), KUBECONFIG=plugin.kubeconfig())
    command = [ansible.BIN / "kubevault", "info", plugin.cluster.namespace]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(plugin.told) == 1
    assert_no_secret(done.stdout + done.stderr)


@pytest.mark.parametrize(("seconds", "runs"), [(-5, 3), (3600, 1)])
def test_an_ended_token_is_renewed(plugin: Plugin, token: str, seconds: int, runs: int) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=seconds)
    plugin.gives(token=token, expirationTimestamp=ends.strftime("%Y-%m-%dT%H:%M:%SZ"))
    secrets(plugin.cluster, plugin.kubeconfig(), times=3)
    assert len(plugin.told) == runs


def test_a_client_certificate(plugin: Plugin) -> None:
    user = yaml.safe_load(Path(plugin.cluster.kubeconfig).read_text())["users"][0]["user"]
    cert, key = (pem(user, name, Path(plugin.cluster.kubeconfig).parent) for name in ("certificate", "key"))
    plugin.gives(clientCertificateData=cert, clientKeyData=key)
    secrets(plugin.cluster, plugin.kubeconfig(), times=2)
    assert len(plugin.told) == 1


def pem(user: Mapping[str, str], name: str, folder: Path) -> str:
    if inline := user.get(f"client-{name}-data"):
        return base64.b64decode(inline).decode()
    return (folder / user[f"client-{name}"]).read_text()


def test_a_plugin_that_wants_to_know_the_cluster(plugin: Plugin, token: str) -> None:
    plugin.gives(token=token)

    def extend(content: Any) -> None:
        extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "it"}}
        content["clusters"][0]["cluster"]["extensions"] = [extension]
        plugged = yaml.safe_load(Path(plugin.kubeconfig(provideClusterInfo=True)).read_text())
        content["users"] = plugged["users"]

    secrets(plugin.cluster, changed(plugin.cluster, plugin.folder, extend))
    configuration = plugin.cluster.api.api_client.configuration
    ca = base64.b64encode(Path(configuration.ssl_ca_cert).read_bytes()).decode()
    expected = {"server": configuration.host, "certificate-authority-data": ca, "config": {"audience": "it"}}
    assert [item["spec"]["cluster"] for item in plugin.told] == [expected]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "apiVersion 'client.authentication.k8s.io/v1alpha1'"),
        ({"apiVersion": None}, "apiVersion None is not allowed; allowed are client.authentication.k8s.io/v1, "),
        ({"command": None}, "command is missing"),
        ({"interactiveMode": None}, "interactiveMode None is not allowed; allowed are Never, IfAvailable, Always"),
        ({"interactiveMode": "Always"}, "the plugin must ask its user, and there is no terminal"),
        ({"command": "nosuch-plugin", "installHint": "get it at x"}, "nosuch-plugin: No such file or .*; get it at x"),
    ],
)
def test_a_plugin_that_cannot_be_run(plugin: Plugin, token: str, changes: Mapping[str, Any], message: str) -> None:
    plugin.gives(token=token)
    with pytest.raises(ConfigError, match=f"exec of the user: {message}"):
        secrets(plugin.cluster, plugin.kubeconfig(**changes))
    assert not (plugin.folder / "told").exists()


@pytest.mark.parametrize(
    ("output", "status", "message"),
    [
        ('{"a": "PLAIN-"', 0, "is not an ExecCredential with a status"),
        ('["PLAIN-"]', 0, "is not an ExecCredential with a status"),
        ({"status": None}, 0, "is not an ExecCredential with a status"),
        ({"kind": "Secret"}, 0, f"is not an ExecCredential of {V1}"),
        ({"apiVersion": V1BETA1}, 0, f"is not an ExecCredential of {V1}"),
        ({"status": {}}, 0, "holds neither token nor clientCertificateData"),
        ({"status": {"clientCertificateData": "PLAIN-"}}, 0, "clientCertificateData is given and clientKeyData is not"),
        ({"status": {"token": "PLAIN-\nb"}}, 0, "token: holds white space or a character that no token has"),
        ({"status": {"token": "PLAIN-", "expirationTimestamp": "soon"}}, 0, "is not a time of RFC 3339"),
        (
            {"status": {"clientCertificateData": "PLAIN-", "clientKeyData": "PLAIN-"}},
            0,
            "clientCertificateData and clientKeyData are not a certificate and its key in PEM",
        ),
        ({"status": {"clientCertificateData": "\ud800", "clientKeyData": "PLAIN-"}}, 0, "are not a certificate"),
        ({}, 3, "plugin ended with status 3; `kubectl version`"),
    ],
)
def test_a_plugin_that_gives_nothing_useful(
    plugin: Plugin, capfd: pytest.CaptureFixture[str], output: str | Mapping[str, Any], status: int, message: str
) -> None:
    good = {"apiVersion": V1, "kind": "ExecCredential", "status": {"token": "PLAIN-"}}
    text = output if isinstance(output, str) else json.dumps({**good, **output})
    (plugin.folder / "output").write_text(text)
    (plugin.folder / "status").write_text(str(status))
    with pytest.raises(ConfigError, match=message) as caught:
        secrets(plugin.cluster, plugin.kubeconfig())
    assert_no_secret("".join(traceback.format_exception(caught.value)) + "".join(capfd.readouterr()))


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("cluster", "insecure-skip-tls-verify", True),
        ("user", "username", "PLAIN-"),
        ("user", "password", "PLAIN-"),
        ("user", "auth-provider", {"name": "oidc", "config": {"id-token": "PLAIN-"}}),
    ],
)
def test_what_would_change_who_asks_or_whom_is_refused(
    cluster: Cluster, tmp_path: Path, token: str, section: str, field: str, value: Any
) -> None:
    kubeconfig = changed(
        cluster, tmp_path, lambda content: content[f"{section}s"][0][section].update({field: value}), token
    )
    with pytest.raises(ConfigError, match=f"{section} 'it' has {field}") as caught:
        KubernetesClient.from_kubeconfig(kubeconfig)
    assert_no_secret(str(caught.value))


def administrators(cluster: Cluster, folder: Path, change: Callable[[Any], None]) -> KubernetesClient:
    """Return a client of the administrator's kubeconfig, changed."""
    path = Path(cluster.kubeconfig)
    content = yaml.safe_load(path.read_text())
    change(content)
    (folder / "admin").write_text(yaml.safe_dump(content))
    return KubernetesClient.from_kubeconfig(folder / "admin")


def identity(client: KubernetesClient) -> dict[str, Any]:
    """Return who the API takes the client for."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    response = client._call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "itself", body)
    return response.json()["status"]["userInfo"]


def test_a_user_who_acts_as_another(cluster: Cluster, tmp_path: Path) -> None:
    def act(**fields: Any) -> KubernetesClient:
        return administrators(cluster, tmp_path, lambda content: content["users"][0]["user"].update(fields))

    other = {
        "as": "Ödön of Ulm",
        "as-uid": "7",
        "as-groups": ["one", "two, three"],
        "as-user-extra": {"a/b%": ["c", "d"]},
    }
    found = identity(act(**other))
    assert (found["username"], found["uid"], found["extra"]) == ("Ödön of Ulm", "7", {"a/b%": ["c", "d"]})
    assert set(found["groups"]) == {"one", "two, three", "system:authenticated"}
    with pytest.raises(Forbidden, match='User "Ödön of Ulm" cannot list'):
        list(act(**other).list_secrets(cluster.namespace))
    list(act(**{**other, "as-groups": ["one", "system:masters"]}).list_secrets(cluster.namespace))
    events = act(**other | {"as-groups": ["system:masters"]}).watch("secrets", cluster.namespace, "nosuch", seconds=1)
    assert list(events) == []
    for field in ("as-uid", "as-groups", "as-user-extra"):
        with pytest.raises(ConfigError, match="as-uid, as-groups and as-user-extra need as"):
            act(**{field: other[field]})
    for fields in (
        {"as": "a\nb"},
        {"as-groups": ["a\r\nX: y"]},
        {"as-user-extra": {"a": "b"}},
        {"as-user-extra": {"a": [7]}},
    ):
        with pytest.raises(ConfigError, match=r"for Impersonate-.* allowed is text on one line"):
            act(**{"as": "x", **fields})


def test_the_name_in_the_certificate(cluster: Cluster, tmp_path: Path) -> None:
    def named(name: str) -> KubernetesClient:
        return administrators(
            cluster, tmp_path, lambda content: content["clusters"][0]["cluster"].update({"tls-server-name": name})
        )

    list(named("kubernetes.default.svc").list_secrets(cluster.namespace))
    with pytest.raises(TLSError) as caught:
        list(named("nosuch.example.org").list_secrets(cluster.namespace))
    assert caught.value.reason == "wrong host name"


def parts(cluster: Cluster, folder: Path, token: str) -> list[str]:
    """Return two kubeconfig files, each useless alone: relative paths belong to the file that holds them."""
    whole = yaml.safe_load(Path(cluster.kubeconfig_of(token, folder)).read_text())
    for name in ("one", "two"):
        (folder / name).mkdir()
    content = whole["clusters"][0]["cluster"]
    (folder / "one" / "ca").write_bytes(Path(content["certificate-authority"]).read_bytes())
    content["certificate-authority"] = "ca"
    (folder / "two" / "token").write_text(token)
    one = {"clusters": whole["clusters"], "current-context": "it"}
    two = {
        "users": [{"name": "it", "user": {"tokenFile": "token"}}],
        "contexts": whole["contexts"],
        "clusters": [{"name": "it", "cluster": {"server": "https://127.0.0.1:1"}}],  # the first file's counts
        "current-context": "nosuch",
    }
    paths = [folder / "one" / "config", folder / "two" / "config"]
    for path, part in zip(paths, (one, two), strict=True):
        path.write_text(yaml.safe_dump(part))
    return [str(path) for path in paths]


def test_several_files_are_merged(
    cluster: Cluster, tmp_path: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = parts(cluster, tmp_path, token)
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(["", str(tmp_path / "nosuch"), *paths, ""]))
    list(KubernetesClient.from_kubeconfig().list_secrets(cluster.namespace))


def test_a_missing_context_names_the_files(
    cluster: Cluster, tmp_path: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = os.pathsep.join(parts(cluster, tmp_path, token))
    monkeypatch.setenv("KUBECONFIG", paths)
    with pytest.raises(ConfigError, match=f"^{re.escape(paths)}: context 'other' is missing; found it$"):
        KubernetesClient.from_kubeconfig(context="other")


def test_only_separators_count_as_not_set(
    cluster: Cluster, tmp_path: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".kube").mkdir()
    Path(cluster.kubeconfig_of(token, tmp_path)).rename(tmp_path / ".kube" / "config")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", os.pathsep)
    list(KubernetesClient.from_kubeconfig().list_secrets(cluster.namespace))


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'nosuch'}{os.pathsep}")
    with pytest.raises(ConfigError, match=f"kubeconfig: {tmp_path / 'nosuch'}: No such file or directory"):
        KubernetesClient.from_kubeconfig()
