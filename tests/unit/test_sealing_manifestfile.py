"""Manifests for Git: unchanged parts stay identical, byte for byte."""

from __future__ import annotations

import os
import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from secretmanager.errors import ConfigError, ConflictError
from secretmanager.sealed import MANIFEST_KEY, Manifest, Place, Scope, checksum, encode
from secretmanager.sealing.manifestfile import ManifestFile
from secretmanager.sealing.plan import Action
from secretmanager.sealing.spec import SecretSpec
from secretmanager.sealing.stores import Change

BY_HAND = """\
# A file that somebody wrote.
apiVersion: v1
kind: ConfigMap
metadata: {name: other, namespace: ns}
data: {a: b}
---
# The Secret.
kind: Secret
apiVersion: v1
metadata:
    name: n   # its name
    namespace: ns
    labels:
        'app': "x"
type: Opaque
data:
    zeta: "dmF1bHQ6djE6QUFBQQ=="   # quoted
    alpha: dmF1bHQ6djE6QUFBQg==

    # the middle one
    "mid.dle": >-
        dmF1bHQ6djE6
    last: dmF1bHQ6djE6QUFBRA==
# the end
---
kind: Other
x: 1
"""


def secret(data: dict[str, str], name: str = "n", **more: Any) -> dict[str, Any]:
    metadata = {"namespace": "ns", "name": name}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data, **more}


def write(path: Path, *changes: Change, check: bool = False) -> ManifestFile:
    file = ManifestFile(path)
    file.find([])
    assert file.write(changes, check=check, on_written=lambda change: None) == {}
    return file


def found(path: Path, name: str = "n") -> Any:
    return ManifestFile(path).find([SecretSpec("ns", name)]).get(f"ns/{name}")


def updated(path: Path, content: dict[str, Any]) -> None:
    write(path, Change(Action.UPDATED, found(path), content))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "manifest.yml"


def test_one_value_is_one_line(path: Path) -> None:
    path.write_text(BY_HAND)
    content = found(path)
    content["data"] = {**content["data"], "alpha": "bmV3"}
    updated(path, content)
    assert path.read_text() == BY_HAND.replace("dmF1bHQ6djE6QUFBQg==", "bmV3")


def test_keys_come_and_go_by_lines(path: Path) -> None:
    path.write_text(BY_HAND)
    content = found(path)
    data = {key: text for key, text in content["data"].items() if key != "mid.dle"}
    labels = {**content["metadata"]["labels"], "kubevault.io/sealed": "true"}
    metadata = {**content["metadata"], "labels": labels}
    updated(path, {**content, "metadata": metadata, "data": {**data, "007": "bmV3", "zeta": "eg=="}, "immutable": True})
    expected = (
        BY_HAND.replace('    "mid.dle": >-\n        dmF1bHQ6djE6\n', "")
        .replace('"dmF1bHQ6djE6QUFBQQ=="', "eg==")
        .replace("        'app': \"x\"\n", "        'app': \"x\"\n        kubevault.io/sealed: 'true'\n")
        .replace("QUFBRA==\n", "QUFBRA==\n    '007': bmV3\nimmutable: true\n")
    )
    assert path.read_text() == expected


@pytest.mark.parametrize(
    "by_hand",
    [
        "{apiVersion: v1, kind: Secret, metadata: {namespace: ns, name: n}, type: Opaque, data: {a: MQ==}}",
        "apiVersion: v1\nkind: Secret\nmetadata: &m\n  namespace: ns\n  name: n\nm: *m\ntype: Opaque\ndata: {a: MQ==}",
        "apiVersion: v1\nkind: Secret\nmetadata:\n  namespace: ns\n  name: n\nstringData:\n  a: '1'\n",
    ],
)
def test_what_is_not_edited_in_place_is_written_anew(path: Path, by_hand: str) -> None:
    path.write_text(f"{by_hand}\n---\n{BY_HAND.replace('name: n ', 'name: second ')}")
    content = found(path)
    assert content["data"] == {"a": "MQ=="}
    updated(path, {**content, "type": "Opaque", "data": {"a": "Mg==", "b": "Mw=="}})
    assert found(path)["data"] == {"a": "Mg==", "b": "Mw=="}
    assert path.read_text().endswith(BY_HAND.replace("name: n ", "name: second "))


def test_a_new_secret_is_added_at_the_end(path: Path) -> None:
    path.write_text("a: 1")
    write(path, Change(Action.CREATED, None, secret({"b": "Mg==", "a": "MQ=="}, "new")))
    assert path.read_text() == (
        "a: 1\n---\napiVersion: v1\nkind: Secret\nmetadata:\n  namespace: ns\n  name: new\ntype: Opaque\n"
        "data:\n  a: MQ==\n  b: Mg==\n"
    )


def test_a_deleted_secret_goes_and_so_does_an_empty_file(path: Path) -> None:
    path.write_text(BY_HAND)
    write(path, Change(Action.DELETED, found(path), None))
    first, _, last = BY_HAND.split("---\n")
    assert path.read_text() == f"{first}---\n{last}"
    alone = path.with_name("alone.yml")
    write(alone, Change(Action.CREATED, None, secret({"a": "MQ=="})))
    write(alone, Change(Action.DELETED, found(alone), None))
    assert not alone.exists()


LISTED = """\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: n, namespace: ns}
- apiVersion: v1
  kind: Secret
  metadata:
    name: n   # by hand
    namespace: ns
  data:
    a: MQ==   # one
    b: Mg==
- apiVersion: v1
  kind: Secret
  metadata: {name: other, namespace: ns}
  stringData: {a: "1"}
# the end
---
x: 1
"""


def test_an_item_of_a_list_is_edited_in_place(path: Path) -> None:
    path.write_text(LISTED)
    content = found(path)
    updated(path, {**content, "data": {**content["data"], "a": "bmV3"}})
    assert path.read_text() == LISTED.replace("MQ==", "bmV3")
    other = found(path, "other")
    assert other["data"] == {"a": "MQ=="}
    updated(path, {**other, "data": {"a": "bmV3"}})
    assert "stringData" not in path.read_text()
    for name in ("n", "other"):
        write(path, Change(Action.DELETED, found(path, name), None))
    listed, rest = yaml.safe_load_all(path.read_text())
    assert ([item["kind"] for item in listed["items"]], rest) == (["ConfigMap"], {"x": 1})


def test_a_list_of_secrets_need_not_say_so_of_each(path: Path) -> None:
    path.write_text("kind: SecretList\nitems:\n- metadata: {name: n, namespace: ns}\n  data: {a: MQ==}\n")
    content = found(path)
    assert (content["kind"], content["data"]) == ("Secret", {"a": "MQ=="})
    write(path, Change(Action.DELETED, content, None))
    assert not path.exists()


UNPLACED = BY_HAND.replace("    namespace: ns\n", "")


def test_a_secret_without_a_namespace_is_the_one_that_is_wanted(path: Path) -> None:
    path.write_text(UNPLACED)
    file = ManifestFile(path)
    (before,) = file.find([SecretSpec("ns", "n")]).values()
    assert before["metadata"]["namespace"] == "ns"
    after = {**before, "data": {**before["data"], "alpha": "bmV3"}}
    assert file.write([Change(Action.UPDATED, before, after)], check=False, on_written=lambda change: None) == {}
    lines = UNPLACED.replace("dmF1bHQ6djE6QUFBQg==", "bmV3").splitlines()
    assert [line for line in path.read_text().splitlines() if line not in lines] == ["    namespace: ns"]
    assert len(path.read_text().splitlines()) == len(lines) + 1
    assert file.unplaced == []


@pytest.mark.parametrize(
    ("text", "wanted", "lines"),
    [
        (f"{UNPLACED}---\n{UNPLACED}", ["ns/n"], "8, 35"),
        (f"{UNPLACED}---\n{BY_HAND}", ["ns/n"], "8, 35"),
        (UNPLACED, ["ns/n", "other/n"], "8"),
        (
            LISTED.replace(", namespace: ns", "").replace("name: n   # by hand\n    namespace: ns", "name: other"),
            ["ns/other"],
            "7, 14",
        ),
    ],
)
def test_which_secret_is_wanted_has_to_be_clear(path: Path, text: str, wanted: list[str], lines: str) -> None:
    path.write_text(text)
    with pytest.raises(
        ConfigError, match=rf"which Secret is ns/\w+ is not clear; those of its name begin in line {lines}; "
    ):
        ManifestFile(path).find([SecretSpec(*place.split("/")) for place in wanted])


def test_a_byte_order_mark_is_no_part_of_a_document(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + BY_HAND.encode())
    content = found(path)
    updated(path, {**content, "data": {**content["data"], "alpha": "bmV3"}})
    assert path.read_bytes() == b"\xef\xbb\xbf" + BY_HAND.replace("dmF1bHQ6djE6QUFBQg==", "bmV3").encode()


def test_what_would_damage_other_documents_is_not_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(BY_HAND)
    content = found(path)
    monkeypatch.setattr("secretmanager.documents.edited", lambda *_: "a: 1\n---\nb: 2\n")
    with pytest.raises(ConfigError, match="cannot be edited without damage, so nothing was written"):
        updated(path, {**content, "type": "other"})
    assert path.read_text() == BY_HAND


def test_line_ends_and_mode_stay(path: Path) -> None:
    path.write_bytes(BY_HAND.replace("\n", "\r\n").encode())
    path.chmod(0o640)
    content = found(path)
    updated(path, {**content, "data": {**content["data"], "new": "MQ=="}})
    write(path, Change(Action.CREATED, None, secret({"a": "MQ=="}, "other")))
    raw = path.read_bytes()
    assert raw.count(b"\n") == raw.count(b"\r\n")
    assert b"QUFBRA==\r\n    new: MQ==\r\n# the end" in raw
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_new_files_mode_is_the_users(path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(path, Change(Action.CREATED, None, secret({"a": "MQ=="})))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_stays_a_link(path: Path) -> None:
    real = path.with_name("real.yml")
    path.symlink_to(real.name)
    write(path, Change(Action.CREATED, None, secret({"a": "MQ=="})))
    assert path.is_symlink()
    assert found(real)


def test_check_mode_writes_nothing(path: Path) -> None:
    change = Change(Action.CREATED, None, secret({"a": "MQ=="}))
    write(path, change, check=True)
    assert not path.exists()


def test_a_file_that_changed_meanwhile_is_not_overwritten(path: Path) -> None:
    path.write_text(BY_HAND)
    file = ManifestFile(path)
    file.find([])
    path.write_text("else: 1\n")
    errors = file.write([Change(Action.CREATED, None, secret({}, "new"))], check=False, on_written=lambda change: None)
    assert [type(error) for error in errors.values()] == [ConflictError]
    assert path.read_text() == "else: 1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a: [", "is not YAML"),
        (b"\xff", "is not text"),
        (b"a: !!python/object:os.system {}", "is not read: a value has a tag"),
        ((BY_HAND + "---\n" + BY_HAND).encode(), "Secret ns/n occurs twice"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error(path: Path, text: bytes, message: str) -> None:
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=message):
        ManifestFile(path).find([])


def test_a_folder_that_is_missing_is_an_error(path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written: No such file or directory"):
        write(path / "nosuch" / "file.yml", Change(Action.CREATED, None, secret({})))


def test_sealed_values_are_told_by_their_place(path: Path) -> None:
    manifest = Manifest("k", Scope.STRICT, "k-digest", {"a": "d"}, {"a": checksum("vault:v1:QUJD")})
    data = {"a": encode(b"vault:v1:QUJD"), "plain": "MQ==", MANIFEST_KEY: encode(manifest.dump())}
    file = write(path, Change(Action.CREATED, None, secret(data)))
    ((place, value),) = file.sealed_values().items()
    assert (place, value.ciphertext, value.scope) == (Place("ns", "n", "a"), "vault:v1:QUJD", Scope.STRICT)


KEYS = st.text("-._" + string.ascii_letters + string.digits, min_size=1, max_size=12)
DATA = st.dictionaries(KEYS, st.binary(max_size=30).map(encode), max_size=5)
FOREIGN = st.sampled_from(["", "# only a comment\n", "kind: ConfigMap\ndata: {ä: ö}\n", "- a list\n", BY_HAND])


@pytest.fixture(scope="module")
def module_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that each example writes from the beginning."""
    return tmp_path_factory.mktemp("any") / "file.yml"


@settings(max_examples=200, deadline=None)
@given(FOREIGN, DATA, DATA, DATA, st.sampled_from([None, True]))
def test_any_change_of_data_is_read_back(
    module_path: Path,
    foreign: str,
    one: dict[str, str],
    two: dict[str, str],
    other: dict[str, str],
    immutable: bool | None,
) -> None:
    path = module_path
    path.write_text(foreign)
    write(
        path,
        Change(Action.CREATED, None, secret(one, "x")),
        Change(Action.CREATED, None, secret(other, "y")),
    )
    before = path.read_text()
    assert before.startswith(foreign)
    assert (found(path, "x")["data"], found(path, "y")["data"]) == (one, other)
    wanted = secret(two, "x", **({"immutable": True} if immutable else {}))
    updated_x = Change(Action.UPDATED, found(path, "x"), wanted)
    write(path, updated_x)
    assert found(path, "x") == wanted
    assert found(path, "y") == secret(other, "y")
    assert path.read_text().startswith(foreign)
    for key in one.keys() & two.keys():
        if one[key] == two[key]:
            lines = (line for line in before.splitlines() if key in line and one[key] in line)
            line = next(line for line in lines if yaml.safe_load(line) == {key: one[key]})
            assert line in path.read_text().splitlines()
    write(path, Change(Action.UPDATED, found(path, "x"), secret(one, "x")))
    assert found(path, "x") == secret(one, "x")
