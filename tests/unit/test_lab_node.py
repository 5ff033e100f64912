"""The lab's node: what it relays, and which images it takes. Its pods: molecule/pods and tests/pods."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from program_image import program_image
from reproducible import File

from kubevault_lab.errors import LabError
from kubevault_lab.images import load
from kubevault_lab.node import Relay


def test_a_relay_is_described_by_two_addresses() -> None:
    relay = Relay.parse("10.96.0.1:443=127.0.0.1:20003", inward=False)
    assert relay == Relay(("10.96.0.1", 443), ("127.0.0.1", 20003), inward=False)


@pytest.mark.parametrize("text", ["", "10.96.0.1:443", "10.96.0.1=127.0.0.1:1", "443=127.0.0.1:1", "a:b=c:d"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not ADDRESS:PORT|invalid literal"):
        Relay.parse(text, inward=False)


def test_the_same_program_gives_the_same_image() -> None:
    files = {"program": File(b"\x7fELF", 0o755)}
    assert program_image("localhost/x:1", files, ["/program"]) == program_image("localhost/x:1", files, ["/program"])


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    folder, text, archive = tmp_path / "folder", tmp_path / "text", tmp_path / "archive.tar"
    folder.mkdir()
    text.write_text("text")
    with tarfile.open(archive, "w") as tar:
        tar.add(text, "text")
    for source in (folder, text, archive, tmp_path / "missing"):
        with pytest.raises(LabError, match=f"{source} is not an OCI layout"):
            load("/nonexistent", source)


def test_an_image_without_a_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"manifests": [{"digest": "sha256:0"}]}')
    with pytest.raises(LabError, match=r"has the annotation io\.containerd\.image\.name"):
        load("/nonexistent", tmp_path)
