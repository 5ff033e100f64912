"""Nodes that join: MicroK8s' add-node and join, and the cluster agent between them."""

from __future__ import annotations

import hashlib
import http.server
import json
import secrets
import ssl
import time
import urllib.request
from pathlib import Path
from typing import Any

from certificates import create_users, issue_server
from paths import (
    CERTS,
    CREDENTIALS,
    JOINED,
    LOCKS,
    NO_ETCD,
    WORKER,
    addresses,
    default_address,
    hostname,
    kubectl,
    restart,
    set_argument,
)

PORT = 25000
TOKENS = CREDENTIALS / "cluster-tokens.txt"
CERTIFICATES = ("ca.crt", "ca.key", "serviceaccount.key")


def add_node(given: str | None, ttl: int) -> dict[str, Any]:
    """Make a token, for once (TTL -1) or for a time in seconds; return it and the URLs to join by."""
    token = given or secrets.token_hex(16)
    TOKENS.touch(0o660)
    with TOKENS.open("a") as file:
        file.write(f"{token}\n" if ttl == -1 else f"{token}|{int(time.time()) + ttl}\n")
    der = ssl.PEM_cert_to_DER_cert((CERTS / "server.crt").read_text())
    whole = f"{token}/{hashlib.sha256(der).hexdigest()[:12]}"
    ordered = sorted(addresses(), key=lambda address: address != default_address())
    return {"token": whole, "urls": [f"{address}:{PORT}/{whole}" for address in ordered]}


def join(url: str, worker: bool) -> None:
    """Join a cluster: as one more API server on the first node's etcd, or as a worker."""
    address, token, fingerprint = url.split("/")
    host, port = address.split(":")
    print(f"Contacting cluster at {host}")
    # As MicroK8s does it: the fingerprint in the URL proves who answers.
    der = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, int(port))))
    if not hashlib.sha256(der).hexdigest().startswith(fingerprint):
        print(f"Joining cluster failed. Could not verify the identity of {host}.")
        raise SystemExit(4)
    request = urllib.request.Request(
        f"https://{address}/cluster/api/v2.0/join",
        json.dumps({"token": token, "hostname": hostname(), "worker": worker}).encode(),
    )
    context = ssl.create_default_context(cadata=ssl.DER_cert_to_PEM_cert(der))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        with urllib.request.urlopen(request, context=context) as answer:
            info = json.load(answer)
    except urllib.error.HTTPError as error:
        print(f"Connection failed. {error.read().decode()} ({error.code}).")
        raise SystemExit(6) from None
    if worker:
        (CERTS / "ca.remote.crt").write_text(info["ca.crt"])
        for lock in (WORKER, JOINED, NO_ETCD, LOCKS / "no-kubelite"):
            lock.touch()
    else:
        for name in CERTIFICATES:
            (CERTS / name).write_text(info[name])
        issue_server()
        create_users()
        set_argument("kube-apiserver", "--etcd-servers", f"https://{host}:12379")
        set_argument("kube-apiserver", "--authorization-mode", info["authorization_mode"])
        for lock in (JOINED, NO_ETCD):
            lock.touch()
    restart("etcd", "kubelite", "cluster-agent")
    print("Successfully joined the cluster.")


def register_node(name: str, role: str, address: str) -> None:
    """Create the Node that a kubelet would register, and say that it is ready."""
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {f"node.kubernetes.io/{role}": role, "kubernetes.io/hostname": name}},
    }
    kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(node))
    status = {
        "addresses": [{"type": "InternalIP", "address": address}],
        "conditions": [{"type": "Ready", "status": "True", "reason": "StandIn", "message": "no kubelet runs here"}],
    }
    kubectl("patch", "node", name, "--subresource=status", "--type=merge", f"--patch={json.dumps({'status': status})}")


def serve_agent() -> None:
    """Serve POST /cluster/api/v2.0/join to who has a token."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTS / "server.crt", CERTS / "server.key")
    server = http.server.ThreadingHTTPServer(("0.0.0.0", PORT), _Agent)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


class _Agent(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/cluster/api/v2.0/join":
            self._answer(404, {"error": "not found"})
        elif not _take(wanted["token"]):
            self._answer(500, {"error": "Invalid token"})
        else:
            role = "microk8s-worker" if wanted["worker"] else "microk8s-controlplane"
            register_node(wanted["hostname"], role, self.client_address[0])
            names = CERTIFICATES[:1] if wanted["worker"] else CERTIFICATES
            self._answer(200, {**_read(names), "authorization_mode": _authorization_mode()})

    def _answer(self, status: int, content: dict[str, str]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _read(names: tuple[str, ...]) -> dict[str, str]:
    return {name: (CERTS / name).read_text() for name in names}


def _authorization_mode() -> str:
    lines = Path(CERTS.parent / "args/kube-apiserver").read_text().splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("--authorization-mode="))


def _take(token: str) -> bool:
    """Whether a token counts; one for once does not any more."""
    lines = TOKENS.read_text().splitlines() if TOKENS.exists() else []
    if token in lines:
        TOKENS.write_text("".join(f"{line}\n" for line in lines if line != token))
        return True
    timed = dict(line.split("|") for line in lines if "|" in line)
    return int(timed.get(token, 0)) > time.time()
