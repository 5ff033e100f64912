"""Live updates: by Redis, by a watch of Kubernetes, and switching between them without a missed change."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.client import Manager, Put, Refused
from support.cluster import Cluster
from support.servers import PATIENCE, Authority, PrivateVault, RedisServer, running, sealed, wait_until

from secretmanager.errors import (
    ConfigError,
    DecryptionFailed,
    Forbidden,
    NoticeError,
    SecretFormatError,
    SecretNotFound,
    TLSError,
)
from secretmanager.notices import watch as watching
from secretmanager.notices.redis import Notice, Notices, publish
from secretmanager.notices.watch import Watch
from secretmanager.sealed import Place, sealed_values, with_ciphertexts
from secretmanager.servers.vault import TransitItem


def by_redis(server: RedisServer, **changes: Any) -> dict[str, Any]:
    given = {
        "redis_url": server.url,
        "redis_password_file": str(server.password_file),
        "redis_ca_cert": server.ca,
    }
    return {**given, **changes}


def rewrap(vault: PrivateVault, cluster: Cluster, name: str) -> str:
    """Rotate the Secret's key and have all its values encrypted again; return the Secret's new version."""
    kubernetes = cluster.kubernetes()
    secret = kubernetes.get_secret(cluster.namespace, name)
    texts: dict[str, str] = {}
    for key, value in sealed_values(secret).items():
        transit_key, context = value.transit_key or "plain", Place(cluster.namespace, name, key)
        vault.write(f"transit/keys/{transit_key}/rotate")
        item = TransitItem(value.ciphertext.encode(), context.context(value.scope) if value.scope else None)
        (texts[key],) = vault.root.rewrap(transit_key, [item])
        assert texts[key] != value.ciphertext
    changed = kubernetes.update_secret(cluster.namespace, with_ciphertexts(secret, texts))
    return str(changed["metadata"]["resourceVersion"])


def wait_until_seen(watch: Watch, version: str) -> None:
    """Wait until a watch has looked at a version of its Secret."""
    wait_until("a look", lambda: watch._seen is not None and watch._seen["metadata"]["resourceVersion"] == version)


@contextmanager
def changes(watch: Watch) -> Iterator[queue.Queue[Any]]:
    """Iterate over a watch in a thread; return a queue of its items."""
    found: queue.Queue[Any] = queue.Queue()

    def run() -> None:
        for secrets in watch:
            found.put(secrets)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        watch.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert found.empty()


def tell(server: RedisServer, cluster: Cluster, name: str) -> int:
    notice = Notice(cluster.namespace, name, "1", {"plain": 1})
    return publish(notice, server.url, password_file=str(server.password_file), ca_cert=server.ca)


def test_a_watch_of_kubernetes_gives_each_change(manager: Manager, put: Put, cluster: Cluster) -> None:
    name = put({"a": "PLAIN-1"})
    with changes(manager().watch(name, cluster.namespace, transit_key="plain")) as found:
        put({"a": "PLAIN-2"}, name=name)
        assert found.get(timeout=PATIENCE) == {"a": "PLAIN-2"}
        put({"a": "PLAIN-3"}, name=name)
        assert found.get(timeout=PATIENCE) == {"a": "PLAIN-3"}


def test_a_change_of_labels_is_none(manager: Manager, put: Put, cluster: Cluster) -> None:
    name = put({"a": "PLAIN-1"})
    with changes(manager().watch(name, cluster.namespace, transit_key="plain")) as found:
        cluster.api.patch_namespaced_secret(name, cluster.namespace, {"metadata": {"labels": {"x": "y"}}})
        put({"a": "PLAIN-2"}, name=name)
        assert found.get(timeout=PATIENCE) == {"a": "PLAIN-2"}


def test_the_secret_as_it_is_may_come_first(manager: Manager, put: Put, cluster: Cluster) -> None:
    name = put({"a": '{"v": "PLAIN-1"}'})
    watch = manager().watch(name, cluster.namespace, "SECRET", "a", "plain", initial=True)
    with changes(watch) as found:
        assert found.get(timeout=PATIENCE) == {"v": "PLAIN-1"}
        put({"a": '{"v": "PLAIN-2"}'}, name=name)
        assert found.get(timeout=PATIENCE) == {"v": "PLAIN-2"}


def test_a_secret_that_goes_and_comes_again(manager: Manager, put: Put, cluster: Cluster) -> None:
    name = put({"a": "PLAIN-1"})
    with changes(manager().watch(name, cluster.namespace, transit_key="plain")) as found:
        cluster.api.delete_namespaced_secret(name, cluster.namespace)
        put({"a": "PLAIN-2"}, name=name)
        assert found.get(timeout=PATIENCE) == {"a": "PLAIN-2"}


def test_a_rewrap_wakes_nobody(manager: Manager, seal: Put, cluster: Cluster, vault: PrivateVault) -> None:
    name = seal({"a": "PLAIN-1", "b": "PLAIN-2"})
    watch = manager().watch(name, cluster.namespace)
    with changes(watch) as found:
        wait_until_seen(watch, rewrap(vault, cluster, name))
        assert found.empty()
        seal({"b": "PLAIN-3"}, name=name)
        assert found.get(timeout=PATIENCE) == {"a": "PLAIN-1", "b": "PLAIN-3"}


def test_what_wakes_besides_new_values(manager: Manager, seal: Put, cluster: Cluster, vault: PrivateVault) -> None:
    """A data key that goes, and a ciphertext that another tool puts there and leaves the manifest."""
    name = seal({"a": "PLAIN-1", "b": "PLAIN-2"}, key="plain")
    with changes(manager().watch(name, cluster.namespace)) as found:
        cluster.api.patch_namespaced_secret(name, cluster.namespace, {"data": {"b": None}})
        assert found.get(timeout=PATIENCE) == {"a": "PLAIN-1"}
        (text,) = vault.root.encrypt("plain", [TransitItem(b"PLAIN-3")])
        cluster.api.patch_namespaced_secret(name, cluster.namespace, {"stringData": {"a": text}})
        assert found.get(timeout=PATIENCE) == {"a": "PLAIN-3"}


def test_what_could_not_be_read_is_read_once_it_is_sealed_anew(
    manager: Manager, seal: Put, cluster: Cluster, vault: PrivateVault, brief_pause: None
) -> None:
    """The digest is the same then."""
    vault.new_key("lost")
    name = seal({"a": "PLAIN-1"}, key="lost")
    vault.write("transit/keys/lost/rotate")
    vault.write("transit/keys/lost/config", min_decryption_version=2)
    found: queue.Queue[Any] = queue.Queue()
    options = {"initial": True, "on_change": found.put, "on_error": found.put}
    with manager().watch(name, cluster.namespace, **options):
        assert isinstance(found.get(timeout=PATIENCE), DecryptionFailed)
        seal({"a": "PLAIN-1"}, key="lost", name=name)
        assert found.get(timeout=PATIENCE) == {"a": "PLAIN-1"}


def test_a_rewrap_without_a_manifest_is_a_change(
    manager: Manager, put: Put, cluster: Cluster, vault: PrivateVault
) -> None:
    name = put({"a": "PLAIN-1"})
    with changes(manager().watch(name, cluster.namespace, transit_key="plain")) as found:
        rewrap(vault, cluster, name)
        assert found.get(timeout=PATIENCE) == {"a": "PLAIN-1"}


@pytest.fixture
def brief_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "PAUSE", 0.1)


@pytest.fixture
def pause_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shortest that the API takes for the length of a watch, which stands in for Redis."""
    monkeypatch.setattr(watching, "PAUSE", 1.0)


def test_callbacks(manager: Manager, put: Put, cluster: Cluster, brief_pause: None) -> None:
    name = put({"a": '{"v": "PLAIN-1"}'})
    found: queue.Queue[Any] = queue.Queue()
    watch = manager().watch(name, cluster.namespace, "SECRET", "a", "plain", on_change=found.put, on_error=found.put)
    put({"a": "PLAIN-bad"}, name=name)
    assert isinstance(found.get(timeout=PATIENCE), SecretFormatError)
    put({"a": '{"v": "PLAIN-2"}'}, name=name)
    assert found.get(timeout=PATIENCE) == {"v": "PLAIN-2"}
    watch.close()


def test_the_caches_follow(manager: Manager, put: Put, cluster: Cluster) -> None:
    name, one = put({"a": "PLAIN-1"}), manager(cache_plaintext_ttl=600, cache_ciphertext_ttl=600)
    assert one.read_secrets(name, cluster.namespace, transit_key="plain") == {"a": "PLAIN-1"}
    with changes(one.watch(name, cluster.namespace, transit_key="plain")) as found:
        put({"a": "PLAIN-2"}, name=name)
        found.get(timeout=PATIENCE)
        assert one.read_secrets(name, cluster.namespace, transit_key="plain") == {"a": "PLAIN-2"}


def test_a_watch_ends_with_its_manager(manager: Manager, put: Put, cluster: Cluster) -> None:
    one = manager()
    with changes(one.watch(put({"a": "PLAIN-1"}), cluster.namespace, transit_key="plain")):
        one.close()


def test_what_cannot_be_watched(manager: Manager, put: Put, cluster: Cluster, refused: Refused, tmp_path: Path) -> None:
    with refused(SecretNotFound):
        manager().watch("nosuch", cluster.namespace)
    with refused(ConfigError, "SOURCE: found FILE; watched are KUBEVAULT and KUBERNETES"):
        manager(SOURCE="FILE").watch("x", "y")
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]
    kubeconfig = cluster.kubeconfig_of(cluster.account("watchless", rules), tmp_path)
    watch = manager(kube_config=kubeconfig).watch(put({"a": "PLAIN-1"}), cluster.namespace)
    with refused(Forbidden, "cannot watch resource"):
        next(watch)


def test_a_vault_that_is_down_when_the_change_comes(
    manager: Manager,
    put: Put,
    cluster: Cluster,
    vault: PrivateVault,
    brief_pause: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = put({"a": "PLAIN-1"})
    other = sealed(vault, (cluster.namespace, name), "plain", {"a": "PLAIN-2"}, None)
    with changes(manager(retries=0).watch(name, cluster.namespace, transit_key="plain")) as found:
        vault.seal()
        try:
            cluster.put(name, other)
            wait_until("another attempt", lambda: "will look again" in caplog.text)
        finally:
            vault.unseal()
        assert found.get(timeout=PATIENCE) == {"a": "PLAIN-2"}


def test_notices_by_redis(manager: Manager, put: Put, cluster: Cluster, redis_server: RedisServer) -> None:
    name = put({"a": "PLAIN-1"})
    one = manager(**by_redis(redis_server))
    with changes(one.watch(name, cluster.namespace, transit_key="plain")) as found:
        put({"a": "PLAIN-2"}, name=name)
        assert tell(redis_server, cluster, name) == 1
        assert found.get(timeout=PATIENCE) == {"a": "PLAIN-2"}
        assert tell(redis_server, cluster, name) == 1  # nothing changed
        assert tell(redis_server, cluster, "another") == 0
        put({"a": "PLAIN-3"}, name=name)
        assert tell(redis_server, cluster, name) == 1
        assert found.get(timeout=PATIENCE) == {"a": "PLAIN-3"}


def test_a_rewrap_wakes_nobody_by_redis(
    manager: Manager, seal: Put, cluster: Cluster, vault: PrivateVault, redis_server: RedisServer
) -> None:
    name = seal({"a": "PLAIN-1"})
    watch = manager(**by_redis(redis_server)).watch(name, cluster.namespace)
    with changes(watch) as found:
        version = rewrap(vault, cluster, name)
        assert tell(redis_server, cluster, name) == 1
        wait_until_seen(watch, version)
        assert found.empty()
        seal({"a": "PLAIN-2"}, name=name)
        assert tell(redis_server, cluster, name) == 1
        assert found.get(timeout=PATIENCE) == {"a": "PLAIN-2"}


def test_what_happens_while_redis_is_away_is_found(
    manager: Manager, put: Put, cluster: Cluster, redis_server: RedisServer, pause_of_a_second: None
) -> None:
    name = put({"a": "PLAIN-1"})
    with changes(manager(**by_redis(redis_server)).watch(name, cluster.namespace, transit_key="plain")) as found:
        redis_server.kill()
        put({"a": "PLAIN-2"}, name=name)
        assert found.get(timeout=PATIENCE) == {"a": "PLAIN-2"}  # noticed through Kubernetes
        redis_server.start()
        wait_until("the watch at Redis", lambda: tell(redis_server, cluster, name) == 1)
        put({"a": "PLAIN-3"}, name=name)
        tell(redis_server, cluster, name)
        assert found.get(timeout=PATIENCE) == {"a": "PLAIN-3"}


def test_a_reconnection_alone_is_a_sign_to_look(
    manager: Manager,
    put: Put,
    cluster: Cluster,
    redis_server: RedisServer,
    pause_of_a_second: None,
    tmp_path: Path,
) -> None:
    """A change during an outage is found even without permission to watch and without a notice."""
    name = put({"a": "PLAIN-1"})
    rules = [{"apiGroups": [""], "resources": ["secrets", "serviceaccounts/token"], "verbs": ["get", "create"]}]
    kubeconfig = cluster.kubeconfig_of(cluster.account("outage", rules), tmp_path)
    one = manager(kube_config=kubeconfig, **by_redis(redis_server))
    with changes(one.watch(name, cluster.namespace, transit_key="plain")) as found:
        redis_server.kill()
        redis_server.start()
        put({"a": "PLAIN-2"}, name=name)
        assert found.get(timeout=PATIENCE) == {"a": "PLAIN-2"}


def test_redis_that_is_away_at_the_beginning(
    manager: Manager, put: Put, cluster: Cluster, redis_server: RedisServer
) -> None:
    redis_server.kill()
    name = put({"a": "PLAIN-1"})
    with changes(manager(**by_redis(redis_server)).watch(name, cluster.namespace, transit_key="plain")) as found:
        put({"a": "PLAIN-2"}, name=name)
        assert found.get(timeout=PATIENCE) == {"a": "PLAIN-2"}


def test_redis_that_requires_a_client_certificate(
    manager: Manager, put: Put, cluster: Cluster, refused: Refused, tmp_path: Path
) -> None:
    """As by default with TLS. Without one, or with another CA's, the error says so."""
    server = RedisServer(tmp_path, clients=True)
    foreign = Authority(tmp_path, "other").issue("other-client")
    name = put({"a": "PLAIN-1"})
    with running(server, server.start):
        for files in ((None, None), foreign):
            cert, key = (str(file) if file else None for file in files)
            with refused(TLSError, "redis_client_cert and redis_client_key", reason="client certificate"):
                manager(**by_redis(server, redis_client_cert=cert, redis_client_key=key)).watch(name, cluster.namespace)
            with refused(TLSError, "redis_client_cert and redis_client_key", reason="client certificate"):
                tell_with(server, client_cert=cert, client_key=key)
        cert, key = map(str, server.client)
        with refused(ConfigError, "redis_client_cert is given and redis_client_key is not"):
            tell_with(server, client_cert=cert)
        one = manager(**by_redis(server, redis_client_cert=cert, redis_client_key=key))
        with changes(one.watch(name, cluster.namespace, transit_key="plain")) as found:
            put({"a": "PLAIN-2"}, name=name)
            notice = Notice(cluster.namespace, name)
            given = {"password_file": str(server.password_file), "ca_cert": server.ca}
            assert publish(notice, server.url, **given, client_cert=cert, client_key=key) == 1
            assert found.get(timeout=PATIENCE) == {"a": "PLAIN-2"}


def test_redis_that_refuses(
    manager: Manager, put: Put, cluster: Cluster, redis_server: RedisServer, refused: Refused, tmp_path: Path
) -> None:
    name = put({"a": "PLAIN-1"})
    wrong = tmp_path / "wrong"
    wrong.write_text("PLAIN-wrong")
    with refused(NoticeError, "check user, password", reason="denied", place=redis_server.url):
        manager(**by_redis(redis_server, redis_password_file=str(wrong))).watch(name, cluster.namespace)
    other = Authority(tmp_path, "other")
    with refused(TLSError, reason="unknown authority", place=redis_server.url):
        manager(**by_redis(redis_server, redis_ca_cert=str(other.file))).watch(name, cluster.namespace)
    with refused(TLSError, reason="unknown authority", place=redis_server.url):
        tell_with(redis_server, ca_cert=str(other.file))
    redis_server.kill()
    with refused(NoticeError, "check the address", reason="unreachable", place=redis_server.url):
        tell(redis_server, cluster, name)


def tell_with(server: RedisServer, **changes: Any) -> int:
    given = {"password_file": str(server.password_file), "ca_cert": server.ca}
    return publish(Notice("x", "y"), server.url, **{**given, **changes})


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:PLAIN-x@127.0.0.1:1", "with scheme 'redis'"),
        ("rediss://:PLAIN-x@127.0.0.1:1?ssl_cert_reqs=none", "without options"),
        ("rediss://:PLAIN-x@127.0.0.1:1/PLAIN", "the number of a database"),
        ("rediss://user:PLAIN-x/y@127.0.0.1:1", "is not a URL"),
        ("rediss://127.0.0.1:1", "redis_password_file: is missing"),
        ("rediss://:PLAIN-x@127.0.0.1:port", "is not a URL"),
    ],
)
def test_redis_without_tls_or_password(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        Notices(url)
    assert "PLAIN-x" not in str(caught.value)


def test_a_notice_holds_place_and_versions_and_nothing_else(redis_server: RedisServer) -> None:
    notice = Notice("ns", "name", "42", {"key": 3})
    assert Notice.load(notice.dump()) == notice
    assert Notice.load("no notice") is None
    with Notices(redis_server.url, password_file=str(redis_server.password_file), ca_cert=redis_server.ca) as notices:
        subscription = notices.listen("ns", "name")
        assert subscription.wait(PATIENCE)  # the first wait ends when the subscription is confirmed
        assert notices.publish(notice) == 1
        assert subscription.wait(PATIENCE)
        subscription.close()
