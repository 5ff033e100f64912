"""YAML that others wrote ends no process and fills no memory."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest

from secretmanager import documents, safeyaml
from secretmanager.errors import ConfigError
from secretmanager.rotation.files import FileRewrapper, secrets_of
from secretmanager.rotation.planning import Options
from secretmanager.rotation.rewrapper import Report
from secretmanager.sealing.manifestfile import ManifestFile

BOMB = "a0: &a0 [vault:v1:AAAA]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
MERGED = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 50_000, "? " * 50_000])
def test_what_is_deep_is_refused_before_it_is_built(text: str) -> None:
    with pytest.raises(safeyaml.NotYaml, match="more than 200 collections in each other") as caught:
        safeyaml.load(text)
    assert caught.value.line == 1


@pytest.mark.parametrize("text", [BOMB, MERGED], ids=["aliases", "merge keys"])
def test_aliases_that_expand_are_refused(text: str) -> None:
    with pytest.raises(safeyaml.NotYaml, match="its aliases stand for more than 100000 values"):
        safeyaml.load(text)


@pytest.mark.parametrize("text", ["&a [*a]", "&a {b: *a}"])
def test_an_alias_of_what_it_is_in_is_refused(text: str) -> None:
    with pytest.raises(safeyaml.NotYaml, match="an alias of what it is in"):
        safeyaml.load(text)


@pytest.mark.parametrize(
    "text",
    ["a: 2026-13-01", "a: " + "9" * 5000, "!!bool x", '!!int ""', "!!timestamp x", "? {a: b}\n: c", '"\\ud800"', "\0"],
)
def test_a_value_that_is_not_of_its_type_is_no_yaml(text: str) -> None:
    with pytest.raises(safeyaml.NotYaml, match="is not YAML"):
        safeyaml.load(text)


@pytest.mark.parametrize(
    ("text", "content"), [("- =", ["="]), ("- <<", ["<<"]), ("a: =", {"a": "="}), ("=: b", {"=": "b"})]
)
def test_an_equals_sign_is_a_text_as_in_crds_of_the_prometheus_operator(text: str, content: object) -> None:
    assert safeyaml.load(text) == content
    assert [document.content for document in documents.parse(text, "file")] == [content]
    assert safeyaml.load(documents.dump(content)) == content


def test_a_document_beside_such_a_crd_is_edited_and_the_crd_stays() -> None:
    """What is also in one document with an equals sign is changed around it."""
    crd = "kind: CustomResourceDefinition\nenum:\n- '!='\n- =\n- =~\n---\n"
    text = crd + "args:\n- =\n- <<\n=: x\nb: 1\n"
    parsed = documents.parse(text, "file")
    assert parsed[0].content["enum"] == ["!=", "=", "=~"]
    contents = [parsed[0].content, {"args": ["=", "<<", "="], "=": "y", "b": 1}]
    changed = documents.with_contents(text, parsed, contents, "file")
    assert changed == crd + "args:\n- =\n- <<\n- '='\n=: y\nb: 1\n"


@pytest.mark.parametrize("text", ["a: !Ref b", "- !vault |\n  x", "!!python/object/apply:os.system [id]"])
def test_a_tag_that_is_not_yaml_s_own_is_told_and_not_quoted(text: str) -> None:
    with pytest.raises(
        safeyaml.NotYaml, match="is not read: a value has a tag that is not one of YAML's own"
    ) as caught:
        safeyaml.load(text)
    assert caught.value.line == 1


def test_what_people_write_is_read() -> None:
    text = "a: &a {x: [1, 2]}\nb:\n  <<: *a\n  y: *a\n"
    assert safeyaml.load(text) == {"a": {"x": [1, 2]}, "b": {"x": [1, 2], "y": {"x": [1, 2]}}}
    assert safeyaml.load(b"[" * 199 + b"]" * 199)
    with patch.object(safeyaml, "MOST_VALUES", 10):
        assert len(safeyaml.load("- a\n" * 100)) == 100


@pytest.mark.parametrize("text", ["[" * 100_000, BOMB], ids=["brackets", "aliases"])
def test_such_a_file_is_named_and_the_others_are_rewrapped(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(f"# vault:v1:AAAA\n{text}")
    (tmp_path / "good.yaml").write_text("# vault:v1:AAAA\nkind: ConfigMap\n")
    report, seen = Report(), []
    rewrapper = FileRewrapper(None, [tmp_path], Options("k"), 1)  # type: ignore[arg-type]
    rewrapper.run(report, check=False, progress=lambda report: seen.append(len(report.failed)))
    assert list(report.failed) == [f"{tmp_path}/bad.yaml"]
    assert "is not read" in report.failed[f"{tmp_path}/bad.yaml"]
    assert seen == [1, 1]
    with pytest.raises(ConfigError, match=r"bad\.yaml: is not read"):
        list(secrets_of([tmp_path]))


def test_a_link_that_leads_out_of_the_folder_is_named_and_left(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside.yaml", tmp_path / "folder"
    outside.write_text("# vault:v1:AAAA\n")
    folder.mkdir()
    (folder / "link.yaml").symlink_to(outside)
    (folder / "file.yaml").write_text("# vault:v1:AAAA\n")
    (folder / "within.yaml").symlink_to("file.yaml")
    report = Report()
    rewrapper = FileRewrapper(None, [folder], Options("k"), 1)  # type: ignore[arg-type]
    rewrapper.run(report, check=False, progress=lambda report: None)
    assert list(report.failed) == [f"{folder}/link.yaml"]
    assert f"is a link that leads out of {folder}" in report.failed[f"{folder}/link.yaml"]
    with pytest.raises(ConfigError, match="is a link that leads out of"):
        list(secrets_of([folder]))
    assert list(secrets_of([folder / "link.yaml"])) == []  # named by the user


SECRET = "kind: Secret\nmetadata: {{{metadata}}}\n{rest}\n"


@pytest.mark.parametrize(
    ("metadata", "rest", "said"),
    [
        ("name: 1", "", "metadata.name: found 1; allowed is a name"),
        ("name: päss", "", "metadata.name: found 'päss'"),
        ("name: a/b", "", "metadata.name: found 'a/b'"),
        ("name: a, namespace: [b]", "", "metadata.namespace: found ['b']"),
        ("name: a, labels: [b]", "", "metadata.labels: allowed is a mapping"),
        ("name: a, annotations: {1: b}", "", "metadata.annotations: allowed is a mapping"),
        ("name: a", "data: [b]", "data: allowed is a mapping"),
        ("name: a", "data: {1: b}", "data: allowed is a mapping"),
        ("name: a", "data: {a/b: b}", "data: allowed are keys"),
        ("name: a", "data: {a: 1}", "data: allowed are values"),
        ("name: a", "stringData: text", "stringData: allowed is a mapping"),
    ],
)
def test_a_secret_of_another_form_is_told_by_its_line(tmp_path: Path, metadata: str, rest: str, said: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("---\n" + SECRET.format(metadata=metadata, rest=rest))
    with pytest.raises(ConfigError) as caught:
        ManifestFile(path).load()
    assert f"{path}: the Secret in line 2: {said}" in str(caught.value)


def test_a_template_that_is_filled_in_later_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(SECRET.format(metadata='name: "${name}", namespace: "${space}"', rest="data: {a: , b: Yg==}"))
    assert ManifestFile(path).load()["${space}/${name}"]["data"] == {"a": "", "b": "Yg=="}
