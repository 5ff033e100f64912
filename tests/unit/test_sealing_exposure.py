"""Annotations that hold plaintext of sealed data keys."""

from __future__ import annotations

import base64
import json

import pytest

from secretmanager.sealing.exposure import APPLIED_ANNOTATION, exposing_annotations

PLAIN = base64.b64encode(b"hunter2").decode()
CIPHER = base64.b64encode(b"vault:v1:8SDd3WHDOjf7mq69CyCqYjBXAiQQAVZRkFM13ok481zoCmHnSeDX9vyf7w==").decode()


def exposing(annotations: dict[str, str], plaintexts: tuple[bytes, ...] = ()) -> list[str]:
    return exposing_annotations({"metadata": {"annotations": annotations}}, {"a", "b"}, plaintexts)


@pytest.mark.parametrize(
    ("applied", "exposes"),
    [
        ({"data": {"a": PLAIN}}, True),
        ({"data": {"a": CIPHER, "b": PLAIN}}, True),
        ({"stringData": {"a": "hunter2"}}, True),
        ({"data": {"a": "not base64!"}}, True),
        ({"data": {"a": CIPHER}}, False),
        ({"stringData": {"a": base64.b64decode(CIPHER).decode()}}, False),
        ({"data": {"other": PLAIN}}, False),
        ({"data": {".kubevault": PLAIN}}, False),
        ({"data": None}, False),
        ({}, False),
        (["no object"], True),
    ],
)
def test_what_kubectl_applied(applied: object, exposes: bool) -> None:
    assert exposing({APPLIED_ANNOTATION: json.dumps(applied), "kept": "yes"}) == [APPLIED_ANNOTATION] * exposes


def test_what_cannot_be_read_counts_as_exposing() -> None:
    assert exposing({APPLIED_ANNOTATION: "{"}) == [APPLIED_ANNOTATION]


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode('pass"wörd'.encode()).decode(),
        'pass"wörd',
        json.dumps({"x": 'pass"wörd'}),
        json.dumps({"x": 'pass"wörd'}, ensure_ascii=False),
    ],
)
def test_a_known_value_is_found_in_any_annotation(text: str) -> None:
    assert exposing({"example.org/copy": f"<{text}>", "kept": "yes"}, ('pass"wörd'.encode(),)) == ["example.org/copy"]


def test_a_short_value_is_not_looked_for() -> None:
    """It could occur by coincidence."""
    assert exposing({"example.org/size": "1"}, (b"1",)) == []


def test_a_secret_without_annotations() -> None:
    assert exposing_annotations({"metadata": {}}, {"a"}, [b"long enough"]) == []
