"""Images by the specification of the Open Container Initiative, written without a container engine.

Source: https://github.com/opencontainers/image-spec/blob/v1.1.1/spec.md
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reproducible import Entry, File, Folder, gz, read_tar, tar

LAYOUT = {"imageLayoutVersion": "1.0.0"}
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"

Json = dict[str, Any]
"""An object of JSON, whose members are of any type."""


def digest(content: bytes) -> str:
    """Return the digest of content, such as "sha256:2c26..."."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def encoded(value: Json) -> bytes:
    """Return an object as JSON: one object, one text, so one digest."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Layer:
    """A layer of an image.

    Attributes:
        blob: the archive as it is stored.
        diff_id: digest of the archive without compression.
        media_type: how it is stored.
    """

    blob: bytes
    diff_id: str
    media_type: str = LAYER_TYPE

    @classmethod
    def of(cls, entries: Mapping[str, Entry]) -> Layer:
        """Return a layer of entries by their paths without a leading slash; folders above them are added."""
        parents = {str(parent) for name in entries for parent in Path(name).parents} - {"."}
        everything: dict[str, Entry] = {name: Folder() for name in parents} | dict(entries)
        archive = tar({name: everything[name] for name in sorted(everything)})
        return cls(gz(archive), digest(archive))


@dataclass(frozen=True)
class Image:
    """An image for one platform.

    Attributes:
        architecture: as Go names it, such as "amd64".
        layers: from the lowest to the topmost.
        runtime: how a container of it runs: the object "config" of an image's configuration.
        created: when it was made, by RFC 3339.
        annotations: of its manifest.
        variant: variant of the architecture, such as "v8".
    """

    architecture: str
    layers: Sequence[Layer]
    runtime: Json
    created: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    variant: str = ""

    def platform(self) -> Json:
        """Return the platform as an index names it."""
        return {"os": "linux", "architecture": self.architecture, **({"variant": self.variant} if self.variant else {})}

    def config(self) -> bytes:
        """Return the image's configuration; its digest is the image's ID."""
        history = [{"created": self.created, "created_by": "tools/build_image.py"} for _ in self.layers]
        return encoded(
            {
                **self.platform(),
                "created": self.created,
                "config": self.runtime,
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
                "history": history,
            }
        )

    def manifest(self) -> bytes:
        """Return the manifest, which names the configuration and the layers."""
        return encoded(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": descriptor(CONFIG_TYPE, self.config()),
                "layers": [descriptor(layer.media_type, layer.blob) for layer in self.layers],
                "annotations": dict(self.annotations),
            }
        )

    def blobs(self) -> Iterator[bytes]:
        """Yield the content of all files of the image."""
        yield from (layer.blob for layer in self.layers)
        yield self.config()
        yield self.manifest()


def descriptor(media_type: str, content: bytes, **more: Any) -> Json:
    """Return what refers to content.

    Args:
        media_type: of the content.
        content: the content.
        more: other members, such as a platform.
    """
    return {"mediaType": media_type, "digest": digest(content), "size": len(content), **more}


def index(images: Sequence[Image], annotations: Mapping[str, str]) -> bytes:
    """Return the index of one image for several platforms; its digest is the image's."""
    manifests = [descriptor(MANIFEST_TYPE, image.manifest(), platform=image.platform()) for image in images]
    return encoded(
        {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests, "annotations": dict(annotations)}
    )


def layout(images: Sequence[Image], reference: str, annotations: Mapping[str, str]) -> dict[str, Entry]:
    """Return the files of an image layout that holds one image for several platforms.

    Args:
        images: the image for each platform.
        reference: name of the image, such as "localhost/kubevault:0.1.0".
        annotations: of the image's index.
    """
    whole = index(images, annotations)
    blobs = [*(blob for image in images for blob in image.blobs()), whole]
    return _layout(blobs, descriptor(INDEX_TYPE, whole, annotations=_names(reference)))


def archive(image: Image, reference: str) -> bytes:
    """Return an image for one platform as an archive.

    It is an image layout, and has what Docker's own format asks for beside it, so that each of `ctr images import`,
    `docker load` and `podman load` takes it.

    Args:
        image: the image.
        reference: name of the image, such as "localhost/kubevault:0.1.0".
    """
    main = descriptor(MANIFEST_TYPE, image.manifest(), platform=image.platform(), annotations=_names(reference))
    files = _layout(image.blobs(), main)
    # https://github.com/moby/docker-image-spec/blob/v1.3.1/spec.md#combined-image-json--filesystem-changeset-format
    docker = {
        "Config": _path(image.config()),
        "RepoTags": [reference],
        "Layers": [_path(layer.blob) for layer in image.layers],
    }
    files["manifest.json"] = File(json.dumps([docker], separators=(",", ":")).encode())
    folders: dict[str, Entry] = {"blobs": Folder(), "blobs/sha256": Folder()}
    return tar(folders | {name: files[name] for name in sorted(files)})


def _layout(blobs: Iterator[bytes] | Sequence[bytes], main: Json) -> dict[str, Entry]:
    files: dict[str, Entry] = {
        "oci-layout": File(encoded(LAYOUT)),
        "index.json": File(encoded({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [main]})),
    }
    return files | {_path(blob): File(blob) for blob in blobs}


def _path(blob: bytes) -> str:
    return "blobs/" + digest(blob).replace(":", "/")


def _names(reference: str) -> dict[str, str]:
    """Return the annotations by which a layout names an image: the OCI's has the tag, containerd's the whole name."""
    return {
        "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
        "io.containerd.image.name": reference,
    }


@dataclass(frozen=True)
class Base:
    """What an image for one platform is built on.

    Attributes:
        entries: all files by their paths.
        layers: its layers.
        runtime: how a container of it runs.
        variant: variant of the architecture.
    """

    entries: Mapping[str, Entry]
    layers: Sequence[Layer]
    runtime: Json = field(default_factory=dict)
    variant: str = ""


def read_layout(files: Mapping[str, Entry], architecture: str) -> Base | None:
    """Return the image for an architecture that a layout holds; None if it holds none.

    Args:
        files: files of the layout by their names.
        architecture: as Go names it.

    Raises:
        ValueError: the layout is incomplete, or a blob is not what its digest says.
    """
    for manifest in _manifests(files, json.loads(_content(files, "index.json"))):
        config = json.loads(_blob(files, manifest["config"]["digest"]))
        if (config["os"], config["architecture"]) == ("linux", architecture):
            layers: list[Layer] = []
            entries: dict[str, Entry] = {}
            for item, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
                layer = Layer(_blob(files, item["digest"]), diff_id, item["mediaType"])
                layers.append(layer)
                entries = _stacked(entries, read_tar(layer.blob))
            return Base(entries, layers, config.get("config", {}), config.get("variant", ""))
    return None


def _manifests(files: Mapping[str, Entry], found: Json) -> Iterator[Json]:
    for item in found["manifests"]:
        content = json.loads(_blob(files, item["digest"]))
        if "manifests" in content:
            yield from _manifests(files, content)
        elif "rootfs" in json.loads(_blob(files, content["config"]["digest"])):  # not an attestation
            yield content


def _blob(files: Mapping[str, Entry], wanted: str) -> bytes:
    content = _content(files, "blobs/" + wanted.replace(":", "/"))
    if digest(content) != wanted:
        raise ValueError(f"the blob {wanted} has the digest {digest(content)}")
    return content


def _content(files: Mapping[str, Entry], name: str) -> bytes:
    entry = files.get(name)
    if not isinstance(entry, File):
        raise ValueError(f"the layout has no file {name}")  # noqa: TRY004 - what is wrong is the layout's content
    return entry.content


def _stacked(lower: Mapping[str, Entry], upper: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return what is there after a layer, by the names of files that it removes.

    Source: https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#whiteouts
    """
    result = dict(lower)
    for name in upper:
        folder, _, last = name.rpartition("/")
        if last.startswith(".wh."):
            removed = folder if last == ".wh..wh..opq" else f"{folder}/{last[4:]}".lstrip("/")
            result = {path: entry for path, entry in result.items() if not f"{path}/".startswith(f"{removed}/")}
    return result | {name: entry for name, entry in upper.items() if not Path(name).name.startswith(".wh.")}
