"""The upstream projects whose servers the lab runs: their releases, and their modules in tools/ to build.

The version of each is the one that its go.mod in tools/ requires; it is stated nowhere else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .errors import LabError

BUILD_FLAGS = ("-mod=readonly", "-trimpath")
"""Flags of `go build` for every program, besides `-ldflags`."""

TOOLS = Path(__file__).resolve().parents[2] / "tools"
"""Folder with a Go module for each project."""


@dataclass(frozen=True)
class Release:
    """A file of an official release.

    Attributes:
        url: its address.
        checksums_url: address of its published SHA-256, alone or in a list as sha256sum(1) writes it.
        member: path of the program inside the archive; empty if the file is the program.
        signature_url: address of the OpenPGP signature of its checksums; empty if it is not used.
    """

    url: str
    checksums_url: str
    member: str = ""
    signature_url: str = ""


@dataclass(frozen=True, eq=False)
class Project:
    """An upstream project.

    Attributes:
        name: its folder in tools/.
        module: the Go module whose version is the project's.
        packages: Go package of each program.
        version_argument: argument with which its programs print their version.
        release: returns the release of a program, from program, version, operating system and architecture.
        ldflags: returns the linker's flags, from the version; upstream's build sets the version with them.
    """

    name: str
    module: str
    packages: Mapping[str, str]
    version_argument: str
    release: Callable[[str, str, str, str], Release]
    ldflags: Callable[[str], str] = field(default=lambda version: "-s -w")

    def version(self, tools: Path) -> str:
        """Read the pinned version, without its "v".

        Args:
            tools: folder with a Go module for each project.

        Raises:
            LabError: there is no such module, or it does not require the project.
        """
        go_mod = tools / self.name / "go.mod"
        try:
            text = go_mod.read_text(encoding="utf-8")
        except OSError as error:
            raise LabError(f"{go_mod}: {error.strerror}; it pins the version of {self.name}") from error
        # A line of a require block, or a require line of its own (https://go.dev/ref/mod#go-mod-file-require).
        pattern = rf"^\s*(?:require\s+)?{re.escape(self.module)}\s+v(\S+)\s*(?://.*)?$"
        found = re.search(pattern, text, re.MULTILINE)
        if not found:
            raise LabError(f"{go_mod}: requires no version of {self.module}; run go get {self.module}@VERSION")
        return found[1]

    def cache_key(self, tools: Path) -> str:
        """Return the part of a name in the cache that identifies a pin: version and fingerprint.

        The fingerprint is a hash of what a build depends on: its flags, go.mod, and go.sum, which identifies the
        sources. A downloaded release has the same name as a build of its pin, so that the path is known beforehand;
        the price is another download if only the flags or go.sum change.

        Args:
            tools: folder with a Go module for each project.

        Raises:
            LabError: as `version`.
        """
        version = self.version(tools)
        parts = [" ".join((*BUILD_FLAGS, self.ldflags(version))).encode()]
        for name in ("go.mod", "go.sum"):
            path = tools / self.name / name
            parts.append(path.read_bytes() if path.exists() else b"")
        digests = b"".join(hashlib.sha256(part).digest() for part in parts)
        return f"{version}-{hashlib.sha256(digests).hexdigest()[:12]}"


def _etcd(program: str, version: str, system: str, architecture: str) -> Release:
    base = f"https://github.com/etcd-io/etcd/releases/download/v{version}"
    folder = f"etcd-v{version}-{system}-{architecture}"
    return Release(f"{base}/{folder}.tar.gz", f"{base}/SHA256SUMS", f"{folder}/{program}")


def _kubernetes(program: str, version: str, system: str, architecture: str) -> Release:
    url = f"https://dl.k8s.io/v{version}/bin/{system}/{architecture}/{program}"
    return Release(url, f"{url}.sha256")


def _kubernetes_ldflags(version: str) -> str:
    # As hack/lib/version.sh of Kubernetes does: the default is v0.0.0, which clients refuse.
    major, minor, _ = version.split(".", 2)
    values = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
    return " ".join(("-s -w", *(f"-X k8s.io/component-base/version.{name}={value}" for name, value in values.items())))


def _vault(program: str, version: str, system: str, architecture: str) -> Release:
    base = f"https://releases.hashicorp.com/vault/{version}/vault_{version}"
    checksums = f"{base}_SHA256SUMS"
    return Release(f"{base}_{system}_{architecture}.zip", checksums, program, f"{checksums}.sig")


NODE_PROGRAMS = ("kube-scheduler", "kubelet", "kubectl")
"""Names of the programs that only a lab with a node needs. kubelet exists for Linux alone."""

PROJECTS = (
    Project("etcd", "go.etcd.io/etcd/server/v3", {"etcd": "go.etcd.io/etcd/server/v3"}, "--version", _etcd),
    Project(
        "kubernetes",
        "k8s.io/kubernetes",
        {
            program: f"k8s.io/kubernetes/cmd/{program}"
            for program in ("kube-apiserver", "kube-controller-manager", *NODE_PROGRAMS)
        },
        "--version",
        _kubernetes,
        _kubernetes_ldflags,
    ),
    Project("vault", "github.com/hashicorp/vault", {"vault": "github.com/hashicorp/vault"}, "version", _vault),
)

PROGRAMS = tuple(program for project in PROJECTS for program in project.packages)
"""Names of all programs."""

SERVER_PROGRAMS = tuple(program for program in PROGRAMS if program not in NODE_PROGRAMS)
"""Names of the programs that every lab needs."""
