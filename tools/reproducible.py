"""Archives whose bytes depend on their content alone: files in order, without times and owners."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable, Iterable, Mapping


def read_tar_gz(archive: bytes) -> dict[str, bytes]:
    """Return the content of each file of an archive, by its name."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        return {name: file.read() for name, file in files.items() if file}


def tar_gz(
    files: Mapping[str, bytes], folders: Iterable[str] = (), key: Callable[[str], object] = lambda name: name
) -> bytes:
    """Return an archive.

    Args:
        files: content of each file by its name.
        folders: names of folders.
        key: order of the files.
    """
    out = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=out, mode="wb", mtime=0, filename="") as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in sorted(folders):
            tar.addfile(_entry(name, tarfile.DIRTYPE, 0o755))
        for name in sorted(files, key=key):  # type: ignore[type-var,arg-type]
            tar.addfile(_entry(name, tarfile.REGTYPE, 0o644, len(files[name])), io.BytesIO(files[name]))
    return out.getvalue()


def _entry(name: str, kind: bytes, mode: int, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size = kind, mode, size
    return info
