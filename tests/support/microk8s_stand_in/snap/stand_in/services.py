"""What runs under systemd: etcd, the API server with the controller manager, the cluster agent and the kicker."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import certificates
from cluster import register_node, serve_agent
from paths import (
    ARGS,
    CERTS,
    CREDENTIALS,
    DATA,
    GROUP,
    INSTALLED,
    JOINED,
    LOCKS,
    NO_ETCD,
    SNAP,
    arguments,
    default_address,
    has_default_route,
    hostname,
    kubectl,
    restart,
)

# Seconds for an end in good order. An API server without its etcd takes more than systemd gives.
PATIENCE = 5

TLS = ["cert-file=${SNAP_DATA}/certs/server.crt", "key-file=${SNAP_DATA}/certs/server.key"]
ETCD = "https://127.0.0.1:12379"
DEFAULTS = {
    "etcd": [
        "data-dir=${SNAP_DATA}/var/etcd",
        "listen-client-urls=https://0.0.0.0:12379",
        f"advertise-client-urls={ETCD}",
        "listen-peer-urls=http://127.0.0.1:12380",
        "client-cert-auth",
        "trusted-ca-file=${SNAP_DATA}/certs/ca.crt",
        *TLS,
    ],
    "kube-apiserver": [
        "service-cluster-ip-range=10.152.183.0/24",
        "authorization-mode=AlwaysAllow",
        "service-account-key-file=${SNAP_DATA}/certs/serviceaccount.key",
        "service-account-signing-key-file=${SNAP_DATA}/certs/serviceaccount.key",
        "service-account-issuer='https://kubernetes.default.svc'",
        "client-ca-file=${SNAP_DATA}/certs/ca.crt",
        *(f"tls-{option}".replace("key-file", "private-key-file") for option in TLS),
        "secure-port=16443",
        f"etcd-servers={ETCD}",
        "etcd-cafile=${SNAP_DATA}/certs/ca.crt",
        *(f"etcd-{option}".replace("-file=", "file=") for option in TLS),
        "allow-privileged=true",
    ],
    "kube-controller-manager": [
        "kubeconfig=${SNAP_DATA}/credentials/controller.config",
        "service-account-private-key-file=${SNAP_DATA}/certs/serviceaccount.key",
        "root-ca-file=${SNAP_DATA}/certs/ca.crt",
        "cluster-signing-cert-file=${SNAP_DATA}/certs/ca.crt",
        "cluster-signing-key-file=${SNAP_DATA}/certs/ca.key",
        "use-service-account-credentials",
        # No kubelet says again and again that its node is ready.
        "controllers=*,-node-lifecycle-controller",
    ],
}


def install() -> None:
    """Hook of the first installation: arguments, certificates, kubeconfig files, the group."""
    if INSTALLED.exists():
        return
    for folder in (ARGS, CERTS, CREDENTIALS, LOCKS):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o770)
    for service, options in DEFAULTS.items():
        (ARGS / service).write_text("".join(f"--{option}\n" for option in options))
    if subprocess.run(["getent", "group", GROUP], check=False, stdout=subprocess.DEVNULL).returncode:
        subprocess.run(["groupadd", "--system", GROUP], check=True)
    (CERTS / "csr.conf.template").write_text(certificates.TEMPLATE)
    certificates.produce()
    certificates.create_users()
    for folder in (DATA, ARGS, CERTS, CREDENTIALS, LOCKS):
        subprocess.run(["chgrp", GROUP, folder], check=True)
    INSTALLED.touch()


def etcd() -> None:
    """Become etcd; a node that joined uses the first node's."""
    if NO_ETCD.exists():
        return
    program = SNAP / "bin/etcd"
    os.execv(program, [program, *arguments("etcd")])


def kubelite() -> None:
    """Run the API server and, once it is ready, the controller manager; end with either."""
    if (LOCKS / "no-kubelite").exists():
        return
    signal.signal(signal.SIGTERM, lambda *_: os._exit(_stop(children)))
    children = [_start("kube-apiserver")]
    while not _ready():
        if children[0].poll() is not None:
            raise SystemExit(1)
        time.sleep(1)
    children.append(_start("kube-controller-manager"))
    if not JOINED.exists():
        register_node(hostname(), "microk8s-controlplane", default_address())
    os.wait()
    _stop(children)
    raise SystemExit(1)


def kick() -> None:
    """Issue the server's certificate again when csr.conf changes, or in a cluster when its CA is another."""
    while True:
        time.sleep(5)
        may_issue = not JOINED.exists() and has_default_route()
        if may_issue and certificates.produce():
            restart("etcd", "kubelite", "cluster-agent")
        elif not may_issue and not certificates.issued_by_ca():
            certificates.issue_server()
            restart("etcd", "kubelite", "cluster-agent")


SERVICES = {"etcd": etcd, "kubelite": kubelite, "cluster-agent": serve_agent, "apiserver-kicker": kick}


def _start(name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([SNAP / "bin" / name, *arguments(name)])


def _stop(children: list[subprocess.Popen[bytes]]) -> int:
    for child in children:
        child.terminate()
    for child in children:
        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
    return 0


def _ready() -> bool:
    try:
        return kubectl("get", "--raw=/readyz") == "ok"
    except subprocess.CalledProcessError:
        return False
