"""Writes an image of a static program that is on this machine: `program_image.py ARCHIVE REFERENCE PROGRAM [ARG ...]`.

No container engine is needed. The same program gives the same archive, which `ctr images import` takes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import oci
from reproducible import Entry, File

from kubevault_lab.cache import target_platform

CREATED = "1970-01-01T00:00:00Z"


def program_image(reference: str, files: Mapping[str, Entry], entrypoint: Sequence[str]) -> bytes:
    """Return an image of one layer for this machine's architecture, as an archive; no user is named in it but "nobody".

    Args:
        reference: name of the image, such as "localhost/example:1".
        files: what is in it, by paths without a leading slash.
        entrypoint: the program, by its absolute path in the image, and its arguments.
    """
    runtime = {"Entrypoint": list(entrypoint), "User": "65534:65534", "WorkingDir": "/"}
    return oci.archive(oci.Image(target_platform()[1], [oci.Layer.of(files)], runtime, CREATED), reference)


def main() -> None:
    """Write the image that the command line describes."""
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    archive, reference, program, *arguments = sys.argv[1:]
    path = f"/bin/{Path(program).name}"
    files = {path.removeprefix("/"): File(Path(program).read_bytes(), 0o755)}
    Path(archive).write_bytes(program_image(reference, files, [path, *arguments]))


if __name__ == "__main__":
    main()
