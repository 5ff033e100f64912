"""MicroK8s' certificates: made by openssl, from csr.conf.template."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

from paths import CERTS, CREDENTIALS, DATA, GROUP, addresses, restart, run

BACKUP = DATA / "certs-backup"

TEMPLATE = """\
[ req ]
default_bits = 2048
prompt = no
default_md = sha256
req_extensions = req_ext
distinguished_name = dn

[ dn ]
O = KUBEVAULT
CN = 127.0.0.1

[ req_ext ]
subjectAltName = @alt_names

[ alt_names ]
DNS.1 = kubernetes
DNS.2 = kubernetes.default
DNS.3 = kubernetes.default.svc
DNS.4 = kubernetes.default.svc.cluster
DNS.5 = kubernetes.default.svc.cluster.local
IP.1 = 127.0.0.1
IP.2 = 10.152.183.1
#MOREIPS

[ v3_ext ]
authorityKeyIdentifier = keyid,issuer:always
basicConstraints = CA:FALSE
keyUsage = keyEncipherment,dataEncipherment,digitalSignature
extendedKeyUsage = serverAuth,clientAuth
subjectAltName = @alt_names
"""

# Kubeconfig files: the user, and the subject of the client's certificate.
USERS = {
    "client": ("admin", "/CN=admin/O=system:masters"),
    "controller": ("system:kube-controller-manager", "/CN=system:kube-controller-manager"),
}


def produce() -> bool:
    """Make what is missing; issue the server's certificate again if csr.conf changes; return whether it did."""
    for name in ("serviceaccount.key", "ca.key", "server.key"):
        if not (CERTS / name).exists():
            _key(CERTS / name)
    if not (CERTS / "ca.crt").exists():
        extensions = (
            "basicConstraints=critical,CA:TRUE",
            "keyUsage=critical,keyCertSign,cRLSign",
            "subjectKeyIdentifier=hash",
        )
        options = [word for extension in extensions for word in ("-addext", extension)]
        subject = ("-days", "3650", "-key", CERTS / "ca.key", "-subj", "/CN=10.152.183.1")
        run("openssl", "req", "-x509", "-new", "-sha256", *subject, *options, "-out", CERTS / "ca.crt")
    if not render():
        return False
    issue_server()
    return True


def render() -> bool:
    """Write csr.conf of its template, with the host's addresses; return whether it changes."""
    template = (CERTS / "csr.conf.template").read_text()
    names = (f"IP.{number}" for number in range(3, 100) if f"IP.{number} " not in template)
    more = "\n".join(f"{name} = {address}" for name, address in zip(names, addresses(), strict=False))
    rendered = template.replace("#MOREIPS", more)
    current = CERTS / "csr.conf"
    changes = not current.exists() or current.read_text() != rendered
    current.write_text(rendered)
    return changes


def issue_server() -> None:
    """Issue the server's certificate, as csr.conf says."""
    conf = CERTS / "csr.conf"
    request = run("openssl", "req", "-new", "-sha256", "-key", CERTS / "server.key", "-config", conf)
    extensions = ("-extensions", "v3_ext", "-extfile", conf)
    (CERTS / "server.crt").write_text(_sign(request, "365", *extensions))


def issued_by_ca() -> bool:
    """Whether the CA that there is has issued the server's certificate."""
    command = ["openssl", "verify", "-partial_chain", "-trusted", CERTS / "ca.crt", CERTS / "server.crt"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def create_users() -> None:
    """Issue the clients' certificates, and write their kubeconfig files."""
    for name, (user, subject) in USERS.items():
        key, certificate = CERTS / f"{name}.key", CERTS / f"{name}.crt"
        if not key.exists():
            _key(key)
        certificate.write_text(_sign(run("openssl", "req", "-new", "-sha256", "-subj", subject, "-key", key), "3650"))
        kubeconfig = CREDENTIALS / f"{name}.config"
        kubeconfig.write_text(_kubeconfig(user, certificate, key))
        kubeconfig.chmod(0o660)
        shutil.chown(kubeconfig, group=GROUP)


def back_up() -> None:
    """Keep certificates and credentials, for refresh-certs --undo."""
    print(f"Taking a backup of the current certificates under {BACKUP}/")
    for folder in (CERTS, CREDENTIALS):
        shutil.copytree(folder, BACKUP / folder.name, dirs_exist_ok=True)


def undo() -> None:
    """Bring back what the last backup has."""
    for folder in (CERTS, CREDENTIALS):
        shutil.copytree(BACKUP / folder.name, folder, dirs_exist_ok=True)
    restart("etcd", "kubelite", "cluster-agent")


def refresh(name: str) -> None:
    """Issue a certificate again: server.crt, or ca.crt and all others."""
    back_up()
    print("Creating new certificates")
    if name == "ca.crt":
        for file in ("ca.crt", "ca.key", "csr.conf"):
            (CERTS / file).unlink()
        produce()
        create_users()
    else:
        render()
        issue_server()
    restart("etcd", "kubelite", "cluster-agent")


def install_authority(folder: Path) -> None:
    """Use ca.crt and ca.key (RSA) of a folder from now on."""
    print("Validating provided certificates")
    check = ["openssl", "rsa", "-in", str(folder / "ca.key"), "-check", "-noout"]
    if subprocess.run(check, check=False, capture_output=True).returncode:
        print("CA private key is invalid.")
        raise SystemExit(31)
    back_up()
    for name in ("ca.crt", "ca.key"):
        shutil.copy(folder / name, CERTS / name)
    issue_server()
    create_users()
    restart("etcd", "kubelite", "cluster-agent")


def _key(file: Path) -> None:
    run("openssl", "genrsa", "-out", file, "2048")
    file.chmod(0o600)


def _sign(request: str, days: str, *options: object) -> str:
    authority = ("-CA", CERTS / "ca.crt", "-CAkey", CERTS / "ca.key", "-CAcreateserial")
    return run("openssl", "x509", "-req", "-sha256", *authority, "-days", days, *options, stdin=request)


def _kubeconfig(user: str, certificate: Path, key: Path) -> str:
    def data(file: Path) -> str:
        return base64.b64encode(file.read_bytes()).decode()

    cluster = {"server": "https://127.0.0.1:16443", "certificate-authority-data": data(CERTS / "ca.crt")}
    credentials = {"client-certificate-data": data(certificate), "client-key-data": data(key)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "microk8s-cluster", "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "microk8s", "context": {"cluster": "microk8s-cluster", "user": user}}],
        "current-context": "microk8s",
    }
    return json.dumps(content, indent=2) + "\n"
