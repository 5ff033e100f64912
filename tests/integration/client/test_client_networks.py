"""Ways to the servers: client certificates, several addresses, proxies, elections, connections that are dropped."""

from __future__ import annotations

import os
import queue
import socket
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.client import RIGHTS, VALUES, Manager, Put, Read, Refused
from support.cluster import Cluster
from support.intermediary import HttpProxy, Intermediary
from support.network import SERVER, Network, own_network
from support.servers import (
    PATIENCE,
    Authority,
    PrivateVault,
    Program,
    Proxy,
    RaftVaults,
    free_port,
    sealed,
    wait_until,
)

from kubevault_lab.binaries import provide
from secretmanager.errors import ConfigError, TLSError, VaultSealed, VaultUnavailable
from secretmanager.notices import watch as watching

# A Vault Proxy without TLS on this machine


@pytest.fixture
def agent(vault: PrivateVault, tmp_path: Path) -> Iterator[int]:
    """The port of a Vault Proxy, which passes requests on."""
    port = free_port()
    config = tmp_path / "proxy.hcl"
    config.write_text(f'api_proxy {{}}\nlistener "tcp" {{\n  address = "127.0.0.1:{port}"\n  tls_disable = true\n}}\n')
    command = [str(provide(["vault"])["vault"]), "proxy", f"-config={config}"]
    # Its configuration would not count before the variables, which are the lab's.
    program = Program(command, tmp_path / "proxy.log", {"VAULT_ADDR": vault.url, "VAULT_CACERT": vault.ca})
    program.start()

    def listens() -> bool:
        program.assert_alive()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    try:
        wait_until("the Vault Proxy", listens)
        yield port
    finally:
        program.end()


def test_a_vault_proxy_without_tls_on_loopback(
    manager: Manager, read: Read, agent: int, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with a proxy of the environment, by which no address of loopback is reached; and only if it is wanted."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    for host in ("127.0.0.1", "localhost"):
        given = {"vault_url": f"http://{host}:{agent}", "vault_proxy": "environment"}
        assert read(manager(**given, vault_loopback_http=True)) == VALUES
        with refused(ConfigError, "allowed is an address such as https://HOST:PORT, and with vault_loopback_http"):
            read(manager(**given))


# Client certificates of Vault


@pytest.fixture(scope="module")
def certificate(vault: PrivateVault) -> dict[str, str]:
    cert, key = vault.clients.issue("service")
    return {"vault_client_cert": str(cert), "vault_client_key": str(key)}


def test_a_vault_that_requires_a_client_certificate(
    manager: Manager, read: Read, vault: PrivateVault, certificate: dict[str, str]
) -> None:
    assert read(manager(vault_url=vault.mutual_url, **certificate)) == VALUES


def test_client_certificate_and_ca_from_the_environment(
    manager: Manager,
    read: Read,
    vault: PrivateVault,
    certificate: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "a.crt").write_bytes(Authority(tmp_path, "another").file.read_bytes())
    (tmp_path / "b.crt").write_bytes(Path(vault.ca).read_bytes())
    monkeypatch.setenv("VAULT_CLIENT_CERT", certificate["vault_client_cert"])
    monkeypatch.setenv("VAULT_CLIENT_KEY", certificate["vault_client_key"])
    monkeypatch.delenv("VAULT_CACERT")
    monkeypatch.setenv("VAULT_CAPATH", str(tmp_path))
    assert read(manager(vault_url=vault.mutual_url, ca_cert=...)) == VALUES


def test_no_client_certificate_and_wrong_ones(
    manager: Manager, read: Read, refused: Refused, vault: PrivateVault, tmp_path: Path
) -> None:
    expired = vault.clients.issue("expired", life=timedelta(hours=-1))
    strange = Authority(tmp_path, "strange-ca").issue("strange")
    for pair in ((None, None), expired, strange):
        given = {"vault_client_cert": pair[0] and str(pair[0]), "vault_client_key": pair[1] and str(pair[1])}
        with refused(TLSError, "name a client certificate", reason="client certificate", place=vault.mutual_url):
            read(manager(vault_url=vault.mutual_url, **given))


@pytest.mark.parametrize("missing", ["vault_client_cert", "vault_client_key"])
def test_half_of_a_client_certificate(
    manager: Manager, read: Read, refused: Refused, certificate: dict[str, str], missing: str
) -> None:
    with refused(ConfigError, f"vault_client_.* is given and {missing} is not; give both, or neither"):
        read(manager(**{**certificate, missing: None}))


def test_the_name_in_the_certificate(
    manager: Manager, read: Read, refused: Refused, vault: PrivateVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read(manager(vault_url=vault.misnamed_url, vault_tls_server_name="192.0.2.1")) == VALUES
    with refused(TLSError, reason="wrong host name"):
        read(manager(vault_tls_server_name="192.0.2.1"))
    monkeypatch.setenv("VAULT_TLS_SERVER_NAME", "192.0.2.1")
    assert read(manager(vault_url=vault.misnamed_url)) == VALUES


def test_a_folder_of_cas(manager: Manager, read: Read, refused: Refused, vault: PrivateVault, tmp_path: Path) -> None:
    folder = tmp_path / "cas"
    folder.mkdir()
    with refused(ConfigError, f"ca_cert: {folder} cannot be used: it contains no PEM certificate"):
        read(manager(ca_cert=True, ca_path=str(folder)))
    (folder / "vault.crt").write_bytes(Path(vault.ca).read_bytes())
    assert read(manager(ca_cert=True, ca_path=str(folder))) == VALUES
    (folder / "x.crt").write_text("none")
    with refused(ConfigError, f"ca_cert: {folder}/x.crt cannot be used"):
        read(manager(ca_cert=True, ca_path=str(folder)))


# Several addresses


def test_addresses_are_tried_in_turn(manager: Manager, read: Read, refused: Refused, vault: PrivateVault) -> None:
    dead = f"https://127.0.0.1:{free_port()}"
    one = manager(vault_url=f"{dead}, {vault.url}", retries=0)
    assert read(one) == VALUES
    assert one.connect_to_vault().url == vault.url
    with refused(VaultUnavailable, "no response from Vault", place=dead):
        read(manager(vault_url=f"{dead},{dead}", retries=0))
    # An address that is not trusted is no reason to ask another.
    with refused(TLSError, place=vault.expired_url):
        read(manager(vault_url=f"{vault.expired_url},{vault.url}"))


def test_a_sealed_node_is_passed_over(
    manager: Manager, read: Read, refused: Refused, vault: PrivateVault, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sealed_vault = PrivateVault(tmp_path_factory.mktemp("sealed-vault"))
    cas = tmp_path_factory.mktemp("cas")
    for name, one in (("a", vault), ("b", sealed_vault)):
        (cas / name).symlink_to(one.ca)
    given = {"ca_cert": True, "ca_path": str(cas), "retries": 0}
    sealed_vault.start(unseal=False)
    try:
        assert read(manager(vault_url=f"{sealed_vault.url},{vault.url}", **given)) == VALUES
        with refused(VaultSealed):
            read(manager(vault_url=sealed_vault.url, **given))
    finally:
        sealed_vault.program.end()


# Proxies


@pytest.fixture
def proxy() -> Iterator[HttpProxy]:
    proxy = HttpProxy("me:PLAIN-secret")
    yield proxy
    proxy.close()


def test_proxies_that_options_name(
    manager: Manager, read: Read, vault: PrivateVault, cluster: Cluster, proxy: HttpProxy
) -> None:
    through = f"http://me:PLAIN-secret@{proxy.address}"
    assert read(manager(vault_proxy=through)) == VALUES
    assert proxy.targets == [vault.url.removeprefix("https://")]
    assert read(manager(kube_proxy=through)) == VALUES
    assert proxy.targets[1:] == [cluster.api.api_client.configuration.host.removeprefix("https://")]


def test_a_proxy_of_the_kubeconfig(
    manager: Manager, read: Read, cluster: Cluster, proxy: HttpProxy, tmp_path: Path
) -> None:
    content = yaml.safe_load(Path(cluster.kubeconfig).read_text())
    for entry in content["clusters"]:
        entry["cluster"]["proxy-url"] = f"http://me:PLAIN-secret@{proxy.address}"
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    assert read(manager(kube_config=str(path))) == VALUES
    assert len(proxy.targets) == 1


def test_proxies_of_the_environment_count_only_if_an_option_says_so(
    manager: Manager, read: Read, vault: PrivateVault, proxy: HttpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://me:PLAIN-secret@{proxy.address}")
    assert read(manager()) == VALUES
    assert proxy.targets == []
    assert read(manager(vault_proxy="environment")) == VALUES
    assert proxy.targets == [vault.url.removeprefix("https://")]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert read(manager(vault_proxy="environment")) == VALUES
    assert len(proxy.targets) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("https://me:PLAIN-x@proxy:1", "vault_proxy: found one with the scheme 'https'; allowed is http://"),
        ("socks5://me:PLAIN-x@proxy:1", "vault_proxy: found one with the scheme 'socks5'"),
        ("http://me:PLAIN-x@proxy", "vault_proxy: found another form; allowed is http://HOST:PORT"),
        ("me:PLAIN-x@proxy:1", "vault_proxy: found"),
        ("http://[PLAIN-x", "vault_proxy: found no URL"),
    ],
)
def test_what_is_no_proxy(manager: Manager, read: Read, refused: Refused, given: str, said: str) -> None:
    with refused(ConfigError, said):
        read(manager(vault_proxy=given))


def test_a_proxy_that_refuses_or_is_gone(manager: Manager, read: Read, refused: Refused, proxy: HttpProxy) -> None:
    with refused(VaultUnavailable, f"proxy {proxy.address}: .*407 Proxy Authentication Required"):
        read(manager(vault_proxy=f"http://me:PLAIN-wrong@{proxy.address}", retries=0))
    gone = f"127.0.0.1:{free_port()}"
    with refused(VaultUnavailable, f"proxy {gone}: Connection refused"):
        read(manager(vault_proxy=f"http://{gone}", retries=0))


# Elections


@pytest.fixture(scope="module")
def raft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RaftVaults]:
    """Three nodes with key "plain"."""
    raft = RaftVaults(tmp_path_factory.mktemp("raft"))
    try:
        raft.set_up()
        raft.nodes[0].write("sys/mounts/transit", type="transit")
        raft.nodes[0].write("transit/keys/plain")
        yield raft
    finally:
        raft.end()


def test_elections_and_times_without_a_leader(
    manager: Manager,
    raft: RaftVaults,
    put: Put,
    cluster: Cluster,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "PAUSE", 0.1)
    first, second, third = raft.nodes
    name = "read-by-raft"
    place = cluster.namespace, name
    cluster.put(name, sealed(first, place, "plain", VALUES, None))
    request = name, cluster.namespace, "SECRET", None, "plain"
    given: dict[str, Any] = {
        "auth": "token",
        "vault_token": first.root.token,
        "ca_cert": True,
        "ca_path": str(raft.cas),
    }
    one = manager(vault_url=raft.url, **given)
    cached = manager(
        vault_url=raft.url, **given, election_timeout=3600, cache_plaintext_ttl=0.001, cache_stale_if_error=3600
    )
    assert one.read_secrets(*request) == VALUES
    assert cached.read_secrets(*request) == VALUES

    first.kill()  # the others elect one of them
    assert one.read_secrets(*request) == VALUES

    changed: queue.Queue[Any] = queue.Queue()
    one.watch(*request, on_change=changed.put)
    leader, other = (second, third) if is_leader(second) else (third, second)
    cluster.put(name, sealed(leader, place, "plain", {"a": "PLAIN-b"}, None))
    assert changed.get(timeout=PATIENCE) == {"a": "PLAIN-b"}
    ciphertext = sealed(leader, place, "plain", {"a": "PLAIN-c"}, None)

    leader.kill()  # the other has no majority
    impatient = manager(vault_url=other.url, **given, election_timeout=0.5)

    def misses_a_leader() -> bool:
        with pytest.raises(VaultUnavailable) as caught:
            impatient.read_secrets(*request)
        return "wait until Vault has a leader" in str(caught.value)

    # Before, it takes the one that was killed for the leader.
    wait_until("a node that knows that it is alone", misses_a_leader)
    with refused(VaultUnavailable, "wait until Vault has a leader", place=other.url):
        impatient.read_secrets(*request)
    assert cached.read_secrets(*request) == VALUES  # at once, instead of waiting an hour
    cluster.put(name, ciphertext)
    with pytest.raises(queue.Empty):
        changed.get(timeout=1)
    leader.join(leader)
    assert changed.get(timeout=PATIENCE) == {"a": "PLAIN-c"}
    assert one.read_secrets(*request) == {"a": "PLAIN-c"}


def is_leader(node: PrivateVault) -> bool:
    return node.root.request("GET", "sys/leader").json()["is_self"]


# Connections that are dropped without a word


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes network namespaces")
    with own_network() as network:
        yield network


@pytest.fixture
def far(network: Network, vault: PrivateVault, cluster: Cluster, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Options of a manager to which both servers are at the other end of the network."""
    authority = Authority(tmp_path, "far-ca")
    configuration = cluster.api.api_client.configuration
    ports = []
    with ExitStack() as stack:
        for url, ca, name in ((vault.url, vault.ca, "vault"), (configuration.host, configuration.ssl_ca_cert, "api")):
            relay = Intermediary(url, ca, authority.issue(f"far-{name}", address=SERVER))
            stack.callback(relay.close)
            listener = network.listener()
            ports.append(listener.getsockname()[1])
            stack.callback(Proxy(relay.port, listener).close)
        token = cluster.account(f"user-{uuid.uuid4().hex[:8]}", RIGHTS)
        yield {
            "vault_url": f"https://{SERVER}:{ports[0]}",
            "ca_cert": str(authority.file),
            "kube_config": cluster.kubeconfig_of(token, tmp_path, f"https://{SERVER}:{ports[1]}", str(authority.file)),
            "timeout": 9,  # seconds; what is sent has to be acknowledged within a third of it
            "retries": 0,
        }


def test_a_read_over_connections_that_were_dropped(
    manager: Manager, read: Read, network: Network, far: dict[str, Any]
) -> None:
    one = manager(**far)
    assert network.as_client(lambda: read(one)) == VALUES
    assert network.drop() == 2
    assert network.as_client(lambda: read(one)) == VALUES


def test_a_watch_notices_within_a_minute(
    manager: Manager,
    put: Put,
    cluster: Cluster,
    network: Network,
    far: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "PAUSE", 0.1)
    name = put({"a": "PLAIN-1"})
    changed: queue.Queue[Any] = queue.Queue()
    one = manager(**far)
    network.as_client(lambda: one.watch(name, cluster.namespace, "SECRET", None, "plain", on_change=changed.put))
    put({"a": "PLAIN-2"}, name=name)
    assert changed.get(timeout=PATIENCE) == {"a": "PLAIN-2"}
    assert network.drop()
    put({"a": "PLAIN-3"}, name=name)
    assert changed.get(timeout=60) == {"a": "PLAIN-3"}
