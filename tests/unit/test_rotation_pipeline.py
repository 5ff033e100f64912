"""Any mix of versions, keys, owners, damage and crashes ends with all at the newest version, or told why not.

Vault and the Kubernetes API are fakes, in memory: only so can thousands of such mixes be tried, each with a crash at
a drawn request. tests/integration/sealing/test_rotation.py does it on real servers, for few.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import itertools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from secretmanager.commands.rewrap import command as rewrap
from secretmanager.errors import ConflictError, DecryptionFailed, SecretNotFound, VaultError
from secretmanager.rotation import usage
from secretmanager.rotation.planning import GITOPS_LABELS, Options, Shard, Skip, make_candidate
from secretmanager.rotation.rewrapper import ATTEMPTS, Report, Rewrapper
from secretmanager.sealed import MANIFEST_KEY, SEALED_LABEL, Manifest, Scope, checksum, encode, sealed_values
from secretmanager.sealing.recreation import is_copy, original, recreate
from secretmanager.servers.vault import TransitItem

NEWEST = 4
OLDEST = 2  # version 1 is retired
LONG = "n" * 240

Object = dict[str, Any]


class Killed(BaseException):
    """The process has ended."""


@dataclass
class Fate:
    """Ends the process at one request, before or after it took effect; what follows has no effect either."""

    request: int | None = None
    after: bool = False
    count: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, effect: Any) -> Any:
        with self.lock:  # a request is atomic
            self.count += 1
            dead = self.request is not None and self.count >= self.request
            if dead and not (self.after and self.count == self.request):
                raise Killed
            result = effect()
            if dead:
                raise Killed
            return result


class FakeVault:
    """Seals by naming the key, the context and the plaintext; refuses what Vault's Transit engine would refuse."""

    def __init__(self, fate: Fate) -> None:
        self._fate = fate

    def rewrap_each(self, key: str, items: Sequence[TransitItem]) -> list[str | VaultError]:
        return self._fate(lambda: [self._rewrap(key, item) for item in items])

    def _rewrap(self, key: str, item: TransitItem) -> str | VaultError:
        version, sealed = item.value.decode().split(":")[1:]
        owner, context, plaintext = base64.b64decode(sealed).split(b"|")
        if owner != key.encode() or context != (item.context or b"") or int(version[1:]) < OLDEST:
            return DecryptionFailed("refused", errors=("cipher: message authentication failed",))
        return seal(key, NEWEST, context, plaintext)


def seal(key: str, version: int, context: bytes, plaintext: bytes) -> str:
    return f"vault:v{version}:{encode(b'|'.join((key.encode(), context, plaintext)))}"


class FakeApi:
    """Secrets in a dictionary, with versions; another writer may change one just before it is replaced."""

    def __init__(self, secrets: Sequence[Object], meddled: set[int]) -> None:
        self.fate = Fate()
        self.secrets = {place_of(secret): secret for secret in secrets}
        self._meddled = meddled
        self._writes = self._version = 0

    def list_secrets(self, namespace: str | None = None, label_selector: str | None = None) -> Iterator[Object]:
        found = self.fate(lambda: copy.deepcopy(list(self.secrets.values())))
        return (secret for secret in found if not label_selector or SEALED_LABEL in secret["metadata"]["labels"])

    def get_secret(self, namespace: str, name: str) -> Object:
        return self.fate(lambda: copy.deepcopy(self._found(namespace, name)))

    def create_secret(self, namespace: str, body: Object, *, dry_run: bool = False) -> Object:
        return self.fate(lambda: self._create(body, dry_run=dry_run))

    def update_secret(self, namespace: str, body: Object) -> Object:
        self._writes += 1
        if self._writes in self._meddled:
            self._stored(self._found(namespace, body["metadata"]["name"]))
        return self.fate(lambda: self._stored(self._unchanged(namespace, body)))

    def delete_secret(self, namespace: str, found: Object, *, dry_run: bool = False) -> None:
        self.fate(lambda: self._delete(self._unchanged(namespace, found), dry_run=dry_run))

    def _delete(self, found: Object, *, dry_run: bool) -> None:
        if not dry_run:
            self.secrets.pop(place_of(found))

    def _create(self, body: Object, *, dry_run: bool) -> Object:
        if place_of(body) in self.secrets:
            raise ConflictError("it exists")
        return body if dry_run else self._stored(body)

    def _found(self, namespace: str, name: str) -> Object:
        try:
            return self.secrets[f"{namespace}/{name}"]
        except KeyError:
            raise SecretNotFound("there is none") from None

    def _unchanged(self, namespace: str, body: Object) -> Object:
        found = self._found(namespace, body["metadata"]["name"])
        if found["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise ConflictError("changed")
        return body

    def _stored(self, body: Object) -> Object:
        self._version += 1
        stored = copy.deepcopy(body)
        stored["metadata"]["resourceVersion"] = str(self._version)
        self.secrets[place_of(stored)] = stored
        return copy.deepcopy(stored)


def place_of(secret: Object) -> str:
    return f"{secret['metadata']['namespace']}/{secret['metadata']['name']}"


@st.composite
def secrets(draw: st.DrawFn) -> list[Object]:
    names = draw(st.lists(st.sampled_from([f"{LONG}{n}" for n in range(3)] + list("abcde")), max_size=6, unique=True))
    return [draw(secret_named(name)) for name in names]


@st.composite
def secret_named(draw: st.DrawFn, name: str) -> Object:
    owner, scope = draw(st.sampled_from(["ours", "ours", "other"])), draw(st.sampled_from(Scope))
    managed = draw(st.booleans()) or scope is not Scope.CLUSTER_WIDE
    values = {}
    for key in draw(st.lists(st.sampled_from("xyz"), min_size=1, unique=True)):
        context = {Scope.STRICT: f"n/{name}/{key}", Scope.NAMESPACE_WIDE: "n"}.get(scope, "")
        version = draw(st.integers(1 if draw(st.integers(0, 9)) == 0 else OLDEST, NEWEST))
        values[key] = seal(owner, version, context.encode(), f"PLAIN-value-{name}-{key}".encode())
    data = {key: encode(text.encode()) for key, text in values.items()}
    labels = draw(st.sampled_from([{}, {}, {GITOPS_LABELS[0]: "x"}]))
    if managed:
        checksums = {key: checksum(text) for key, text in values.items()}
        manifest = Manifest(owner, scope, "digest", dict.fromkeys(values, "vault:v1:AA=="), checksums).dump()
        match draw(st.sampled_from(["sound"] * 5 + ["value", "missing", "manifest"])):
            case "value":
                key = next(iter(values))
                data[key] = encode(seal(owner, 3, b"", b"PLAIN-of-somebody").encode())
            case "missing":
                data.pop(next(iter(values)))
            case "manifest":
                manifest = b"{}"
        data[MANIFEST_KEY] = encode(manifest)
        labels = {**labels, SEALED_LABEL: "true"}
    metadata = {"namespace": "n", "name": name, "labels": labels, "uid": name, "resourceVersion": "0"}
    if draw(st.integers(0, 9)) == 0:
        metadata["deletionTimestamp"] = "now"
    return {"metadata": metadata, "data": data, **({"immutable": True} if draw(st.integers(0, 2)) == 0 else {})}


def plaintexts(secret: Object) -> dict[str, bytes]:
    found = {key: base64.b64decode(text) for key, text in secret["data"].items() if key != MANIFEST_KEY}
    return {key: base64.b64decode(text.split(b":")[2]) for key, text in found.items()}


def versions(secret: Object) -> set[int]:
    return {int(base64.b64decode(text).split(b":")[1][1:]) for text in data_of(secret).values()}


def data_of(secret: Object) -> dict[str, str]:
    return {key: text for key, text in secret["data"].items() if key != MANIFEST_KEY}


def run(api: FakeApi, options: Options, shards: int, fate: Fate) -> Report:
    """Rewrap all shards, as if each were a process; a crash ends all of them."""
    report = Report()
    api.fate = fate
    vault = FakeVault(fate)
    with patch.object(usage, "PAGE", 2):
        for index in range(shards):
            shard = Shard(index, shards)
            Rewrapper(vault, api, options, NEWEST, concurrency=2, shard=shard).run(report)  # type: ignore[arg-type]
    return report


@settings(max_examples=300, deadline=None)
@given(
    secrets(),
    st.builds(Options, st.just("ours"), st.booleans(), st.booleans(), st.booleans()),
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=3),
    st.sets(st.integers(1, 8), max_size=ATTEMPTS - 1),
)
def test_all_are_at_the_newest_version_or_told(
    secrets: list[Object], options: Options, shards: int, crashes: list[tuple[int, bool]], meddled: set[int]
) -> None:
    before = {place_of(secret): copy.deepcopy(secret) for secret in secrets}
    api = FakeApi(secrets, meddled)
    for request, after in crashes:
        with contextlib.suppress(Killed):
            run(api, options, shards, Fate(request, after))
    report = run(api, options, shards, Fate())
    assert api.secrets.keys() == before.keys()
    assert report.failed == {}
    assert "PLAIN-" not in str(report.facts())
    for place, secret in api.secrets.items():
        assert plaintexts(secret) == plaintexts(before[place])
        assert secret.get("immutable") == before[place].get("immutable")
        wanted = expected(before[place], options)
        assert report.behind.get(place, "").partition(":")[0] == (wanted if wanted != "rewrapped" else "")
        if wanted == "rewrapped":
            assert versions(secret) == {NEWEST}
            assert all(value.version == NEWEST for value in sealed_values(secret).values())
            candidate = make_candidate(secret, NEWEST, options)
            assert candidate is None or candidate.skip is None  # its checksums are right
        else:
            assert secret["data"] == before[place]["data"]
    again = run(api, options, shards, Fate())
    assert (again.rewrapped, again.behind) == ([], report.behind)


def expected(secret: Object, options: Options) -> str:
    """Return "rewrapped", why it is not, or nothing if it has nothing to do with the key."""
    data, metadata = data_of(secret), secret["metadata"]
    encoded = secret["data"].get(MANIFEST_KEY)
    sealed = [base64.b64decode(text).decode() for text in data.values()]
    owners = {base64.b64decode(text.split(":")[2]).split(b"|")[0] for text in sealed}
    if encoded is None:
        if not options.unmanaged:
            return ""
    elif base64.b64decode(encoded) == b"{}":
        # Nothing but the key itself can tell whose values these are.
        opened = owners == {b"ours"} and max(versions(secret)) >= OLDEST
        return "its manifest, or a value, is damaged" if opened else ""
    else:
        manifest = Manifest.load(base64.b64decode(encoded), "")
        if manifest.transit_key != options.transit_key:
            return ""
        if manifest.checksums != {key: checksum(base64.b64decode(text).decode()) for key, text in data.items()}:
            return "its manifest, or a value, is damaged"
    if versions(secret) <= {NEWEST}:
        return "rewrapped"
    if "deletionTimestamp" in metadata:
        return "it is being deleted"
    if GITOPS_LABELS[0] in metadata["labels"] and not options.gitops:
        return "Argo CD or Flux owns it"
    if secret.get("immutable") and not options.recreate:
        return "it is immutable"
    if owners != {b"ours"} or min(versions(secret)) < OLDEST:
        return "the key does not open it"
    return "rewrapped"


@pytest.mark.parametrize("stem", ["a", LONG], ids=["short", "long"])
def test_two_crashes_lose_no_immutable_secret(stem: str) -> None:
    """Each is deleted for a moment; its copy must then stay until it is there again."""
    options, names = Options("ours", recreate=True), [f"{stem}{number}" for number in range(3)]
    for first, second in itertools.product(range(1, 20), repeat=2):
        api = FakeApi([immutable(name) for name in names], set())
        for request in (first, second):
            with contextlib.suppress(Killed):
                run(api, options, 1, Fate(request, after=True))
        run(api, options, 1, Fate())
        assert [versions(api.secrets[f"n/{name}"]) for name in names] == [{NEWEST}] * 3, (first, second)
        assert len(api.secrets) == 3, (first, second)


def broken_off(request: int, name: str = "a") -> list[Object]:
    """Return what is there after a run that a request ended: its number 4 makes the copy, 5 deletes the original."""
    api = FakeApi([immutable(name)], set())
    with contextlib.suppress(Killed):
        run(api, Options("ours", recreate=True), 1, Fate(request, after=True))
    return list(api.secrets.values())


def test_what_was_broken_off_is_finished_and_rewrapped() -> None:
    with patch(f"{__name__}.NEWEST", NEWEST - 1):
        (copy,) = broken_off(5)
    assert is_copy(copy)
    api = FakeApi([copy], set())
    report = run(api, Options("ours"), 1, Fate())
    assert report.facts() == {**Report().facts(), "skipped": {"n/a": str(Skip.LEFT)}}
    assert list(api.secrets.values()) == [copy]
    report = run(api, Options("ours", recreate=True), 1, Fate())
    assert (report.rewrapped, report.behind) == (["n/a"], {})
    assert versions(api.secrets["n/a"]) == {NEWEST}


def test_a_copy_is_left_to_the_shard_of_its_original() -> None:
    """Another one could delete it just before the original is deleted, too."""
    secrets = [secret for number in range(8) for secret in broken_off(4, f"a{number}")]
    api = FakeApi(secrets, set())
    Rewrapper(FakeVault(Fate()), api, Options("other", recreate=True), NEWEST, shard=Shard(0, 2)).run(Report())  # type: ignore[arg-type]
    left = [place_of(original(secret)) for secret in api.secrets.values() if is_copy(secret)]
    assert left == [place_of(secret) for secret in secrets if not is_copy(secret) and secret in Shard(1, 2)]
    assert 0 < len(left) < 8


def test_another_run_finishes_the_same_recreation() -> None:
    class Finished(FakeApi):
        def get_secret(self, namespace: str, name: str) -> Object:
            self.secrets = {place: secret for place, secret in self.secrets.items() if not is_copy(secret)}
            return super().get_secret(namespace, name)

    secret, copy = broken_off(4)
    api = Finished([secret, copy], set())
    recreate(api, secret, {**secret, "data": copy["data"]})  # type: ignore[arg-type]
    assert list(api.secrets) == ["n/a"]
    assert versions(api.secrets["n/a"]) == {NEWEST}


def test_what_somebody_else_made_meanwhile_is_not_recreated() -> None:
    """GitOps puts its own back as soon as it is gone."""

    class Watched(FakeApi):
        def delete_secret(self, namespace: str, found: Object, *, dry_run: bool = False) -> None:
            super().delete_secret(namespace, found, dry_run=dry_run)
            if not dry_run and not is_copy(found):
                self._stored(immutable("a"))

    api = Watched([immutable("a")], set())
    new = {
        **immutable("a"),
        "data": {**immutable("a")["data"], "x": encode(seal("ours", NEWEST, b"", b"PLAIN").encode())},
    }
    with pytest.raises(ConflictError, match="somebody else created it again"):
        recreate(api, immutable("a"), new)  # type: ignore[arg-type]
    assert list(api.secrets) == ["n/a"]


def immutable(name: str) -> Object:
    text = seal("ours", OLDEST, b"", b"PLAIN")
    manifest = Manifest("ours", Scope.CLUSTER_WIDE, "digest", {"x": "vault:v1:AA=="}, {"x": checksum(text)})
    metadata = {"namespace": "n", "name": name, "labels": {SEALED_LABEL: "true"}, "uid": name, "resourceVersion": "0"}
    data = {"x": encode(text.encode()), MANIFEST_KEY: encode(manifest.dump())}
    return {"metadata": metadata, "data": data, "immutable": True}


@given(st.integers(1, 16), st.text("abc-", min_size=1, max_size=8))
def test_each_secret_is_in_one_shard(count: int, name: str) -> None:
    secret = {"metadata": {"namespace": "n", "name": name}}
    assert sum(secret in Shard(index, count) for index in range(count)) == 1


def test_a_number_of_shards_without_an_index() -> None:
    env = {"KUBEVAULT_SHARDS": "4", "JOB_COMPLETION_INDEX": ""}
    done = CliRunner().invoke(rewrap, ["--transit-key", "ours"], env=env)
    assert done.exit_code == 2
    assert "$JOB_COMPLETION_INDEX is not" in done.output
