"""Kubeconfigs with any field missing or wrong: an error of the package that names it, and shows no secret."""

from __future__ import annotations

import base64
import copy
import datetime
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from support.servers import Authority

from secretmanager.errors import ConfigError, SecretManagerError
from secretmanager.servers.kubeconfig import find_access
from secretmanager.servers.kubernetes import KubernetesClient

MARK = "RABBIT"
PLUGIN = """#!/bin/sh
echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "RABBIT"}}'
"""
EXEC = {
    "apiVersion": "client.authentication.k8s.io/v1",
    "command": "./plugin",
    "args": ["get"],
    "env": [{"name": "GREETING", "value": MARK}],
    "interactiveMode": "Never",
    "provideClusterInfo": True,
}
CIRCLE: dict[str, Any] = {}
CIRCLE["itself"] = CIRCLE
MISSING = object()
WRONG = [
    *(MISSING, None, "", 0, 7, 1.5, True, [], [MARK], [7], [[7]], [None], {}, {MARK: 7}, {7: 8}, [{"name": MARK}]),
    *(f"{MARK}\0", f"{MARK}\N{ZERO WIDTH SPACE}", f"{MARK}\x1b[31m", "\ud800", "UkFCQklU", b"RABBIT", "https://[::1"),
    *(datetime.date(2024, 1, 1), {7}, CIRCLE, "~nosuchuser/x", "a=b"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a CA, a client's certificate, a token and a plugin."""
    folder = tmp_path_factory.mktemp("kubeconfig")
    Authority(folder).issue("client")
    (folder / "token").write_text(MARK)
    (folder / "plugin").write_text(PLUGIN)
    (folder / "plugin").chmod(0o755)
    return folder


def data(path: Path) -> str:
    return base64.encodebytes(path.read_bytes()).decode()  # on several lines, as YAML may hold it


def kubeconfig(folder: Path, user: dict[str, Any], **cluster: Any) -> dict[str, Any]:
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"a": "b"}}
    default = {"certificate-authority": str(folder / "ca.crt"), "extensions": [extension]}
    return {
        "clusters": [{"name": "it", "cluster": {"server": "https://127.0.0.1:1", **(cluster or default)}}],
        "users": [{"name": "it", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "current-context": "it",
    }


def complete(folder: Path) -> Iterator[dict[str, Any]]:
    files = {"client-certificate": str(folder / "client.crt"), "client-key": str(folder / "client.key")}
    inline = {"client-certificate-data": data(folder / "client.crt"), "client-key-data": data(folder / "client.key")}
    authority = {"certificate-authority-data": data(folder / "ca.crt")}
    yield kubeconfig(folder, {"token": MARK, "username": "", "as-groups": []}, **authority)
    yield kubeconfig(folder, {"tokenFile": str(folder / "token")})
    yield kubeconfig(folder, files)
    yield kubeconfig(folder, inline)
    yield kubeconfig(folder, {"exec": {**EXEC, "command": str(folder / "plugin")}})


def used(content: Any) -> str | None:
    """Return the credentials that a client with this kubeconfig sends."""
    access = find_access(content)
    KubernetesClient(lambda: access)
    return access.authorization() if access.authorization else None


def places(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if place:
        yield place
    if isinstance(content, dict | list):
        for key in content if isinstance(content, dict) else range(len(content)):
            yield from places(content[key], (*place, key))


def changed(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    content = copy.deepcopy(content)
    *outer, last = place
    inner = content
    for key in outer:
        inner = inner[key]
    if value is MISSING:
        del inner[last]
    else:
        inner[last] = value
    return content


def assert_not_shown(error: BaseException | None) -> None:
    while error is not None:
        assert MARK not in f"{error!r} {error} {''.join(traceback.format_exception_only(error))}"
        error = error.__cause__ or error.__context__


def test_complete_ones_are_used(folder: Path) -> None:
    assert [used(content) for content in complete(folder)] == [f"Bearer {MARK}"] * 2 + [None] * 2 + [f"Bearer {MARK}"]


@pytest.mark.parametrize("number", range(5))
def test_any_field_may_be_wrong(folder: Path, number: int) -> None:
    """Names of contexts, clusters and users are shown, other values are not."""
    content = list(complete(folder))[number]
    refused = 0
    for place in places(content):
        for value in WRONG:
            try:
                used(changed(content, place, value))
            except SecretManagerError as error:
                refused += 1
                if len(place) > 3 and place[-1] != "name":
                    assert_not_shown(error)
    assert refused > len(WRONG)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"- a",
        b"\xff\xfe\0",
        b"{a: RABBIT",
        b"a: 2024-13-45",  # a date that does not exist
        b"[" * 9999,
        b"? [a]: RABBIT\n? {b: c}",
    ],
)
def test_files_that_are_none(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "config"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=f"kubeconfig: {path} is not ") as caught:
        find_access(path)
    assert_not_shown(caught.value)


@pytest.mark.parametrize("path", ["nosuch\0", "~nosuchuser/config", "/dev/null/config", "/"])
def test_paths_that_are_none(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"kubeconfig: .*; name a file"):
        find_access(path)
    if "\0" not in path:
        monkeypatch.setenv("KUBECONFIG", path)
        with pytest.raises(ConfigError, match=r"kubeconfig: .*; name a file"):
            find_access()


@pytest.mark.parametrize("given", ["client-certificate", "client-key"])
def test_half_a_client_certificate_is_refused(folder: Path, given: str) -> None:
    content = kubeconfig(folder, {"token": MARK, given: str(folder / f"client.{'key' if 'key' in given else 'crt'}")})
    with pytest.raises(ConfigError, match=f"{given}.* is given and .*client-.* is not; give both, or neither"):
        used(content)
    option = given.replace("certificate", "cert").replace("-", "_")
    with pytest.raises(ConfigError, match=f"{option} is given and client_.* is not"):
        find_access(host="https://127.0.0.1:1", token=MARK, **{option: "x"})


def test_an_encrypted_key_is_refused_without_asking(folder: Path, tmp_path: Path) -> None:
    key = serialization.load_pem_private_key((folder / "client.key").read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"x")
    encrypted = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    (tmp_path / "key").write_bytes(encrypted)
    user = {"client-certificate": str(folder / "client.crt"), "client-key": str(tmp_path / "key")}
    with pytest.raises(ConfigError, match="client-key: the key is encrypted; decrypt it: openssl pkey"):
        used(kubeconfig(folder, user))


def test_tokens_and_certificates_come_before_a_plugin(folder: Path) -> None:
    """As client-go: a plugin is not even run for a user with other credentials."""
    failing = {**EXEC, "command": "/bin/false"}
    files = {"client-certificate": str(folder / "client.crt"), "client-key": str(folder / "client.key")}
    (folder / "other").write_text("FOLLOW")
    assert used(kubeconfig(folder, {"token": MARK, "exec": failing})) == f"Bearer {MARK}"
    assert used(kubeconfig(folder, {"token": MARK, "tokenFile": str(folder / "other"), **files})) == "Bearer FOLLOW"
    assert used(kubeconfig(folder, {**files, "exec": failing})) is None


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e30])
def test_a_timeout_that_nothing_can_wait(folder: Path, timeout: float) -> None:
    with pytest.raises(ConfigError, match=f"timeout: found {timeout:g}; allowed is more than 0".replace("+", r"\+")):
        KubernetesClient.from_kubeconfig(kubeconfig(folder, {"token": MARK}), timeout=timeout)


def test_a_ca_beside_a_comment_that_is_not_ascii(folder: Path) -> None:
    pem = "# Müller CA\n".encode() + (folder / "ca.crt").read_bytes()
    authority = {"certificate-authority-data": base64.b64encode(pem).decode()}
    assert used(kubeconfig(folder, {"token": MARK}, **authority)) == f"Bearer {MARK}"
    for found in (b"\xff\xfe", b"", b"RABBIT"):
        authority = {"certificate-authority-data": base64.b64encode(found).decode() or "="}
        with pytest.raises(ConfigError, match=r"certificate-authority.*(PEM|base64)") as caught:
            used(kubeconfig(folder, {"token": MARK}, **authority))
        assert_not_shown(caught.value)


def test_it_is_read_as_yaml_too(folder: Path, tmp_path: Path) -> None:
    """A number is no token, as kubectl says; a token in a block of YAML is one."""
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(kubeconfig(folder, {"token": 12345})))
    with pytest.raises(ConfigError, match="token is of type int; allowed is text, so quote it"):
        used(path)
    path.write_text(yaml.safe_dump(kubeconfig(folder, {"token": "A\n"})))
    assert used(path) == "Bearer A"
