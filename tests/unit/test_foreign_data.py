"""Whatever others wrote, a parser returns what it promises, or raises one of the package's own errors.

Others are tenants, who write Secrets and files; servers and what stands in front of them; and kubeconfigs and plugins.
Each input is a valid one in which something is of another type, or gone, and text that is none at all. The corpus has
what was found once, and each part of these was an error that ended a run.
"""

from __future__ import annotations

import copy
import json
import math
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from secretmanager import documents
from secretmanager.commands import info as info_command
from secretmanager.errors import ConfigError, RestartFailed, SealedDataError, SecretManagerError, VaultError, printable
from secretmanager.notices.redis import Notice
from secretmanager.restarts.rollout import waiting
from secretmanager.rotation.keys import KeyVersions
from secretmanager.rotation.planning import Options, make_candidate, old_secret
from secretmanager.sealed import MANIFEST_KEY, Manifest, encode, manifest_of, values_digest, with_ciphertexts
from secretmanager.sealing.exposure import APPLIED_ANNOTATION
from secretmanager.sealing.inspection import KeyStates, facts, faults, inspect
from secretmanager.sealing.manifestfile import ManifestFile
from secretmanager.sealing.recreation import COPY_OF, copy_name, is_copy, original
from secretmanager.sealing.spec import from_options
from secretmanager.servers.execplugin import ExecPlugin
from secretmanager.servers.http import JsonApi, Response, Stream
from secretmanager.servers.kubeconfig import find_access
from secretmanager.servers.kubernetes import KubernetesClient
from secretmanager.servers.vault import TransitItem, VaultClient

Value = Any
GONE = object()

few = settings(max_examples=40, derandomize=True, database=None)
"""Each test's part of the time; what they draw is the same in each run."""

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=8),  # lone surrogates too
    st.sampled_from(["", "vault:v1:AAAA", "vault:v1:", "\ud800", "\x1b[2J", "../../x", "a b", "9" * 5000, "x" * 300]),
    st.sampled_from(["strict", "1", "true", "dmF1bHQ6djE6QUFBQQ==", "dmF1bHQ6d", "=", "[" * 5000, "{}", "[]", "é"]),
)
NUMBERS = st.sampled_from([0, 1, -1, 2**63, 10**4000, 1.5, math.inf, math.nan])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=4,
)


@st.composite
def changed(draw: st.DrawFn, valid: Value, values: st.SearchStrategy[Value] = VALUES) -> Value:
    """Return a valid value in which up to three parts are something else, or are gone."""
    whole = copy.deepcopy(valid)
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(list(paths(whole))))
        new = draw(values | st.just(GONE))
        if not path:
            whole = None if new is GONE else new
            continue
        parent = whole
        for step in path[:-1]:
            parent = parent[step]
        if new is GONE:
            del parent[path[-1]]
        else:
            parent[path[-1]] = new
    return whole


def paths(value: Value, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield before
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in items:
        yield from paths(inner, (*before, step))


def check(error: SecretManagerError, beginning: str = "") -> None:
    """Check that an error says something, on one line that a terminal shows as it is."""
    text = str(error)
    assert text.startswith(beginning)
    assert text
    assert text.isprintable()
    assert len(text) < 10_000


# What tenants write

DIGEST = "vault:v1:AAAA"
MANIFEST = {
    "format": 1,
    "transit_key": "k",
    "scope": "strict",
    "digest_key": "k-digest",
    "digests": {"a": DIGEST, "b": DIGEST},
    "checksums": {"a": "0" * 32},
    "oldest_versions": {"a": 1},
    "place": "n/it",
}


@few
@given(
    st.one_of(
        changed(MANIFEST).map(json.dumps).map(str.encode), st.binary(max_size=60), TEXTS.map(ascii).map(str.encode)
    )
)
def test_manifests(text: bytes) -> None:
    try:
        manifest = Manifest.load(text, "n/it")
    except SealedDataError as error:
        check(error, "n/it: the manifest")
    else:
        assert Manifest.load(manifest.dump(), "n/it") == manifest
        assert manifest.is_of("n/it") in (True, False)


KEYS = st.sampled_from(["a", "b", "c", MANIFEST_KEY])
BYTES = st.one_of(
    st.binary(max_size=30),
    TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")),
    changed(MANIFEST).map(lambda facts: json.dumps(facts).encode()),
    st.builds(lambda version, rest: b"vault:v%d:" % version + rest, st.integers(0, 10**12), st.binary(max_size=20)),
)
WRITABLE = TEXTS.map(lambda text: text.encode("utf-8", "replace").decode())
"""What the API stores as the text of a label or an annotation."""


@st.composite
def secrets(draw: st.DrawFn) -> dict[str, Any]:
    """Return a Secret as the API returns it, which anybody may have written who may write Secrets."""
    name = draw(st.sampled_from(["it", copy_name("it")]))
    data = {key: encode(value) for key, value in draw(st.dictionaries(KEYS, BYTES, max_size=4)).items()}
    rest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "n", "name": "it"}, "type": "Opaque"}
    annotations = {
        COPY_OF: draw(changed(rest).map(json.dumps) | WRITABLE),
        APPLIED_ANNOTATION: draw(changed({"data": {"a": "eA=="}, "stringData": {"b": "x"}}).map(json.dumps) | WRITABLE),
        "x": draw(WRITABLE),
    }
    kept = draw(st.sets(st.sampled_from(list(annotations))))
    metadata: dict[str, Any] = {"namespace": "n", "name": name, "uid": "u", "resourceVersion": "1"}
    if kept:
        metadata["annotations"] = {name: annotations[name] for name in kept}
    if draw(st.booleans()):
        metadata["labels"] = {"kubevault.io/sealed": "true", "x": draw(WRITABLE)}
    return {"metadata": metadata, **draw(st.sampled_from([{"data": data}, {"data": data, "immutable": True}, {}]))}


@settings(few, max_examples=150)
@given(secrets())
def test_secrets(secret: dict[str, Any]) -> None:
    look(secret)
    (known,) = inspect([secret], KeyStates(None), "k")
    assert known.error is None or known.error.startswith(("the manifest", "data key"))
    for line in (json.dumps(facts(known)), *faults(known, ["behind", "damaged", "plain", "unreadable"])):
        assert line.isprintable()
    assert all(line.isprintable() for line in info_command._lines(known))
    if is_copy(secret):
        assert original(secret)["metadata"]["namespace"] == "n"


def look(secret: dict[str, Any]) -> None:
    """Have all look at a Secret that a run looks at."""
    options = Options("k", unmanaged=True)
    candidate, old = make_candidate(secret, 9, options), old_secret(secret, 9, "k")
    for value in (*(candidate.suspects if candidate else ()), *(old.values if old else ())):
        assert value.items(derived=True)
        assert value.items(derived=False)
    assert candidate is None or candidate.size >= 0
    for act in (manifest_of, values_digest, lambda secret: with_ciphertexts(secret, {"a": DIGEST})):
        try:
            act(secret)  # type: ignore[operator]
        except SealedDataError as error:
            check(error)


LISTED = {
    "kind": "List",
    "items": [
        {"kind": "ConfigMap", "metadata": {"name": "c"}},
        {
            "kind": "Secret",
            "metadata": {"namespace": "n", "name": "it", "labels": {"a": "b"}, "annotations": {"a": "b"}},
            "data": {"a": encode(DIGEST.encode()), MANIFEST_KEY: encode(json.dumps(MANIFEST).encode())},
            "stringData": {"c": "d"},
        },
    ],
}
CORPUS = [
    "[" * 100_000,
    "{a: " * 5000,
    "a: &a [*a]",
    "&a [x]: *a",
    "kind: Secret\nmetadata: {name: 2026-13-01}",
    "kind: Secret\nmetadata: {name: a}\ndata: !!set {a, b}",
    "kind: Secret\nmetadata: {name: a}\ndata: {a: !!binary aa==}",
    "kind: List\nitems: {a: b}",
    "kind: SecretList\nitems: [1, null, {metadata: 1}, {metadata: {name: {}}}]",
    "? [a]\n: b",
    '"\\ud800"',
    "%TAG ! x\n---\n! a",
]


@settings(few, max_examples=80)
@given(
    st.one_of(
        changed(LISTED, VALUES.filter(lambda value: "\\ud800" not in json.dumps(value))).map(yaml.safe_dump),
        st.text(st.sampled_from("a: -[]{}&*!|>'\"%@`?#\n,<1\t~"), max_size=40),
        st.sampled_from(CORPUS),
    )
)
def test_yaml_files(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "foreign.yaml"
    path.write_text(text)
    file = ManifestFile(path)
    try:
        placed = file.load()
    except ConfigError as error:
        check(error, str(path))
        with suppress(ConfigError):
            documents.parse(text, "it")
        return
    for secret in (
        *placed.values(),
        *({**one, "metadata": {**one["metadata"], "namespace": ""}} for one in file.unplaced),
    ):
        look(secret)


# What servers answer

STATUS = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": 'User "x" cannot list', "metadata": {}}
SECRET = {"metadata": {"namespace": "n", "name": "it", "resourceVersion": "1", "uid": "u"}, "data": {"a": "eA=="}}
KUBERNETES: dict[str, tuple[Any, Callable[[KubernetesClient], object]]] = {
    "get": (SECRET, lambda api: api.get_secret("n", "it")),
    "list": ({"items": [SECRET], "metadata": {}}, lambda api: list(api.list_secrets())),
    "names": ({"items": [SECRET], "metadata": {}}, lambda api: list(api.list_names())),
    "create": (SECRET, lambda api: api.create_secret("n", SECRET)),
    "update": (SECRET, lambda api: api.update_secret("n", SECRET)),
    "delete": (STATUS, lambda api: api.delete_secret("n", SECRET)),
    "merge": (SECRET, lambda api: api.merge("secrets", "n", "it", {})),
    "token": ({"status": {"token": "t"}}, lambda api: api.create_token("n", "it", None)),
    "lease": (SECRET, lambda api: api.put_lease("n", SECRET)),
    "namespace": (STATUS, lambda api: api.require_namespace("n")),
    "watch": ({"type": "ERROR", "object": STATUS}, lambda api: list(api.watch("secrets", "n", "it"))),
}
STATUSES = st.sampled_from([200, 200, 200, 201, 400, 401, 403, 404, 409, 410, 413, 422, 429, 500])


@pytest.fixture(scope="module")
def kubernetes() -> Iterator[KubernetesClient]:
    access = find_access({**KUBECONFIG})
    client = KubernetesClient(lambda: access, retries=0)
    yield client
    client.close()


KUBECONFIG: dict[str, Any] = {
    "clusters": [{"name": "it", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "it", "user": {"token": "t"}}],
    "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    "current-context": "it",
}


class Answering:
    """Has a client get an answer, whatever it asks; an answer that the same list goes on comes once."""

    def __init__(self, status: int, body: bytes) -> None:
        self._answers = [Response(status, body), Response(200, b'{"items": [], "metadata": {}}')]
        self.asked = 0

    def __call__(self, *args: Any, **options: Any) -> Response:
        self.asked += 1
        assert self.asked < 10
        return self._answers[min(self.asked, 2) - 1]


class Line(Stream):
    """One line of a watch."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self.is_json, self._body = status, True, body

    def __iter__(self) -> Iterator[bytes]:
        yield self._body

    def read(self) -> Response:
        return Response(self.status, self._body)

    def response(self, line: bytes) -> Response:
        return Response(self.status, line)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("name", KUBERNETES)
@given(data=st.data(), status=STATUSES)
@few
def test_answers_of_kubernetes(kubernetes: KubernetesClient, name: str, data: st.DataObject, status: int) -> None:
    valid, act = KUBERNETES[name]
    body = dumped(data.draw(changed(valid) | changed(STATUS)))
    stream = lambda *args, **options: Line(status, body)  # noqa: E731 - as short as that
    with patch.object(JsonApi, "request", Answering(status, body)), patch.object(JsonApi, "stream", stream):
        try:
            act(kubernetes)
        except SecretManagerError as error:
            check(error)


def dumped(value: Value) -> bytes:
    return json.dumps(value).encode()


BATCH = {"data": {"batch_results": [{"ciphertext": "vault:v1:AAAA", "plaintext": "eA==", "hmac": "vault:v1:AAAA"}]}}
AUTH = {"auth": {"client_token": "t", "lease_duration": 60, "renewable": True, "token_type": "service"}}
KEY = {
    "data": {
        "latest_version": 2,
        "min_decryption_version": 1,
        "min_encryption_version": 0,
        "min_available_version": 0,
        "keys": {"1": 1700000000, "2": {"creation_time": "2026-01-01T00:00:00Z"}},
    }
}
ERRORS = {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}
ITEM = [TransitItem(b"vault:v1:AAAA", b"c", "n/it[a]")]
VAULT: dict[str, tuple[Any, Callable[[VaultClient], object]]] = {
    "encrypt": (BATCH, lambda vault: vault.encrypt("k", ITEM)),
    "decrypt": (BATCH, lambda vault: vault.decrypt("k", ITEM)),
    "hmac": (BATCH, lambda vault: vault.hmac("k", [b"x"])),
    "rewrap": (BATCH, lambda vault: vault.rewrap("k", ITEM)),
    "rewrap each": (BATCH, lambda vault: vault.rewrap_each("k", ITEM)),
    "versions": (BATCH, lambda vault: vault.refused_versions("k", [])),
    "key": (KEY, lambda vault: KeyVersions.read(vault, "k")),
    "state": (KEY, lambda vault: KeyStates(vault)("k")),
    "kubernetes": (AUTH, lambda vault: vault.login_kubernetes("r", "jwt")),
    "approle": (AUTH, lambda vault: vault.login_approle("r", "s")),
    "renewal": (AUTH, lambda vault: vault.renew_self()),
    "rotation": ({}, lambda vault: vault.rotate_key("k")),
}


@pytest.mark.parametrize("name", VAULT)
@given(data=st.data(), status=STATUSES)
@few
def test_answers_of_vault(name: str, data: st.DataObject, status: int) -> None:
    valid, act = VAULT[name]
    body = dumped(data.draw(changed(valid) | changed(ERRORS)))
    with patch.object(JsonApi, "request", lambda *args, **options: Response(status, body)):
        try:
            found = act(VAULT_CLIENT)
        except SecretManagerError as error:
            check(error)
        else:
            for each in found if isinstance(found, list) else ():
                assert isinstance(each, str | bytes | VaultError)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("decrypt", {"data": {"batch_results": [{"plaintext": "A"}]}}),
        ("decrypt", {"data": {"batch_results": [{"plaintext": "é"}]}}),
        ("key", {"data": {**KEY["data"], "latest_version": math.inf}}),
        ("key", {"data": {**KEY["data"], "keys": [1]}}),
        ("state", {"data": {}}),
        ("state", {"data": {**KEY["data"], "keys": {"1": {"creation_time": "x"}}}}),
        ("kubernetes", {"auth": {**AUTH["auth"], "lease_duration": math.inf}}),
        ("rewrap each", {"data": {"batch_results": [[]]}}),
    ],
)
def test_answers_that_are_not_of_vault(name: str, answer: Value) -> None:
    with (
        patch.object(JsonApi, "request", lambda *args, **options: Response(200, dumped(answer))),
        pytest.raises(VaultError, match="this is not an answer of Vault"),
    ):
        VAULT[name][1](VAULT_CLIENT)


VAULT_CLIENT = VaultClient("https://127.0.0.1:1", token="t", retries=0)


# Kubeconfigs, plugins, notices and the ends of containers


@few
@given(changed(KUBECONFIG, VALUES.filter(lambda value: "\\ud800" not in json.dumps(value))))
def test_kubeconfigs(tmp_path_factory: pytest.TempPathFactory, content: Value) -> None:
    path = tmp_path_factory.getbasetemp() / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    try:
        access = find_access(str(path))
    except ConfigError as error:
        check(error)
    else:
        assert access.url


NOTICE = {"format": 1, "namespace": "n", "name": "it", "resource_version": "1", "key_versions": {"k": 1}}


@few
@given(changed(NOTICE).map(dumped) | st.binary(max_size=40) | st.just(b"[" * 100_000))
def test_notices(text: bytes) -> None:
    notice = Notice.load(text)
    assert notice is None or isinstance(notice.namespace, str)


@few
@given(TEXTS)
def test_what_a_container_left(message: str) -> None:
    left = {"name": "c", "state": {"waiting": {"reason": "Error"}}, "lastState": {"terminated": {"message": message}}}
    (text,) = waiting({"status": {"containerStatuses": [left], "conditions": []}})
    assert str(RestartFailed([SecretManagerError(text)])).isprintable()


CREDENTIAL = {
    "kind": "ExecCredential",
    "apiVersion": "client.authentication.k8s.io/v1",
    "status": {"token": "t", "expirationTimestamp": "2030-01-01T00:00:00Z"},
}


@few
@given(changed(CREDENTIAL).map(dumped) | st.binary(max_size=40) | st.just(b"[" * 100_000))
def test_outputs_of_plugins(output: bytes) -> None:
    plugin = ExecPlugin.__new__(ExecPlugin)
    plugin.__dict__ |= {"_where": "kubeconfig: exec", "_command": ["plugin"], "_version": CREDENTIAL["apiVersion"]}
    plugin.__dict__ |= {"_context": CONTEXT}
    try:
        header, ends = plugin._take(output)
    except ConfigError as error:
        check(error, "kubeconfig: exec: the output of plugin")
    else:
        assert header is None or header.startswith("Bearer ")
        assert ends > 0


CONTEXT = ssl.create_default_context()


HALF = "\ud800"
"""Half of a character, as JSON and arguments may have it. It cannot be written as UTF-8."""


@pytest.mark.parametrize(
    "options",
    [
        {"name": HALF},
        {"namespace": HALF},
        {"transit_key": HALF},
        {"digest_key": HALF},
        {"type": HALF},
        {"data": {"a": HALF}},
        {"data": {HALF: "x"}},
        {"data": {"a": {"b": [HALF]}}},
        {"data": {"a": {HALF: "b"}}},
        {"binary_data": {"a": HALF}},
        {"files": {"a": HALF}},
        {"files": {"a": "~nobodysuch/x"}},
        {"labels": {"a": HALF}},
        {"annotations": {"a": HALF}},
        {"annotations": {HALF: "a"}},
        {"absent_keys": [HALF]},
        {"restart": [f"deployment/{HALF}"]},
        {"transit_key": "../sys/seal"},
        {"transit_key": "a b"},
    ],
    ids=ascii,
)
def test_half_of_a_character_is_told_where_it_is(options: dict[str, Any]) -> None:
    base = {"namespace": "n", "name": "it", "transit_key": "k", "data": {"b": "x"}}
    (option,) = options
    with pytest.raises(ConfigError) as caught:
        from_options([{**base, **options}])
    check(caught.value)
    assert option.replace("absent_keys", "data key") in str(caught.value)


def test_the_same_text_is_printed_as_it_is_unless_a_terminal_would_obey() -> None:
    assert printable("ns/name[key]: ä 秘密") == "ns/name[key]: ä 秘密"
    assert printable("a\x1b[2J\nb\ud800\u202e\x7f") == "a\\x1b[2J\\nb\\ud800\\u202e\\x7f"
    assert str(SecretManagerError("a\x1b", place="b\n", remedy="c\r")) == "b\\n: a\\x1b; c\\r"
