"""Pack the stand-in for MicroK8s, and the two snaps that snapd otherwise asks its store for.

The content of snapd's own snap comes from the root file system of a host with Debian's package snapd.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from kubevault_lab.binaries import Provider
from kubevault_lab.hosts.rootfs import RootFileSystem

HERE = Path(__file__).parent
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")


def main() -> None:
    """Write bare.snap, snapd.snap and microk8s.snap into a folder, of what the lab's cache has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("into", type=Path, help="folder for the snaps")
    parser.add_argument("--version", help="what it calls itself; default: the version of Kubernetes")
    options = parser.parse_args()
    pack_of_the_lab(options.into, options.version)


def pack_of_the_lab(into: Path, version: str | None = None) -> None:
    """Write bare.snap, snapd.snap and microk8s.snap into a folder, of what the lab's cache has.

    Args:
        into: the folder.
        version: what the snap calls itself; None for the version of Kubernetes.

    Raises:
        kubevault_lab.errors.LabError: a program cannot be had.
        subprocess.CalledProcessError: mksquashfs failed.
    """
    provider = Provider.from_environment()
    version = version or provider.programs["kube-apiserver"].version(provider.tools)
    pack(into, RootFileSystem.from_environment().provide(), version, provider.provide(PROGRAMS))


def pack(into: Path, root: Path, version: str, programs: dict[str, Path]) -> None:
    """Write bare.snap, snapd.snap and microk8s.snap.

    Args:
        into: folder for them.
        root: root file system with Debian's package snapd.
        version: version of Kubernetes.
        programs: path of each of `PROGRAMS`.

    Raises:
        subprocess.CalledProcessError: mksquashfs failed.
    """
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into) as folder:
        bare, snapd, microk8s = (Path(folder, name) for name in ("bare", "snapd", "microk8s"))
        _describe(bare, "name: bare\nversion: '1.0'\ntype: base\n")
        _describe(snapd, "name: snapd\nversion: stand-in\ntype: snapd\n")
        shutil.copytree(root / "usr/lib/snapd", snapd / "usr/lib/snapd", symlinks=True)
        shutil.copytree(HERE / "snap", microk8s, ignore=shutil.ignore_patterns("__pycache__"))
        description = microk8s / "meta/snap.yaml"
        description.write_text(description.read_text().replace("VERSION", f"v{version}"))
        (microk8s / "bin").mkdir()
        for name, path in programs.items():
            shutil.copy(path, microk8s / "bin" / name)
        for content in (bare, snapd, microk8s):
            _squash(content, into / f"{content.name}.snap")


def _describe(snap: Path, description: str) -> None:
    (snap / "meta").mkdir(parents=True)
    (snap / "meta/snap.yaml").write_text(description)


def _squash(content: Path, into: Path) -> None:
    # Without times: the same content is the same file.
    options = ["-noappend", "-all-root", "-no-xattrs", "-comp", "zstd", "-Xcompression-level", "3", "-all-time", "0"]
    options += ["-mkfs-time", "0"]
    subprocess.run(["mksquashfs", content, into, *options], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
