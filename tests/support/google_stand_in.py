"""A stand-in for Google on loopback: the endpoints that Vault's gcp auth method and google-auth use.

Google itself cannot be used here: a test would need an account of Google Cloud. The tested parts are real: Vault's
plugin, its log-in, and the signatures, which the plugin verifies with the public keys that it fetches from here.

- keys of service accounts and of Google's own OAuth 2.0: https://www.googleapis.com/service_accounts/v1/metadata/x509/ACCOUNT
  and /oauth2/v1/certs
- service accounts: https://docs.cloud.google.com/iam/docs/reference/rest/v1/projects.serviceAccounts/get
- access tokens for Vault itself: https://developers.google.com/identity/protocols/oauth2/service-account
- a machine's metadata server: https://docs.cloud.google.com/compute/docs/instances/verifying-instance-identity
"""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt
from google.auth import jwt as google_jwt

ACCOUNT = "reader@project.iam.gserviceaccount.com"
UNIQUE_ID = "100000000000000000001"


class SigningKey:
    """A private key of Google, and the certificate that publishes it."""

    def __init__(self, name: str) -> None:
        self.id = name
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        self.certificate = certificate.public_bytes(serialization.Encoding.PEM).decode()


class GoogleStandIn(ThreadingHTTPServer):
    """The stand-in's HTTP server.

    Attributes:
        url: its address.
        account_key: key of the service account.
        google_key: key that the metadata server signs with.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.account_key, self.google_key = SigningKey("account-key"), SigningKey("google-key")
        threading.Thread(target=self.serve_forever, args=[0.01], daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def key_file(self, path: Path, key: SigningKey | None = None) -> Path:
        """Write the service account's key file in Google's format; with another key, a forged one."""
        key = key or self.account_key
        content = {
            "type": "service_account",
            "project_id": "project",
            "private_key_id": key.id,
            "private_key": key.pem,
            "client_email": ACCOUNT,
            "client_id": UNIQUE_ID,
            "token_uri": f"{self.url}/token",
        }
        path.write_text(json.dumps(content))
        return path

    def answer(self, path: str, query: dict[str, list[str]]) -> Any:
        """Return the response body for a path, or None if there is no such resource."""
        account = {"name": ACCOUNT, "email": ACCOUNT, "uniqueId": UNIQUE_ID, "projectId": "project"}
        answers: dict[str, Any] = {
            "/token": {"access_token": "stand-in", "token_type": "Bearer", "expires_in": 3600},
            "/oauth2/v1/certs": {self.google_key.id: self.google_key.certificate},
            f"/service_accounts/v1/metadata/x509/{ACCOUNT}": {self.account_key.id: self.account_key.certificate},
            f"/v1/projects/-/serviceAccounts/{ACCOUNT}": account,
            f"/v1/projects/-/serviceAccounts/{UNIQUE_ID}": account,
        }
        machine = "/computeMetadata/v1/instance/service-accounts/default/"
        answers[machine] = {"aliases": ["default"], "email": ACCOUNT, "scopes": []}
        if path == f"{machine}identity":
            now = int(time.time())
            claims = {"sub": UNIQUE_ID, "email": ACCOUNT, "aud": query["audience"][0], "iat": now, "exp": now + 3600}
            signer = crypt.RSASigner.from_string(self.google_key.pem, self.google_key.id)
            return google_jwt.encode(signer, claims).decode()
        return answers.get(path)


class _Handler(BaseHTTPRequestHandler):
    server: GoogleStandIn

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path.replace("%40", "@"))
        answer = self.server.answer(parts.path, parse_qs(parts.query))
        if answer is None:
            self.send_error(404)
            return
        body = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Log nothing."""
