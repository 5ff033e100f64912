"""How an image is written: by the OCI's specification, the same bytes each time, and on the user's base."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import elf
import oci
import pytest
from build_image import ImageError, environment, given_base, interpreter, site_folder, without_unneeded_libraries
from reproducible import Entry, File, Folder, Link, read_tar, tar

CREATED = "2026-01-02T03:04:05Z"
FILES: dict[str, Entry] = {
    "usr/bin/program": File(b"#!/bin/program\n", 0o755),
    "etc/settings": File(b"a=b\n"),
    "bin": Link("usr/bin"),
    "tmp": Folder(0o1777),
}


def image(architecture: str = "amd64", **more: object) -> oci.Image:
    layers = [oci.Layer.of(FILES), oci.Layer.of({"opt/added": File(architecture.encode())})]
    runtime = {"User": "65532:65532", "Entrypoint": ["program"]}
    return oci.Image(architecture, layers, runtime, CREATED, {"org.opencontainers.image.title": "x"}, **more)


def content(files: dict[str, Entry], name: str) -> bytes:
    entry = files[name]
    assert isinstance(entry, File)
    return entry.content


def blob(files: dict[str, Entry], descriptor: oci.Json) -> bytes:
    """Return what a descriptor refers to, and check its digest and size as a registry would."""
    found = content(files, "blobs/" + descriptor["digest"].replace(":", "/"))
    assert descriptor["digest"] == f"sha256:{hashlib.sha256(found).hexdigest()}"
    assert descriptor["size"] == len(found)
    return found


def test_a_layout_is_valid() -> None:
    """https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md"""
    files = oci.layout([image("amd64"), image("arm64", variant="v8")], "localhost/x:1.2", {"a": "b"})
    assert json.loads(content(files, "oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    (main,) = json.loads(content(files, "index.json"))["manifests"]
    assert main["annotations"] == {
        "org.opencontainers.image.ref.name": "1.2",
        "io.containerd.image.name": "localhost/x:1.2",
    }
    index = json.loads(blob(files, main))
    assert index["mediaType"] == main["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert index["annotations"] == {"a": "b"}
    assert [item["platform"] for item in index["manifests"]] == [
        {"os": "linux", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm64", "variant": "v8"},
    ]
    used = {main["digest"]}
    for item in index["manifests"]:
        manifest = json.loads(blob(files, item))
        assert manifest["schemaVersion"] == 2
        assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
        config = json.loads(blob(files, manifest["config"]))
        assert {name: config[name] for name in item["platform"]} == item["platform"]
        assert config["created"] == CREATED
        assert config["config"] == {"User": "65532:65532", "Entrypoint": ["program"]}
        assert len(config["history"]) == len(manifest["layers"])
        for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
            unpacked = gzip.decompress(blob(files, layer))
            assert diff_id == f"sha256:{hashlib.sha256(unpacked).hexdigest()}"
        used |= {item["digest"], manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])}
    assert {name for name in files if name.startswith("blobs/")} == {f"blobs/{item.replace(':', '/')}" for item in used}


def test_a_layer_has_folders_first_and_no_trace_of_the_builder() -> None:
    with tarfile.open(fileobj=io.BytesIO(oci.Layer.of(FILES).blob)) as archive:
        members = archive.getmembers()
    assert [(item.name, oct(item.mode), item.linkname) for item in members] == [
        ("bin", "0o777", "usr/bin"),
        ("etc", "0o755", ""),
        ("etc/settings", "0o644", ""),
        ("tmp", "0o1777", ""),
        ("usr", "0o755", ""),
        ("usr/bin", "0o755", ""),
        ("usr/bin/program", "0o755", ""),
    ]
    assert {(item.uid, item.gid, item.uname, item.gname, item.mtime) for item in members} == {(0, 0, "", "", 0)}


def test_the_digest_depends_on_content_alone() -> None:
    backwards = dict(reversed(FILES.items()))
    assert oci.Layer.of(FILES) == oci.Layer.of(backwards)
    # In another process too, in which hashes differ.
    code = "import oci; from reproducible import File; print(oci.Layer.of({'a/b': File(b'1'), 'a/c': File(b'2')}))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(oci.__file__).parent)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert oci.Layer.of({**FILES, "etc/settings": File(b"a=b\n", 0o600)}).diff_id != oci.Layer.of(FILES).diff_id


def test_an_archive_is_a_layout_and_what_docker_loads() -> None:
    files = read_tar(oci.archive(image(), "localhost/x:1.2"))
    (main,) = json.loads(content(files, "index.json"))["manifests"]
    manifest = json.loads(blob(files, main))
    (docker,) = json.loads(content(files, "manifest.json"))
    assert docker["RepoTags"] == ["localhost/x:1.2"]
    assert content(files, docker["Config"]) == blob(files, manifest["config"])
    assert [content(files, path) for path in docker["Layers"]] == [blob(files, layer) for layer in manifest["layers"]]


def test_a_layout_is_read_as_it_was_written() -> None:
    images = [image("amd64"), image("arm64", variant="v8")]
    files = oci.layout(images, "localhost/x:1.2", {})
    found = oci.read_layout(files, "arm64")
    assert found
    assert (found.layers, found.runtime, found.variant) == (images[1].layers, images[1].runtime, "v8")
    assert found.entries.items() >= {**FILES, "opt/added": File(b"arm64")}.items()
    assert oci.read_layout(files, "riscv64") is None


def test_whiteouts_remove_what_lower_layers_have() -> None:
    lower = {"a/one": File(b"1"), "a/two": File(b"2"), "ab": File(b"3"), "b/c/d": File(b"4"), "b/e": File(b"5")}
    upper = {"a/.wh.one": File(b""), "b/.wh..wh..opq": File(b""), "b/f": File(b"6")}
    layers = [oci.Layer.of(lower), oci.Layer.of(upper)]
    found = oci.read_layout(oci.layout([oci.Image("amd64", layers, {}, CREATED)], "x:1", {}), "amd64")
    assert found
    files = {name for name, entry in found.entries.items() if isinstance(entry, File)}
    assert files == {"a/two", "ab", "b/f"}


def test_a_damaged_layout_is_refused() -> None:
    files = oci.layout([image()], "x:1", {})
    name = max((name for name in files if name.startswith("blobs/")), key=lambda name: len(content(files, name)))
    with pytest.raises(ValueError, match="has the digest"):
        oci.read_layout({**files, name: File(b"another")}, "amd64")
    with pytest.raises(ValueError, match="the layout has no file blobs/sha256/"):
        oci.read_layout({key: value for key, value in files.items() if key != name}, "amd64")


# Programs and libraries


def program(needed: list[str], machine: int = 62, loader: str = "/lib64/ld-linux-x86-64.so.2") -> File:
    """Return a program of nothing but what says what it needs (elf(5))."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    offsets = [strings.index(b"\0" + name.encode() + b"\0") + 1 for name in needed]
    start, address = 64 + 3 * 56, 0x400000
    loads = loader.encode() + b"\0"
    dynamic = b"".join(struct.pack("<QQ", 1, offset) for offset in offsets)
    dynamic += struct.pack("<QQQQ", 5, address + start + len(loads), 0, 0)
    at = start + len(loads) + len(strings)
    size = at + len(dynamic)
    header = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 3, 0, 0, 0)
    )
    segments = ((1, 0, address, size), (3, start, 0, len(loads)), (2, at, 0, len(dynamic)))
    table = b"".join(
        struct.pack("<IIQQQQQQ", kind, 0, at, to, to, length, length, 0) for kind, at, to, length in segments
    )
    return File(header + table + loads + strings + dynamic, 0o755)


def test_the_header_of_this_python() -> None:
    header = elf.parse(Path(sys.executable).resolve().read_bytes())
    assert header
    assert "libc.so.6" in header.needed
    assert header.interpreter.startswith("/lib")


def test_the_header_of_a_program() -> None:
    made = program(["libz.so.1", "libc.so.6"], 183, "/lib/ld-linux-aarch64.so.1")
    assert elf.parse(made.content) == elf.Elf("arm64", ("libz.so.1", "libc.so.6"), "/lib/ld-linux-aarch64.so.1")
    assert elf.parse(b"#!/bin/sh\n") is None
    with pytest.raises(ValueError, match="damaged"):
        elf.parse(made.content[:100])


def test_libraries_that_nothing_needs_are_left_out() -> None:
    files: dict[str, Entry] = {
        "usr/bin/python3.11": program(["libz.so.1"]),
        "lib/libz.so.1": Link("libz.so.1.2"),
        "lib/libz.so.1.2": program(["libc.so.6"]),
        "lib/libc.so.6": program([]),
        "lib/libmvec.so.1": program(["libc.so.6"]),
        "etc/settings": File(b""),
    }
    assert files.keys() - without_unneeded_libraries(files).keys() == {"lib/libmvec.so.1"}
    del files["lib/libc.so.6"]
    with pytest.raises(ImageError, match=r"lib/libz\.so\.1\.2 needs libc\.so\.6, which no package"):
        without_unneeded_libraries(files)


# The user's base


def base(python: str = "usr/bin/python3.12", **program_is: object) -> dict[str, Entry]:
    lib = python.replace("bin", "lib")
    return {python: program(["libc.so.6"], **program_is), f"{lib}/site.py": File(b"dist-packages")}


def test_a_base_is_a_folder_an_archive_or_a_layout(tmp_path: Path) -> None:
    files = base()
    archive, layout, folder = tmp_path / "root.tar", tmp_path / "layout.tar", tmp_path / "root"
    archive.write_bytes(tar(files))
    made = oci.Image("amd64", [oci.Layer.of(files)], {"Env": ["A=1"]}, CREATED)
    layout.write_bytes(tar(oci.layout([made], "x:1", {})))
    for name, entry in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(files, name))
        path.chmod(entry.mode if isinstance(entry, File) else 0o755)
    found = [given_base(path, "amd64") for path in (archive, layout, folder)]
    assert len({item.layers[0].diff_id for item in found}) == 1
    assert [item.runtime for item in found] == [{}, {"Env": ["A=1"]}, {}]
    assert {str(site_folder(item.entries)) for item in found} == {"usr/local/lib/python3.12/dist-packages"}


def test_the_newest_python_of_a_base() -> None:
    files = base("usr/bin/python3.9") | base("usr/local/bin/python3.13") | base("usr/bin/python3.11")
    assert str(interpreter(files)) == "usr/local/bin/python3.13"
    upstream = {**files, "usr/local/lib/python3.13/site.py": File(b"site-packages")}
    assert str(site_folder(upstream)) == "usr/local/lib/python3.13/site-packages"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"usr/bin/python3.10": File(b"")}, r"no Python 3\.11 or newer"),
        (base(machine=183), "is not for amd64; choose others by --platform"),
        (base(loader="/lib/ld-musl-x86_64.so.1"), "has musl as its C library"),
        ({"oci-layout": File(b"{}")}, "the layout has no file index.json"),
    ],
)
def test_a_base_that_does_not_fit_is_refused(tmp_path: Path, files: dict[str, Entry], message: str) -> None:
    path = tmp_path / "root.tar"
    path.write_bytes(tar(files))
    with pytest.raises(ImageError, match=message):
        given_base(path, "amd64")
    with pytest.raises(ImageError, match="nosuch"):
        given_base(tmp_path / "nosuch", "amd64")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), r"Go is not installed \(no go on PATH\); .*/images/kubevault/exec/go\.mod needs Go"),
        (("--extra=nosuch",), r"pyproject\.toml has no extra nosuch"),
    ],
)
def test_what_is_missing_is_named(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    command = [sys.executable, Path(oci.__file__).with_name("build_image.py"), *options, tmp_path / "out"]
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(f"^The image was not built: {message}", done.stderr), done.stderr
    assert not (tmp_path / "out").exists()


def test_variables_of_the_base_stay() -> None:
    ours = ["PATH=/bin", "SSL_CERT_FILE=/etc/ca.crt"]
    with_certificates = oci.Base({"etc/ca.crt": File(b"")}, (), {"Env": ["PATH=/opt/bin", "LANG=C.UTF-8"]})
    assert environment(with_certificates, ours) == ["PATH=/opt/bin", "LANG=C.UTF-8", "SSL_CERT_FILE=/etc/ca.crt"]
    assert environment(oci.Base({}, ()), ours) == ["PATH=/bin"]
