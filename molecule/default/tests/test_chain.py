"""The whole chain: the right workload reads, and everybody else is refused, each with a specific error."""

from __future__ import annotations

import base64
import http.client
import json
import time

import hvac
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt
from google.auth import jwt as google_jwt
from kubernetes import client, config
from support.lab import Lab
from support.servers import Authority

from secretmanager import SecretManager
from secretmanager.errors import ConfigError, Forbidden, LoginDenied, PermissionDenied, TLSError
from secretmanager.login.session import VaultSession
from secretmanager.servers.vault import TransitItem, VaultClient

ISSUER = "https://kubernetes.default.svc"
ITEM = TransitItem(b"text")


def manager(lab: Lab, **config: object) -> SecretManager:
    """Return a client with the workload's kubeconfig: the permissions of its service account only."""
    return SecretManager(
        {
            "SOURCE": "KUBEVAULT",
            "kube_config": lab.env["KUBEVAULT_WORKLOAD_KUBECONFIG"],
            "service_account": "default",
            "namespace": "default",
            "vault_url": lab.env["VAULT_ADDR"],
            "role": lab.env["KUBEVAULT_ROLE"],
            "ca_cert": lab.env["VAULT_CACERT"],
            **config,
        }
    )


def logged_in(lab: Lab, role: str, namespace: str, service_account: str) -> VaultClient:
    """Return a client with a valid token, however long its requests take: a token lives for 10 seconds."""
    vault = lab.vault()
    session = VaultSession(vault, lambda: vault.login_kubernetes(role, lab.jwt(namespace, service_account)))
    vault.token_source = session.token
    return vault


def forged(lab: Lab, key: bytes, *, issuer: str = ISSUER, expires_in: int = 600) -> str:
    """Return a service account token for the workload "demo", signed with any key."""
    account = lab.operator().get("serviceaccounts", "default", "default")
    now = int(time.time())
    claims = {
        "iss": issuer,
        "aud": ["vault"],
        "sub": "system:serviceaccount:default:default",
        "iat": now - 3600,
        "nbf": now - 3600,
        "exp": now + expires_in,
        "kubernetes.io": {
            "namespace": "default",
            "serviceaccount": {"name": "default", "uid": account["metadata"]["uid"]},
        },
    }
    return google_jwt.encode(crypt.RSASigner.from_string(key), claims).decode()


def test_the_right_workload_reads(lab: Lab) -> None:
    secrets = manager(lab).read_secrets("matrix-secrets", "default", "SECRET", "secrets.json", "aes256-key")
    assert secrets == {"username": "neo", "password": "follow-the-white-rabbit"}


def test_other_clients_read_it_too(lab: Lab) -> None:
    """The format is open: the official Kubernetes client and hvac can open what the playbook sealed."""
    api = client.CoreV1Api(config.new_client_from_config(lab.env["KUBEVAULT_WORKLOAD_KUBECONFIG"]))
    request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=["vault"]))
    jwt = api.create_namespaced_service_account_token("default", "default", request).status.token
    vault = hvac.Client(url=lab.env["VAULT_ADDR"], verify=lab.env["VAULT_CACERT"])
    vault.auth.kubernetes.login(lab.env["KUBEVAULT_ROLE"], jwt)
    ciphertext = base64.b64decode(api.read_namespaced_secret("matrix-secrets", "default").data["secrets.json"]).decode()
    answer = vault.secrets.transit.decrypt_data("aes256-key", ciphertext)
    assert json.loads(base64.b64decode(answer["data"]["plaintext"]))["username"] == "neo"


def test_what_an_older_tool_sealed_is_read(lab: Lab) -> None:
    """A bare ciphertext of a JSON text, without annotations or manifest."""
    token = (lab.folder / "vault/operator-token").read_text().strip()
    (ciphertext,) = lab.vault(token=token).encrypt("aes256-key", [TransitItem(b'{"a": 1}')])
    body = {"metadata": {"name": "older"}, "data": {"secrets.json": base64.b64encode(ciphertext.encode()).decode()}}
    kubernetes = lab.operator()
    made = kubernetes.create_secret("default", body)
    try:
        reader = manager(lab, kube_config=lab.env["KUBECONFIG"])
        assert reader.read_secrets("older", "default", "SECRET", "secrets.json", "aes256-key") == {"a": 1}
    finally:
        kubernetes.delete_secret("default", made)


def test_kubernetes_holds_ciphertext(lab: Lab) -> None:
    data = lab.operator().get_secret("default", "matrix-secrets")["data"]
    assert base64.b64decode(data["secrets.json"]).startswith(b"vault:v1:")


def test_another_secret_is_refused(lab: Lab) -> None:
    with pytest.raises(Forbidden, match="payments-database"):
        lab.workload("default", "default").get_secret("payments", "payments-database")


def test_another_service_account_is_refused(lab: Lab) -> None:
    with pytest.raises(LoginDenied, match="service account name not authorized"):
        lab.vault().login_kubernetes("payments", lab.jwt("payments", "sealer"))


def test_another_namespace_is_refused(lab: Lab) -> None:
    with pytest.raises(LoginDenied, match="namespace not authorized"):
        lab.vault().login_kubernetes("demo", lab.jwt("payments", "default"))


def test_another_audience_is_refused(lab: Lab) -> None:
    with pytest.raises(LoginDenied, match="audience"):
        lab.vault().login_kubernetes("demo", lab.jwt("default", "default", "elsewhere"))


def test_a_forged_token_is_as_good_as_the_key_that_signs_it(lab: Lab) -> None:
    """It proves that the two tests below fail for the reason that they name."""
    key = (lab.folder / "kubernetes/service-account.key").read_bytes()
    assert lab.vault().login_kubernetes("demo", forged(lab, key)).lease_duration == 10


def test_an_expired_token_is_refused(lab: Lab) -> None:
    key = (lab.folder / "kubernetes/service-account.key").read_bytes()
    with pytest.raises(LoginDenied, match="expired"):
        lab.vault().login_kubernetes("demo", forged(lab, key, expires_in=-600))


def test_a_token_of_another_cluster_is_refused(lab: Lab) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    with pytest.raises(LoginDenied, match="permission denied"):
        lab.vault().login_kubernetes("demo", forged(lab, other, issuer="https://other.example.org"))


def test_a_reader_cannot_encrypt(lab: Lab) -> None:
    with pytest.raises(PermissionDenied, match="transit/encrypt/aes256-key") as caught:
        logged_in(lab, "demo", "default", "default").encrypt("aes256-key", [ITEM])
    assert (caught.value.path, caught.value.capability) == ("transit/encrypt/aes256-key", "update")


def test_a_reader_of_one_key_cannot_use_another(lab: Lab) -> None:
    with pytest.raises(PermissionDenied, match="transit/decrypt/payments-key"):
        logged_in(lab, "demo", "default", "default").decrypt("payments-key", [TransitItem(b"vault:v1:AAAA")])


def test_a_sealer_cannot_decrypt(lab: Lab) -> None:
    sealer = logged_in(lab, "payments-sealer", "payments", "sealer")
    item = TransitItem(b"text", context=b"payments/x/y")
    (ciphertext,) = sealer.encrypt("payments-key", [item])
    with pytest.raises(PermissionDenied, match="transit/decrypt/payments-key"):
        sealer.decrypt("payments-key", [TransitItem(ciphertext.encode(), context=b"payments/x/y")])


def test_the_operator_cannot_decrypt(lab: Lab) -> None:
    token = (lab.folder / "vault/operator-token").read_text().strip()
    with pytest.raises(PermissionDenied, match="transit/decrypt/aes256-key"):
        lab.vault(token=token).decrypt("aes256-key", [TransitItem(b"vault:v1:AAAA")])


def test_plain_http_is_refused(lab: Lab) -> None:
    with pytest.raises(ConfigError, match=r"vault_url: .*http"):
        manager(lab, vault_url=lab.env["VAULT_ADDR"].replace("https", "http")).read_secrets(
            "matrix-secrets", "default", "SECRET", "secrets.json", "aes256-key"
        )
    connection = http.client.HTTPConnection("127.0.0.1", lab.ports["vault"], timeout=10)
    connection.request("GET", "/v1/sys/health")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (400, b"Client sent an HTTP request to an HTTPS server.\n")


def test_a_wrong_authority_is_refused(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = Authority(tmp_path_factory.mktemp("ca"), "other")
    with pytest.raises(TLSError) as caught:
        lab.vault(ca_cert=str(other.file)).login_kubernetes("demo", "jwt")
    assert caught.value.reason == "unknown authority"


def test_nobody_is_let_into_kubernetes_without_a_known_token(lab: Lab) -> None:
    from secretmanager.servers.kubernetes import KubernetesClient

    stranger = KubernetesClient.from_kubeconfig(lab.env["KUBECONFIG"], token="not-a-token")
    with pytest.raises(Forbidden, match="Unauthorized"):
        stranger.get_secret("default", "matrix-secrets")
