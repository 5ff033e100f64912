"""Many Secrets at once, concurrent sealers, and the state after one is interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.sealing import Chain
from support.servers import Proxy

from secretmanager.errors import (
    ConflictError,
    Forbidden,
    SealedDataError,
    SealingFailed,
    SecretManagerError,
    SecretNotFound,
)
from secretmanager.sealed import MANIFEST_KEY
from secretmanager.sealing.plan import Action
from secretmanager.sealing.sealer import WRITE_ATTEMPTS, Sealer
from secretmanager.sealing.spec import SecretSpec, State
from secretmanager.sealing.stores import KubernetesStore
from secretmanager.servers.http import JsonApi, Response
from secretmanager.servers.kubernetes import KubernetesClient


class Requests:
    """Counts the requests to both servers, and forwards them."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()
        self.read: list[str] = []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def note(self, method: str, path: str) -> None:
        with self._lock:
            kind = path.split("/")[3] if path.startswith("/v1/") else f"{method} kubernetes"
            self.made[kind] += 1
            self.read += [path] if kind == "GET kubernetes" else []
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)

    def done(self) -> None:
        with self._lock:
            self.at_once -= 1

    def take(self) -> dict[str, int]:
        made, self.made, self.read = dict(self.made), Counter(), []
        return made


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Requests:
    counted = Requests()
    original = JsonApi.request

    def request(self: JsonApi, method: str, path: str, *args: Any, **options: Any) -> Response:
        counted.note(method, path)
        try:
            return original(self, method, path, *args, **options)
        finally:
            counted.done()

    monkeypatch.setattr(JsonApi, "request", request)
    return counted


def batch(chain: Chain, name: str, secrets: int, values: int, content: str = "") -> list[SecretSpec]:
    return [
        chain.wanted(f"{name}-{n}", {f"key-{key}": f"{content}{n}-{key}".encode() for key in range(values)})
        for n in range(secrets)
    ]


def test_a_writer_in_between_the_first_try_costs_no_other_secret(chain: Chain, name: str) -> None:
    """Of several Secrets one is tried first; if somebody has just changed it, all are written in the next attempt."""

    class Meddled(KubernetesStore):
        meddles = True

        def find(self, wanted: Sequence[SecretSpec]) -> dict[str, Any]:
            secrets = super().find(wanted)
            if self.meddles:
                self.meddles = False
                patch = {"metadata": {"labels": {"meddled": "yes"}}}
                chain.api.patch_namespaced_secret(wanted[0].name, chain.namespace, patch)
            return secrets

    names = [f"{name}-{number}" for number in range(3)]
    chain.seal(*(chain.wanted(each, {"a": b"1"}) for each in names))
    sealer = Sealer(chain.client(chain.token), Meddled(chain.kubernetes()))
    outcomes = sealer.seal([chain.wanted(each, {"a": b"2"}) for each in names])
    assert [outcome.updated for outcome in outcomes] == [("a",)] * 3
    assert [chain.opened(each) for each in names] == [{"a": b"2"}] * 3


def test_a_batch_takes_few_requests_and_a_rerun_writes_nothing(chain: Chain, name: str, requests: Requests) -> None:
    wanted = batch(chain, name, 40, 2)
    outcomes = chain.seal(*wanted)
    assert {outcome.action for outcome in outcomes} == {Action.CREATED}
    # One encryption asks whether the key is derived; there are digests and proofs, a list each of what is sealed and of
    # names, and one dry run.
    assert requests.take() == {"encrypt": 2, "hmac": 2, "GET kubernetes": 2, "POST kubernetes": 41}
    assert requests.most_at_once <= 8
    assert {outcome.action for outcome in chain.seal(*wanted)} == {Action.UNCHANGED}
    assert requests.take() == {"hmac": 2, "encrypt": 1, "GET kubernetes": 1}
    assert chain.opened(f"{name}-39") == {"key-0": b"39-0", "key-1": b"39-1"}


def test_the_number_of_requests_does_not_grow_with_the_values(chain: Chain, name: str, requests: Requests) -> None:
    counts = []
    for values in (1, 30):
        wanted = batch(chain, f"{name}-{values}", 20, values)
        chain.seal(*wanted)
        first = requests.take()
        chain.seal(*wanted)
        counts.append((first, requests.take()))
    assert counts[0] == counts[1]


def test_batches_are_split_by_number_and_size(chain: Chain, name: str, requests: Requests) -> None:
    many = [chain.wanted(f"{name}-{n}", {f"key-{key}": b"%d" % key for key in range(700)}) for n in range(3)]
    chain.seal(*many)
    made = requests.take()
    assert (made["hmac"], made["encrypt"]) == (3 + 3, 3 + 1)  # 2,100 values; one more asks whether the key is derived
    large = [chain.wanted(f"{name}-large-{n}", {"a": b"%d" % n * 700_000}) for n in range(10)]
    chain.seal(*large)
    made = requests.take()
    assert (made["hmac"], made["encrypt"]) == (1 + 1, 2 + 1)  # 9.3 MB in base64; digests are of hashes
    assert chain.opened(f"{name}-large-9") == {"a": b"9" * 700_000}
    assert chain.seal(*many, *large)[0].action is Action.UNCHANGED


def test_an_edit_of_a_batch_writes_what_changed_alone(chain: Chain, name: str, requests: Requests) -> None:
    wanted = batch(chain, name, 20, 2)
    chain.seal(*wanted)
    requests.take()
    edited = [*wanted[:7], chain.wanted(f"{name}-7", {"key-0": b"new", "key-1": b"7-1"}), *wanted[8:]]
    edited[3] = chain.wanted(f"{name}-3", transit_key=None, state=State.ABSENT)
    outcomes = chain.seal(*edited)
    changed = {outcome.name: (outcome.action, outcome.updated) for outcome in outcomes if outcome.changed}
    assert changed == {
        f"{name}-3": (Action.DELETED, ()),
        f"{name}-7": (Action.UPDATED, ("key-0",)),
    }
    made = requests.take()
    assert (made["PUT kubernetes"], made["DELETE kubernetes"], made.get("POST kubernetes", 0)) == (2, 2, 0)


def test_without_leave_to_list_secrets_are_found_one_by_one(chain: Chain, name: str, tmp_path: Path) -> None:
    kubeconfig = chain.cluster.kubeconfig_for(tmp_path, ["get", "create", "update"])
    sealer = Sealer(chain.client(), KubernetesStore(KubernetesClient.from_kubeconfig(kubeconfig)))
    wanted = batch(chain, name, 12, 1)
    assert {outcome.action for outcome in sealer.seal(wanted)} == {Action.CREATED}
    assert {outcome.action for outcome in sealer.seal(wanted)} == {Action.UNCHANGED}


def test_a_secret_of_others_stops_the_batch_though_it_has_no_label(chain: Chain, name: str) -> None:
    chain.put(f"{name}-11", {"key-0": b"theirs"})
    with pytest.raises(SealedDataError, match=rf"{name}-11: the Secret was not sealed here"):
        chain.seal(*batch(chain, name, 12, 1))
    assert not of_name(chain, f"{name}-0")


def test_a_missing_namespace_stops_all(chain: Chain, name: str) -> None:
    wanted = [*batch(chain, name, 3, 1), SecretSpec(f"{name}-missing", name, {"a": b"1"}, transit_key="derived")]
    with pytest.raises(SecretNotFound, match=f'namespaces "{name}-missing" not found') as caught:
        chain.seal(*wanted)
    assert caught.value.place == f"{name}-missing/{name}"
    assert not of_name(chain, f"{name}-0")


def test_a_missing_right_stops_all(chain: Chain, name: str, tmp_path: Path) -> None:
    chain.seal(chain.wanted(f"{name}-0", {"key-0": b"old"}))
    kubeconfig = chain.cluster.kubeconfig_for(tmp_path, ["get", "list", "create"])
    sealer = Sealer(chain.client(), KubernetesStore(KubernetesClient.from_kubeconfig(kubeconfig)))
    with pytest.raises(Forbidden, match='cannot update resource "secrets"'):
        sealer.seal(batch(chain, name, 3, 1))
    assert chain.opened(f"{name}-0") == {"key-0": b"old"}
    assert not of_name(chain, f"{name}-1")


def test_secrets_of_many_namespaces_are_found_by_one_list(chain: Chain, name: str, requests: Requests) -> None:
    namespaces = [f"{name}-{n}" for n in range(11)]
    for namespace in namespaces:
        chain.api.create_namespace({"metadata": {"name": namespace}})
    try:
        wanted = [SecretSpec(namespace, "it", {"a": b"1"}, transit_key="derived") for namespace in namespaces]
        chain.seal(*wanted)
        requests.take()
        assert {outcome.action for outcome in chain.seal(*wanted)} == {Action.UNCHANGED}
        # Pages of the cluster's sealed Secrets, to which other tests add; not a list for each namespace.
        assert {path.partition("?")[0] for path in requests.read} == {"/api/v1/secrets"}
        made = requests.take()
        assert (made["hmac"], made["encrypt"], made.keys()) == (2, 1, {"hmac", "encrypt", "GET kubernetes"})
    finally:
        for namespace in namespaces:
            chain.api.delete_namespace(namespace)


def test_sealers_at_once_lose_no_update(chain: Chain, name: str) -> None:
    chain.seal(chain.wanted(name, {"first": b"0"}))
    sealers, start, failures = 4, threading.Barrier(4), []

    def seal(number: int) -> None:
        start.wait()
        try:
            for turn in range(3):
                chain.seal(chain.wanted(name, {f"key-{number}-{turn}": b"x", "shared": b"%d" % number}))
        except SecretManagerError as error:
            failures.append(error)

    threads = [threading.Thread(target=seal, args=(number,)) for number in range(sealers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A sealer may give up after some attempts, with an error; every write that was reported was made.
    assert {type(error) for error in failures} <= {ConflictError}
    opened = chain.opened(name)
    if not failures:
        assert set(opened) == {"first", "shared"} | {f"key-{n}-{turn}" for n in range(sealers) for turn in range(3)}


def test_a_write_in_between_is_kept_and_the_change_made_to_it(
    chain: Chain, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.seal(chain.wanted(name, {"a": b"1"}))
    interfere(chain, name, monkeypatch, times=2)
    (outcome,) = chain.seal(chain.wanted(name, {"a": b"2"}))
    assert outcome.updated == ("a",)
    assert chain.opened(name) == {"a": b"2"}
    assert {"theirs-1", "theirs-2"} <= chain.data(name).keys()


def test_it_gives_up_where_others_keep_writing(chain: Chain, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chain.seal(chain.wanted(name, {"a": b"1"}))
    written = interfere(chain, name, monkeypatch, times=100)
    with pytest.raises(ConflictError, match="the object has been modified"):
        chain.seal(chain.wanted(name, {"a": b"2"}))
    assert len(written) == WRITE_ATTEMPTS
    assert chain.opened(name) == {"a": b"1"}


def test_a_secret_that_vanishes_in_between_is_made_anew(
    chain: Chain, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.seal(chain.wanted(name, {"a": b"1"}))
    after_get(monkeypatch, lambda: of_name(chain, name) and chain.api.delete_namespaced_secret(name, chain.namespace))
    (outcome,) = chain.seal(chain.wanted(name, {"a": b"2"}))
    assert (outcome.action, outcome.added) == (Action.CREATED, ("a",))
    assert chain.opened(name) == {"a": b"2"}


def interfere(chain: Chain, name: str, monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Let another writer add a data key after each read of the sealer, for a number of times."""
    written: list[int] = []

    def write() -> None:
        if len(written) < times:
            written.append(len(written) + 1)
            chain.api.patch_namespaced_secret(name, chain.namespace, {"stringData": {f"theirs-{written[-1]}": "x"}})

    after_get(monkeypatch, write)
    return written


def after_get(monkeypatch: pytest.MonkeyPatch, call: Callable[[], Any]) -> None:
    original = KubernetesClient.get_secret

    def get_secret(self: KubernetesClient, namespace: str, name: str) -> Any:
        found = original(self, namespace, name)
        call()
        return found

    monkeypatch.setattr(KubernetesClient, "get_secret", get_secret)


@pytest.fixture
def proxied(chain: Chain, tmp_path: Path) -> Iterator[tuple[Proxy, KubernetesClient]]:
    """A client of Kubernetes through a proxy that can cut connections."""
    content = yaml.safe_load(Path(chain.kubeconfig).read_text())
    address, _, port = content["clusters"][0]["cluster"]["server"].rpartition(":")
    proxy = Proxy(int(port))
    content["clusters"][0]["cluster"]["server"] = f"{address}:{proxy.port}"
    path = Path(chain.kubeconfig).with_name(f"proxied-{proxy.port}.conf")
    path.write_text(yaml.safe_dump(content))
    yield proxy, KubernetesClient.from_kubeconfig(path)
    proxy.close()
    path.unlink()


@pytest.mark.parametrize("before", [{}, {"a": b"0"}])
def test_a_write_whose_answer_is_lost_counts_once(
    chain: Chain, name: str, proxied: tuple[Proxy, KubernetesClient], before: dict[str, bytes]
) -> None:
    if before:
        chain.seal(chain.wanted(name, before))
    proxy, kubernetes = proxied
    sealer = Sealer(chain.client(), CutBeforeWrite(kubernetes, proxy))
    (outcome,) = sealer.seal([chain.wanted(name, {"a": b"1"})])
    assert outcome.action is (Action.UPDATED if before else Action.CREATED)
    assert (outcome.added, outcome.updated) == (((), ("a",)) if before else (("a",), ()))
    assert chain.opened(name) == {"a": b"1"}
    assert proxy.cut_after_request == 0


class CutBeforeWrite(KubernetesStore):
    """Makes the proxy cut the connection after the next write has reached the server."""

    def __init__(self, kubernetes: KubernetesClient, proxy: Proxy) -> None:
        super().__init__(kubernetes)
        self._proxy = proxy
        self._cut = False

    def write(self, *args: Any, **options: Any) -> Any:
        if not self._cut:
            self._cut = True
            self._proxy.cut_after_request = 1
        return super().write(*args, **options)


class Crash(BaseException):
    """Stands for the death of the process."""


def test_a_crash_between_any_two_requests_leaves_the_old_or_the_new_secret(
    chain: Chain, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = {"a": b"old", "b": b"old"}, {"a": b"new", "b": b"new", "c": b"new"}
    original = JsonApi.request
    left = 0

    def request(self: JsonApi, *args: Any, **options: Any) -> Response:
        nonlocal left
        if left == 0:
            raise Crash
        left -= 1
        return original(self, *args, **options)

    crashes = 0
    for allowed in range(20):
        spot = f"{name}-{allowed}"
        chain.seal(chain.wanted(spot, old))
        with monkeypatch.context() as patch:
            patch.setattr(JsonApi, "request", request)
            left = allowed
            try:
                chain.seal(chain.wanted(spot, new))
                finished = True
            except Crash:
                crashes += 1
                finished = False
        assert chain.opened(spot) == (new if finished else old)
        chain.seal(chain.wanted(spot, new))
        assert chain.opened(spot) == new
        if finished:
            break
    assert finished
    assert (
        crashes == 7
    )  # before the Secret is read, proofs, digests, kind of key, ciphertext, new proofs, and the write


def test_a_process_that_is_killed_in_a_batch_leaves_whole_secrets(chain: Chain, name: str) -> None:
    """The process is killed after some writes; the next run completes the batch."""
    code = (
        "import sys\n"
        "from secretmanager.servers.kubernetes import KubernetesClient\n"
        "from secretmanager.sealing.sealer import Sealer\n"
        "from secretmanager.sealing.stores import KubernetesStore\n"
        "from secretmanager.servers.vault import VaultClient\n"
        "from secretmanager.sealing.spec import SecretSpec\n"
        "url, ca, kubeconfig, namespace, name = sys.argv[1:]\n"
        "vault = VaultClient(url, ca_cert=ca, token=sys.stdin.readline().strip())\n"
        "store = KubernetesStore(KubernetesClient.from_kubeconfig(kubeconfig), 2)\n"
        "wanted = [SecretSpec(namespace, f'{name}-{n}', {'a': b'%d' % n, 'b': b'2'}, 'derived') for n in range(60)]\n"
        "def tell(done, of):\n"
        "    print(done, flush=True)\n"
        "    if done >= 5: sys.stdin.read()\n"  # until it is killed
        "Sealer(vault, store).seal(wanted, progress=tell)\n"
    )
    arguments = [chain.vault.url, chain.vault.ca, chain.kubeconfig, chain.namespace, name]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{chain.token}\n")
    process.stdin.flush()
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    made = [n for n in range(60) if of_name(chain, f"{name}-{n}")]
    assert 5 <= len(made) < 60
    for n in made:
        assert set(chain.data(f"{name}-{n}")) == {"a", "b", MANIFEST_KEY}
        assert chain.opened(f"{name}-{n}") == {"a": b"%d" % n, "b": b"2"}
    outcomes = chain.seal(*(chain.wanted(f"{name}-{n}", {"a": b"%d" % n, "b": b"2"}) for n in range(60)))
    assert {outcomes[n].action for n in made} == {Action.UNCHANGED}
    assert {outcome.action for outcome in outcomes} == {Action.UNCHANGED, Action.CREATED}


def test_a_failure_midway_tells_what_was_written(chain: Chain, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = KubernetesClient.create_secret

    def create_secret(self: KubernetesClient, namespace: str, body: Any, *, dry_run: bool = False) -> Any:
        if body["metadata"]["name"] == f"{name}-1" and not dry_run:
            body = {**body, "type": "kubernetes.io/tls"}  # the API refuses it: tls.crt is missing
        return original(self, namespace, body, dry_run=dry_run)

    monkeypatch.setattr(KubernetesClient, "create_secret", create_secret)
    with pytest.raises(SealingFailed, match=r"2 Secrets were written: .*tls.crt") as caught:
        chain.seal(*batch(chain, name, 3, 1))
    assert [outcome.name for outcome in caught.value.outcomes] == [f"{name}-0", f"{name}-2"]


def of_name(chain: Chain, name: str) -> list[Any]:
    return chain.api.list_namespaced_secret(chain.namespace, field_selector=f"metadata.name={name}").items
