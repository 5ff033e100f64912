"""Answers that are not the API's, as load balancers, ingresses and proxies give them in front of the real servers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.client import VALUES, Manager, Read, Refused
from support.cluster import Cluster
from support.intermediary import Intermediary, page
from support.servers import PrivateVault

from secretmanager.errors import (
    Forbidden,
    KubernetesError,
    KubernetesUnavailable,
    VaultError,
    VaultUnavailable,
)
from secretmanager.servers import http
from secretmanager.servers.kubernetes import KubernetesClient
from secretmanager.servers.vault import TransitItem, VaultClient

JSON = "application/json"
LENGTH_TWICE = page(200, b'{"a": "PLAIN-x"}', JSON, "Content-Length: 5")
CUT_SHORT = page(200, b'{"data": {"PLAIN-x"').replace(b"Content-Length: 19", b"Content-Length: 900")
ENDLESS = page(200, b'{"a":' * 100_000, JSON)

FOREIGN = {
    "a page in place of the API": (page(200), "HTTP status 200, text/html"),
    "a page of a load balancer": (
        page(503, b"<html>PLAIN-x</html>", "text/html", "Server: nginx"),
        "503, text/html, from nginx",
    ),
    "a bad gateway": (page(502), "load balancer or proxy in front of"),
    "a gateway that is too slow": (page(504), "load balancer or proxy in front of"),
    "a page for a path that is not there": (page(404), "HTTP status 404, text/html"),
    "a page of a firewall": (page(403), "HTTP status 403, text/html"),
    "a redirect": (
        page(301, b"PLAIN-x", "text/html", "Location: https://PLAIN-x.example.org/"),
        "redirects are not followed",
    ),
    "a page to sign in": (page(302, b"", "text/html", "Location: /login?PLAIN-x"), "redirects are not followed"),
    "no content": (page(200, b""), "HTTP status 200, no content"),
    "JSON cut short": (page(200, b'{"data": {"PLAIN-x"', JSON), "HTTP status 200, application/json"),
    "JSON of another API": (page(200, b'{"PLAIN-x": 1}', JSON), "HTTP status 200, application/json"),
    "JSON of another API's refusal": (page(500, b'{"error": "PLAIN-x"}', JSON), "HTTP status 500, application/json"),
    "JSON that is no object": (page(200, b'["PLAIN-x"]', JSON), "HTTP status 200, application/json"),
    "JSON of another form": (
        page(200, b'{"data": "PLAIN-x", "metadata": "PLAIN-x", "auth": []}', JSON),
        "HTTP status 200",
    ),
    "bytes": (page(200, b"\xff\xfePLAIN-x"), "HTTP status 200"),
    "JSON without an end": (ENDLESS, "HTTP status 200"),
    "a strange type": (page(200, b"PLAIN-x", "\x1b[31m" + "x" * 500), "HTTP status 200"),
    "a response cut short": (CUT_SHORT, "the answer is cut short"),
    "two lengths": (LENGTH_TWICE, "gives its length twice"),
    "no HTTP": (b"SSH-2.0-PLAIN-x\r\n", "did not answer with HTTP"),
    "nothing": (b"", "no response"),
}
"""An answer, and what is said of it."""


@pytest.fixture(autouse=True)
def brief_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat requests after 10 ms instead of 100; their length is proved by tests/unit/test_servers_pauses.py."""
    monkeypatch.setattr(http, "_FIRST_PAUSE", 0.01)


foreign = pytest.mark.parametrize(("answer", "said"), FOREIGN.values(), ids=FOREIGN)


@pytest.mark.parametrize("path", ["/login", "/decrypt/"])
@foreign
def test_what_is_not_vault(
    manager: Manager,
    read: Read,
    refused: Refused,
    before_vault: Intermediary,
    through_vault: dict[str, Any],
    answer: bytes,
    said: str,
    path: str,
) -> None:
    one = manager(**through_vault)
    assert read(one) == VALUES
    one.connect_to_vault(k8s_token=one.get_k8s_service_account_token())  # so that it logs in again
    before_vault.answer = lambda asked: answer if path in asked else None
    with refused(VaultUnavailable, said, place=before_vault.url) as caught:
        read(one)
    assert "sealed" not in str(caught.value)
    before_vault.answer = lambda asked: None
    assert read(one) == VALUES


@pytest.mark.parametrize("path", ["/token", "/secrets/"])
@foreign
def test_what_is_not_kubernetes(
    manager: Manager,
    read: Read,
    refused: Refused,
    before_kubernetes: Intermediary,
    through_kubernetes: dict[str, Any],
    answer: bytes,
    said: str,
    path: str,
) -> None:
    one = manager(**through_kubernetes)
    before_kubernetes.answer = lambda asked: answer if path in asked else None
    with refused(KubernetesUnavailable, said):
        read(one)
    before_kubernetes.answer = lambda asked: None
    assert read(one) == VALUES


@foreign
def test_what_is_no_watch(
    before_kubernetes: Intermediary,
    through_kubernetes: dict[str, Any],
    cluster: Cluster,
    refused: Refused,
    answer: bytes,
    said: str,
) -> None:
    client = KubernetesClient.from_kubeconfig(through_kubernetes["kube_config"])
    before_kubernetes.answer = lambda path: answer
    with refused(KubernetesUnavailable):
        next(iter(client.watch("secrets", cluster.namespace, "x")))


@foreign
def test_what_is_no_list(
    before_kubernetes: Intermediary,
    through_kubernetes: dict[str, Any],
    cluster: Cluster,
    refused: Refused,
    answer: bytes,
    said: str,
) -> None:
    client = KubernetesClient.from_kubeconfig(through_kubernetes["kube_config"], retries=0)
    before_kubernetes.answer = lambda path: answer
    with refused(KubernetesUnavailable, said):
        list(client.list_secrets(cluster.namespace))


def test_a_user_whom_something_in_front_of_kubernetes_does_not_know(
    manager: Manager, read: Read, refused: Refused, before_kubernetes: Intermediary, through_kubernetes: dict[str, Any]
) -> None:
    before_kubernetes.answer = lambda path: page(401)
    with refused(Forbidden, "not an answer of the Kubernetes API"):
        read(manager(**through_kubernetes))


def test_batches_that_are_too_large_for_what_is_in_front(
    vault: PrivateVault, before_vault: Intermediary, through_vault: dict[str, Any], refused: Refused
) -> None:
    client = VaultClient(before_vault.url, ca_cert=through_vault["ca_cert"], token=vault.root.token, retries=0)
    items = [TransitItem(bytes([index]) * 100_000, place=f"ns/name[{index}]") for index in range(30)]
    before_vault.limit = 1024 * 1024
    ciphertexts = client.encrypt("plain", items)
    assert len(before_vault.paths) > 4
    asked = len(before_vault.paths)
    # What it has learned it keeps.
    found = client.decrypt("plain", [TransitItem(text.encode()) for text in ciphertexts])
    assert found == [item.value for item in items]
    assert len(before_vault.paths) - asked == asked - 2
    before_vault.limit = 1000
    with refused(VaultError, r"status 413.*client_max_body_size", status=413) as caught:
        client.encrypt("plain", items[:1])
    assert not isinstance(caught.value, VaultUnavailable)


def test_a_secret_that_is_too_large_for_what_is_in_front(
    before_kubernetes: Intermediary, through_kubernetes: dict[str, Any], cluster: Cluster, refused: Refused
) -> None:
    kubeconfig = through_kubernetes["kube_config"]
    before_kubernetes.limit = 1000
    body = {"metadata": {"name": "x"}, "data": {"a": "QUFB" * 1000}}
    with refused(KubernetesError, r"status 413.*client_max_body_size", status=413):
        KubernetesClient.from_kubeconfig(kubeconfig).create_secret(cluster.namespace, body)


NO_LEADER = [
    (429, "TooManyRequests", "storage is (re)initializing"),
    (500, "InternalError", "etcdserver: leader changed"),
    (500, "InternalError", "etcdserver: request timed out, possibly due to previous leader failure"),
    (500, "InternalError", "rpc error: code = Unavailable desc = etcdserver: no leader"),
    (503, "ServiceUnavailable", "apiserver is shutting down"),
]


@pytest.mark.parametrize("status", NO_LEADER, ids=lambda status: status[2])
def test_an_etcd_without_a_leader(
    manager: Manager,
    read: Read,
    refused: Refused,
    before_kubernetes: Intermediary,
    through_kubernetes: dict[str, Any],
    status: tuple[int, str, str],
) -> None:
    """These answers are not the API's own: the lab's etcd is a single node, which all tests use."""
    code, reason, message = status
    body = {"kind": "Status", "code": code, "reason": reason, "message": message}
    answer = page(code, json.dumps(body).encode(), JSON)
    patient = manager(**{**through_kubernetes, "election_timeout": 600})
    left = [answer] * 6

    def at_first(path: str) -> bytes | None:
        return left.pop() if "/secrets/" in path and left else None

    before_kubernetes.answer = at_first
    assert read(patient) == VALUES
    assert left == []
    cached = manager(
        **{**through_kubernetes, "election_timeout": 3600, "cache_plaintext_ttl": 0.001, "cache_stale_if_error": 3600}
    )
    assert read(cached) == VALUES
    before_kubernetes.answer = lambda path: answer
    with refused(KubernetesUnavailable, "wait until the API is ready", status=code):
        read(manager(**{**through_kubernetes, "election_timeout": 0.3}))
    assert read(cached) == VALUES  # at once, instead of waiting an hour
