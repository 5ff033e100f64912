"""Servers that one test module or one session has for itself, so that it may seal, kill and restart them."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kubevault_lab.binaries import provide
from kubevault_lab.ports import free_port
from secretmanager.errors import SecretManagerError
from secretmanager.sealed import MANIFEST_KEY, Manifest, Place, Scope
from secretmanager.servers.http import JsonApi, tls_context
from secretmanager.servers.vault import TransitItem, VaultClient

PATIENCE = 60.0
"""Seconds to wait for what should come at once; a test fails after them."""


def wait_until(what: str, ready: Callable[[], bool], patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not ready():
        assert time.monotonic() < deadline, f"{what} did not come within {patience:g} s"
        time.sleep(0.02)


class Authority:
    """A CA, and certificates that it signs, in a folder.

    Args:
        folder: the folder.
        name: the CA's name.
        without: what its certificates lack of RFC 5280: "keyUsage", as MicroK8s' CA before 1.34, "a critical
            basicConstraints", "subjectKeyIdentifier" (of the CA) or "authorityKeyIdentifier" (of the others).
    """

    def __init__(self, folder: Path, name: str = "ca", *, without: str | None = None) -> None:
        self.folder = folder
        self._without = without
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"test {name}")])
        self._certificate = self._built(self._name, self._key, timedelta(days=1), authority=True)
        self.file = folder / f"{name}.crt"
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, address: str = "127.0.0.1", life: timedelta = timedelta(days=1)) -> tuple[Path, Path]:
        """Return files of a certificate and its key; a negative life makes one that ended so long ago."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = self._built(subject, key, life, address=address)
        files = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files

    def _built(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        life: timedelta,
        *,
        address: str = "127.0.0.1",
        authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        public = key.public_key()
        builder = (
            x509.CertificateBuilder(self._name, subject, public, x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + life)
            .add_extension(
                x509.BasicConstraints(ca=authority, path_length=None),
                critical=self._without != "a critical basicConstraints",
            )
        )
        if not authority or self._without != "subjectKeyIdentifier":
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        if authority and self._without != "keyUsage":
            usage = dict.fromkeys(
                ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
                False,
            )
            builder = builder.add_extension(
                x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False),
                critical=True,
            )
        if not authority and self._without != "authorityKeyIdentifier":
            issuer = self._key.public_key()
            builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
        if not authority:
            (name,) = subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
            names = [x509.IPAddress(ip_address(address)), x509.DNSName(str(name.value))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


@dataclass
class Program:
    """A server's process; its output goes to a file. It ends with the thread that started it, even by SIGKILL."""

    command: list[str]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.env},
                start_new_session=True,
            )

    def end(self, number: int = signal.SIGKILL) -> None:
        if self.process:
            self.process.send_signal(number)
            self.process.wait(PATIENCE)
            self.process = None

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Keep it from running, without its end."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self.process.pid}/stat")
        wait_until("a stop", lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def assert_alive(self) -> None:
        assert self.process
        assert self.process.poll() is None, self.log.read_text(errors="replace")


class PrivateVault:
    """A Vault server with data on disk, so that it can be killed and started again.

    Attributes:
        url: its address.
        expired_url: the same server with an expired certificate.
        misnamed_url: the same server with a certificate for another address.
        mutual_url: the same server, which requires a client certificate.
        ca: file of its CA.
        clients: CA of the client certificates.
        root: client with its root token.
        unseal_key: its only unseal key, in base64.
        audit: its audit log, one JSON object per line.
    """

    def __init__(
        self, folder: Path, env: Mapping[str, str] | None = None, storage: Mapping[str, Any] | None = None
    ) -> None:
        self.folder = folder
        authority = Authority(folder, "vault-ca")
        self.ca = str(authority.file)
        certificates = [
            authority.issue("vault"),
            authority.issue("vault-expired", life=timedelta(hours=-1)),
            authority.issue("vault-misnamed", address="192.0.2.1"),
            authority.issue("vault-mutual"),
        ]
        self.clients = Authority(folder, "vault-clients-ca")
        ports = [free_port() for _ in certificates]
        self.port = ports[0]
        self.url, self.expired_url, self.misnamed_url, self.mutual_url = (f"https://127.0.0.1:{port}" for port in ports)
        listeners = [
            {"address": f"127.0.0.1:{port}", "tls_cert_file": str(cert), "tls_key_file": str(key)}
            for port, (cert, key) in zip(ports, certificates, strict=True)
        ]
        cluster = f"127.0.0.1:{free_port()}"
        listeners[0]["cluster_address"] = cluster
        listeners[-1] |= {
            "tls_require_and_verify_client_cert": True,
            "tls_client_ca_file": str(self.clients.file),
        }
        config = {
            "storage": storage or {"file": {"path": str(folder / "data")}},
            "listener": [{"tcp": listener} for listener in listeners],
            "api_addr": self.url,
            "cluster_addr": f"https://{cluster}",
            "disable_mlock": True,
        }
        path = folder / "vault.json"
        path.write_text(json.dumps(config))
        command = [str(provide(["vault"])["vault"]), "server", f"-config={path}"]
        self.program = Program(command, folder / "vault.log", env or {})
        self.audit = folder / "audit.log"
        self._audited = 0
        self._requests = Counter[str]()
        self.root = VaultClient(self.url, ca_cert=self.ca, retries=0)

    def set_up(self) -> None:
        """Start, initialise and unseal the server, and enable its audit log."""
        self.start(unseal=False)
        answer = self.root.request("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1}).json()
        self.unseal_key, self.root.token = answer["keys_base64"][0], answer["root_token"]
        self.unseal()
        self.write("sys/audit/file", type="file", options={"file_path": str(self.audit)})

    def start(self, *, unseal: bool = True) -> None:
        self.program.start()
        wait_until("Vault", self._answers)
        if unseal:
            self.unseal()

    def _answers(self) -> bool:
        self.program.assert_alive()
        try:
            return self.root.request("GET", "sys/seal-status", token="").ok
        except SecretManagerError:
            return False

    def kill(self) -> None:
        self.program.end()

    def seal(self) -> None:
        self.write("sys/seal")

    def unseal(self) -> None:
        assert self.root.request("PUT", "sys/unseal", {"key": self.unseal_key}, token="").ok
        wait_until("an unsealed Vault", lambda: self.root.request("GET", "sys/health", token="").status == 200)

    def write(self, path: str, /, **body: Any) -> dict[str, Any]:
        """Write to a path as root; return the response."""
        answer = self.root.request("POST", path, body)
        assert answer.ok, (path, answer.status, answer.body)
        return answer.json()

    def join(self, leader: PrivateVault) -> None:
        """Start, and unseal with the leader's key, which is accepted once it is joined, to lead or stand by."""
        self.unseal_key, self.root.token = leader.unseal_key, leader.root.token
        self.start(unseal=False)
        body = {"key": self.unseal_key}
        wait_until("a joined Vault", lambda: self.root.request("PUT", "sys/unseal", body, token="").ok)
        wait_until("a node", lambda: self.root.request("GET", "sys/health", token="").status in (200, 429))

    def wrapped(self, path: str, /, **body: Any) -> str:
        """Write to a path as root; return a response-wrapping token for the response."""
        trust = partial(tls_context, self.ca)
        api = JsonApi(self.url, option="url", context=trust(), renewed=trust)
        headers = {"X-Vault-Token": self.root.token or "", "X-Vault-Wrap-TTL": "60"}
        return api.request("POST", f"/v1/{path}", body, headers=headers).json()["wrap_info"]["token"]

    def new_key(self, name: str, **parameters: Any) -> None:
        """Create a Transit key, and those of its digests and of the proofs of its rewraps."""
        self.write(f"transit/keys/{name}", **parameters)
        for helper in ("digest", "rewrap"):
            self.write(f"transit/keys/{name}-{helper}", type="hmac", key_size=32)

    def delete(self, path: str) -> None:
        assert self.root.request("DELETE", path).ok, path

    def policy(self, name: str, rules: Mapping[str, list[str]]) -> None:
        policy = {"path": {path: {"capabilities": capabilities} for path, capabilities in rules.items()}}
        self.write(f"sys/policies/acl/{name}", policy=json.dumps(policy))

    def requests(self, path: str) -> int:
        """Return the number of requests for a path in the audit log, of which only new lines are read."""
        with self.audit.open("rb") as log:
            log.seek(self._audited)
            whole_lines, newline, _ = log.read().rpartition(b"\n")
        self._audited += len(whole_lines + newline)
        entries = [json.loads(line) for line in whole_lines.splitlines()]
        self._requests.update(entry["request"].get("path") for entry in entries if entry["type"] == "response")
        return self._requests[path]


class RaftVaults:
    """Three Vault servers in one Raft cluster, which elect a leader within seconds.

    Attributes:
        nodes: the servers; the first is the leader at the beginning.
        cas: folder of the files of their CAs.
    """

    def __init__(self, folder: Path) -> None:
        self.cas = folder / "cas"
        self.cas.mkdir()
        self.nodes: list[PrivateVault] = []
        for index in range(3):
            home = folder / str(index)
            (home / "data").mkdir(parents=True)
            leader = {"leader_api_addr": self.nodes[0].url, "leader_ca_cert_file": self.nodes[0].ca} if index else None
            raft = {"path": str(home / "data"), "node_id": str(index), "performance_multiplier": 1}
            node = PrivateVault(home, storage={"raft": {**raft, **({"retry_join": [leader]} if leader else {})}})
            (self.cas / f"{index}.crt").symlink_to(node.ca)
            self.nodes.append(node)
        self.url = ",".join(node.url for node in self.nodes)

    def set_up(self) -> None:
        """Start all; initialise the first, and let the others join it, until all have a vote."""
        first, *others = self.nodes
        first.set_up()
        first.write("sys/storage/raft/autopilot/configuration", server_stabilization_time="1s")
        for node in others:
            node.join(first)
        wait_until("three votes", lambda: self._votes() == 3)

    def _votes(self) -> int:
        found = self.nodes[0].root.request("GET", "sys/storage/raft/configuration").json()
        return sum(server["voter"] for server in found["data"]["config"]["servers"])

    def end(self) -> None:
        for node in self.nodes:
            node.program.end()


class RedisServer:
    """A Redis server that requires TLS and a password.

    Args:
        folder: where its files are.
        clients: whether it requires a client certificate, as Redis does by default.

    Attributes:
        client: files of a client certificate that its CA has signed, and of its key.
    """

    password = "a-password-of-redis"

    def __init__(self, folder: Path, *, clients: bool = False) -> None:
        program = shutil.which("redis-server")
        assert program, "redis-server is not on PATH; install it, as by: apt-get install redis-server"
        authority = Authority(folder, "redis-ca")
        cert, key = authority.issue("redis")
        self.client = authority.issue("redis-client")
        self.ca = str(authority.file)
        self.password_file = folder / "redis-password"
        self.password_file.write_text(f"{self.password}\n")
        self.port = free_port()
        config = folder / "redis.conf"
        config.write_text(
            f"port 0\nbind 127.0.0.1\ntls-port {self.port}\ntls-cert-file {cert}\ntls-key-file {key}\n"
            f"tls-ca-cert-file {authority.file}\ntls-auth-clients {'yes' if clients else 'no'}\n"
            f"requirepass {self.password}\n"
            f'save ""\ndir {folder}\n'
        )
        self.url = f"rediss://127.0.0.1:{self.port}"
        self.program = Program([program, str(config)], folder / "redis.log")

    def start(self) -> None:
        self.program.start()
        wait_until("Redis", self._listens)

    def _listens(self) -> bool:
        self.program.assert_alive()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def kill(self) -> None:
        self.program.end()


class Proxy:
    """A proxy before a server that cuts connections, as a network does. It sees encrypted traffic only.

    Args:
        port: the server's port.
        listener: where it listens; a free port of loopback by default.

    Attributes:
        port: its port.
        connections: number of connections so far.
        cut_after_request: number of next requests that are cut after they were forwarded, before the response.
        refuse: whether new connections are closed at once.
    """

    def __init__(self, port: int, listener: socket.socket | None = None) -> None:
        self._target = port
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self.cut_after_request = 0
        self.refuse = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_all(self) -> None:
        """Cut all open connections, also one that is just being accepted."""
        with self._lock:
            for pair in self._pairs:
                _cut(*pair)
            self._pairs.clear()

    def close(self) -> None:
        self._listener.close()
        self.cut_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self.refuse:
                    client.close()
                    continue
                self.connections += 1
                server = socket.create_connection(("127.0.0.1", self._target))
                self._pairs.append((client, server))
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, upward: bool) -> None:
        records = _Records()
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if upward and records.hold_request(data) and self.cut_after_request:
                    self.cut_after_request -= 1
                    source.shutdown(socket.SHUT_RDWR)  # first, or the response might be faster
                    sink.sendall(data)
                    break
                sink.sendall(data)
        _cut(source, sink)


class Decoy:
    """A listener that nothing should reach: it counts connections, and closes them.

    Attributes:
        url: its address.
        connections: number of connections so far.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._listener.accept()[0].close()
                self.connections += 1

    def close(self) -> None:
        self._listener.close()


class _Records:
    """Reassembles the TLS records (RFC 8446 section 5.1) of one direction."""

    def __init__(self) -> None:
        self._rest = b""

    def hold_request(self, data: bytes) -> bool:
        """Return whether a record of application data ends here that is longer than the end of a client's handshake."""
        self._rest += data
        found = False
        while len(self._rest) >= 5 and len(self._rest) >= (end := 5 + int.from_bytes(self._rest[3:5], "big")):
            found |= self._rest[0] == 23 and end > 200
            self._rest = self._rest[end:]
        return found


def _cut(*sockets: socket.socket) -> None:
    for item in sockets:
        with contextlib.suppress(OSError):
            item.shutdown(socket.SHUT_RDWR)
        item.close()


def sealed(
    vault: PrivateVault, place: tuple[str, str], key: str, values: Mapping[str, str], scope: Scope | None
) -> dict[str, Any]:
    """Return a Secret sealed by root: with a scope and a manifest, or with neither (None), as older tools do."""
    namespace, name = place
    places = [Place(namespace, name, data_key) for data_key in values]
    items = [TransitItem(values[spot.key].encode(), spot.context(scope) if scope else None) for spot in places]
    ciphertexts = vault.root.encrypt(key, items)
    data = {spot.key: text.encode() for spot, text in zip(places, ciphertexts, strict=True)}
    if scope:
        digests = dict.fromkeys(values, "vault:v1:AAAA")
        data[MANIFEST_KEY] = Manifest(key, scope, f"{key}-digest", digests).dump()
    return {
        "metadata": {"name": name},
        "data": {data_key: base64.b64encode(value).decode() for data_key, value in data.items()},
    }


@contextlib.contextmanager
def running(server: PrivateVault | RedisServer, start: Callable[[], None]) -> Iterator[Any]:
    try:
        start()
        yield server
    finally:
        server.program.end()
