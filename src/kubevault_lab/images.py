"""Load images into the containerd of a lab's node."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

from .errors import LabError

NAMESPACE = "k8s.io"
"""The namespace of containerd in which the kubelet sees images."""

NAME = "io.containerd.image.name"
"""Annotation by which an OCI layout gives containerd the whole name of an image."""


def load(socket: str, source: Path, *, write: bool = True) -> bool:
    """Load the images of an OCI layout into containerd, unless it has them by these names.

    Args:
        socket: path of containerd's socket.
        source: the OCI layout, a folder or a tar archive. Its index.json names each image by the annotation `NAME`.
        write: False to load nothing.

    Returns:
        Whether an image was loaded, or would have been.

    Raises:
        LabError: this is no such layout, or containerd refused it.
    """
    wanted = {
        image["annotations"][NAME]: image["digest"]
        for image in json.loads(_index(source)).get("manifests", [])
        if NAME in image.get("annotations", {})
    }
    if not wanted:
        raise LabError(f"{source}: no image in its index.json has the annotation {NAME}")
    # A header; then the columns reference, type, digest, ...
    rows = [line.split() for line in _ctr(socket, "list").splitlines()[1:]]
    if wanted.items() <= {row[0]: row[2] for row in rows}.items():
        return False
    if write and source.is_dir():
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as layout:
            layout.add(source, ".")
        _ctr(socket, "import", "-", data=archive.getvalue())
    elif write:
        _ctr(socket, "import", str(source))
    return True


def _index(source: Path) -> bytes:
    try:
        if source.is_dir():
            return (source / "index.json").read_bytes()
        with tarfile.open(source) as archive:
            member = next((each for each in archive if each.name.removeprefix("./") == "index.json"), None)
            file = archive.extractfile(member) if member else None
            if file:
                return file.read()
    except (OSError, tarfile.TarError) as error:
        raise LabError(f"{source} is not an OCI layout: {error}") from error
    raise LabError(f"{source} is not an OCI layout: it has no index.json")


def _ctr(socket: str, *arguments: str, data: bytes | None = None) -> str:
    command = ["ctr", "--address", socket, "--namespace", NAMESPACE, "images", *arguments]
    done = subprocess.run(command, input=data, capture_output=True, check=False)  # noqa: S603 - our own arguments
    if done.returncode:
        raise LabError(f"{' '.join(command)} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode()
