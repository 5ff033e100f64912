"""The floor: the four requests of a read by http.client, without any check, renewal or retry."""

import base64
import http.client
import json
import ssl
import sys
from urllib.parse import urlsplit


def connect(setup):
    """Return a function that reads once: TokenRequest, log-in, GET Secret, decrypt."""
    kubernetes, vault = (urlsplit(setup[name]) for name in ("kubernetes_url", "vault_url"))
    context = ssl.create_default_context(cafile=setup["kubernetes_ca"])
    context.load_cert_chain(setup["client_cert"], setup["client_key"])
    api = http.client.HTTPSConnection(kubernetes.hostname, kubernetes.port, context=context)
    context = ssl.create_default_context(cafile=setup["vault_ca"])
    transit = http.client.HTTPSConnection(vault.hostname, vault.port, context=context)

    def call(connection, method, path, body=None, token=None):
        headers = {"Content-Type": "application/json", **({"X-Vault-Token": token} if token else {})}
        connection.request(method, path, body and json.dumps(body), headers)
        return json.loads(connection.getresponse().read())

    account = f"/api/v1/namespaces/{setup['namespace']}/serviceaccounts/{setup['service_account']}/token"
    spec = {"audiences": ["vault"], "expirationSeconds": 600}
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}

    def read():
        jwt = call(api, "POST", account, request)["status"]["token"]
        login = call(transit, "POST", "/v1/auth/kubernetes/login", {"role": setup["role"], "jwt": jwt})
        secret = call(api, "GET", f"/api/v1/namespaces/{setup['namespace']}/secrets/{setup['secret']}")
        ciphertext = base64.b64decode(secret["data"][setup["key"]]).decode()
        path, token = f"/v1/transit/decrypt/{setup['transit_key']}", login["auth"]["client_token"]
        plaintext = call(transit, "POST", path, {"ciphertext": ciphertext}, token)["data"]["plaintext"]
        return json.loads(base64.b64decode(plaintext))

    return read


if __name__ == "__main__":
    setup = json.loads(sys.argv[1])
    if setup["mode"] == "cold":
        assert connect(setup)()
    else:
        import measure

        measure.run(setup, connect(setup))
