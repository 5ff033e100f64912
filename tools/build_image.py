"""Builds the image of the command: ``make image``, or ``python tools/build_image.py [OUTPUT]``.

OUTPUT (``dist/image``) then holds, for the version and each architecture:

- ``oci/``: an image layout of all platforms, for skopeo, buildah, podman, crane and regctl;
- ``kubevault-VERSION-ARCH.tar``: for `ctr images import`, `docker load` and `podman load`;
- ``kubevault-VERSION-ARCH.cdx.json``: a CycloneDX software bill of materials.

No container engine and no right of root is needed; a foreign architecture is not emulated, since nothing of it is run.
Two builds of one commit with the same packages give one digest. `images/kubevault/image.toml` says what is in it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import build_dist
import image_bill
import oci
from debian import DebianError, Package, download
from elf import parse
from reproducible import Entry, File, Folder, Link, read_tar

from kubevault_lab.cache import target_platform
from kubevault_lab.errors import BuildError
from kubevault_lab.gobuild import check_go
from kubevault_lab.projects import BUILD_FLAGS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "images/kubevault"
PLATFORMS = {"amd64": "x86_64", "arm64": "aarch64"}
"""Architectures by their names in Go, Debian and the OCI's specification, and as wheels name them."""

EXEC = "usr/local/bin/kubevault-exec"
COMMAND = "usr/local/bin/kubevault"
CERTIFICATES = "usr/share/ca-certificates/"
BUNDLE = "etc/ssl/certs/ca-certificates.crt"


class ImageError(Exception):
    """The image cannot be built; the text says what to do."""


@dataclass(frozen=True)
class Foundation:
    """What the image for one platform is built on.

    Attributes:
        base: its files and layers; of Debian's packages, the files alone.
        packages: Debian's packages in it, as far as they are known.
    """

    base: oci.Base
    packages: Sequence[Package] = ()


def main() -> None:
    """Build into the folder that the command line names."""
    options = arguments()
    try:
        build(options)
    except (BuildError, DebianError, ImageError) as error:
        sys.exit(f"The image was not built: {error}")


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(prog="build_image.py", description="Build the image of the command kubevault.")
    parser.add_argument("output", nargs="?", type=Path, default=ROOT / "dist/image", help="folder; %(default)s")
    parser.add_argument(
        "--platform",
        action="append",
        choices=sorted(PLATFORMS),
        help="architecture to build for; may be given several times; all of them unless given",
    )
    parser.add_argument(
        "--extra",
        action="append",
        default=[],
        metavar="NAME",
        help="extra of the project, such as redis, to include too",
    )
    parser.add_argument("--reference", help="name of the image; localhost/kubevault:VERSION unless given")
    parser.add_argument(
        "--base", type=Path, help="another base with Python: a root folder or an OCI layout, as a folder or tar archive"
    )
    parser.add_argument("--mirror", help="URL of an archive of Debian; those of this machine's APT unless given")
    return parser.parse_args()


def build(options: argparse.Namespace) -> None:
    """Build the image.

    Raises:
        ImageError: the base does not fit.
        DebianError: packages cannot be had.
        BuildError: Go is missing or too old.
    """
    settings = tomllib.loads((SOURCE / "image.toml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    settings["python"]["extras"] += options.extra
    if unknown := set(settings["python"]["extras"]) - project["optional-dependencies"].keys():
        raise ImageError(f"pyproject.toml has no extra {', '.join(sorted(unknown))}")
    check_go(SOURCE / "exec")
    version = project["version"]
    reference = options.reference or f"localhost/kubevault:{version}"
    wanted = options.platform or sorted(PLATFORMS)
    native = target_platform()[1]
    labels = labels_of(project)
    images: list[oci.Image] = []
    bills: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="kubevault-image-") as name:
        folder = Path(name)
        own = wheel(folder / "wheel")
        foundations = {
            item: foundation(item, settings, options, folder / f"base-{item}")
            # This machine's own architecture too: its interpreter compiles.
            for item in dict.fromkeys([*wanted, native])
            if item in PLATFORMS and (item in wanted or not options.base)
        }
        contents = {
            item: application(item, found, settings, project, own, folder / f"wheels-{item}")
            for item, found in foundations.items()
        }
        compiled = byte_code(foundations.get(native), contents.get(native, {}), bool(options.base), folder / "tree")
    for item in wanted:
        found, added = foundations[item], contents[item]
        images.append(image(item, found.base, added, compiled, settings["runtime"], labels))
        metadata = [entry for name, entry in added.items() if name.endswith(".dist-info/METADATA")]
        bills[item] = image_bill.bill(version, epoch(), found.packages, metadata, go_version())
    write(options.output, images, bills, reference, version, labels)


def image(
    architecture: str,
    base: oci.Base,
    added: Mapping[str, Entry],
    compiled: Mapping[str, tuple[str, bytes]],
    runtime: oci.Json,
    labels: Mapping[str, str],
) -> oci.Image:
    """Return the image for one architecture: the base's layers, and one with what is added to it."""
    layers = base.layers or [oci.Layer.of(with_byte_code(base.entries, compiled))]
    top = oci.Layer.of(with_byte_code(added, compiled))
    merged = {**base.runtime, **runtime, "Env": environment(base, runtime["Env"]), "Labels": dict(labels)}
    merged.pop("Cmd", None)  # arguments of the base's own entry point
    return oci.Image(architecture, [*layers, top], merged, created(), labels, base.variant)


def wheel(folder: Path) -> Path:
    """Build the project's wheel in a folder, and return it."""
    build_dist.stage(folder / "staged")
    command: list[str | Path] = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder]
    build_dist.run([*command, folder / "staged"], str(folder))
    (path,) = folder.glob("*.whl")
    return path


# The base


def foundation(architecture: str, settings: oci.Json, options: argparse.Namespace, folder: Path) -> Foundation:
    """Return what the image is built on: the user's base, or Debian's packages."""
    if options.base:
        return Foundation(given_base(options.base, architecture))
    print(f"Debian's packages for {architecture}", flush=True)
    folder.mkdir()
    debian = settings["debian"]
    packages = download(debian["packages"], debian["release"], architecture, folder, options.mirror)
    return Foundation(oci.Base(debian_files(packages, settings), ()), packages)


def debian_files(packages: Sequence[Package], settings: oci.Json) -> dict[str, Entry]:
    """Return the files of a base that is made of Debian's packages.

    Raises:
        ImageError: a program or library needs one that no package has.
    """
    debian = settings["debian"]
    files: dict[str, Entry] = {}
    for package in packages:
        # Where scanners look for packages of an image without dpkg, as of distroless images.
        files[f"var/lib/dpkg/status.d/{package.name}"] = File(package.control)
        for name, entry in package.entries.items():
            if matches(name, debian["keep"]) and not matches(name, debian["drop"]) and not isinstance(entry, Folder):
                files[name] = entry
    trusted = [files.pop(name) for name in sorted(files) if name.startswith(CERTIFICATES)]
    files[BUNDLE] = File(b"".join(entry.content for entry in trusted if isinstance(entry, File)))
    files |= {name: File(text.lstrip("\n").encode()) for name, text in settings["files"].items()}
    files["tmp"] = Folder(0o1777)
    python = interpreter(files)
    files[str(python.parent / "python3")] = Link(python.name)
    return without_unneeded_libraries(files)


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a path matches one of some shell patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def without_unneeded_libraries(files: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return files without the shared libraries that nothing needs.

    Raises:
        ImageError: one that is needed is not there.
    """
    libraries: dict[str, str] = {}
    for name in files:
        if ".so" in PurePosixPath(name).name and "/python3" not in name:
            libraries.setdefault(PurePosixPath(name).name, name)
    kept: set[str] = set()
    pending = [name for name in files if name not in libraries.values()]
    while pending:
        entry = files[name := pending.pop()]
        kept.add(name)
        if isinstance(entry, Link):
            needed: Sequence[str] = [PurePosixPath(entry.target).name] if ".so" in entry.target else ()
        else:
            header = parse(entry.content) if isinstance(entry, File) else None
            needed = header.needed if header else ()
        for library in needed:
            if library not in libraries:
                raise ImageError(f"{name} needs {library}, which no package of images/kubevault/image.toml has")
            if libraries[library] not in kept:
                pending.append(libraries[library])
    return {name: entry for name, entry in files.items() if name in kept}


def given_base(path: Path, architecture: str) -> oci.Base:
    """Return the base that the user gives, for one architecture.

    Raises:
        ImageError: it is not there, or not for this architecture.
    """
    try:
        files = read_tar(path.read_bytes()) if path.is_file() else dict(folder_entries(path))
        found = oci.read_layout(files, architecture) if "oci-layout" in files else None
    except (OSError, ValueError, KeyError) as error:
        raise ImageError(f"the base {path}: {error}") from error
    if "oci-layout" not in files:
        found = oci.Base(files, [oci.Layer.of(files)])
    header = None
    if found:
        entry = found.entries[str(interpreter(found.entries))]
        header = parse(entry.content) if isinstance(entry, File) else None
    if not found or not header or header.architecture != architecture:
        raise ImageError(f"the base {path} is not for {architecture}; choose others by --platform")
    if "musl" in header.interpreter:
        raise ImageError(f"the base {path} has musl as its C library; give one with glibc, such as Debian's")
    return found


def folder_entries(root: Path) -> Iterator[tuple[str, Entry]]:
    """Yield the entries of a folder by their paths in it.

    Raises:
        OSError: the folder cannot be read.
    """
    for path in sorted(root.rglob("*") if root.is_dir() else [root]):
        name = str(path.relative_to(root))
        mode = path.lstat().st_mode & 0o7777
        if path.is_symlink():
            yield name, Link(str(path.readlink()))
        elif path.is_dir():
            yield name, Folder(mode)
        elif path.is_file():
            yield name, File(path.read_bytes(), mode)


def interpreter(files: Mapping[str, Entry]) -> PurePosixPath:
    """Return the path of a base's Python, such as "usr/bin/python3.11".

    Raises:
        ImageError: there is none that is new enough.
    """
    found: dict[int, PurePosixPath] = {}
    for name, entry in files.items():
        if isinstance(entry, File) and (match := re.fullmatch(r"(?:usr/|usr/local/)?bin/python3\.(\d+)", name)):
            found[int(match[1])] = PurePosixPath(name)
    if not found or max(found) < 11:
        raise ImageError("the base has no Python 3.11 or newer in /usr/bin or /usr/local/bin")
    return found[max(found)]


def site_folder(files: Mapping[str, Entry]) -> PurePosixPath:
    """Return the folder where a base's Python looks for packages: Debian's has a name and a place of its own."""
    python = interpreter(files)
    library = python.parents[1] / "lib" / python.name
    for name in ("site.py", "site.pyc"):
        site = files.get(str(library / name))
        if isinstance(site, File) and b"dist-packages" in site.content:
            return PurePosixPath("usr/local/lib", python.name, "dist-packages")
    return library / "site-packages"


def environment(base: oci.Base, ours: Sequence[str]) -> list[str]:
    """Return the variables of a container: the base's and ours; the place of certificates only where that file is."""
    merged = dict(item.split("=", 1) for item in base.runtime.get("Env", []))
    for name, value in (item.split("=", 1) for item in ours):
        if name != "SSL_CERT_FILE" or value.lstrip("/") in base.entries:
            merged.setdefault(name, value)
    return [f"{name}={value}" for name, value in merged.items()]


# The application


def application(
    architecture: str, found: Foundation, settings: oci.Json, project: oci.Json, own: Path, folder: Path
) -> dict[str, Entry]:
    """Return the files that are added to the base: Python packages, the command, kubevault-exec."""
    print(f"Python packages and kubevault-exec for {architecture}", flush=True)
    python, site = interpreter(found.base.entries), site_folder(found.base.entries)
    names = build_dist.closure(project, settings["python"]["extras"]) - set(settings["python"]["without"])
    folder.mkdir()
    fetch(names, architecture, python.name.removeprefix("python"), folder)
    files: dict[str, Entry] = {}
    for path in [*sorted(folder.glob("*.whl")), own]:
        files |= {str(site / name): entry for name, entry in unpacked(path)}
    files[COMMAND] = File(entry_point(python).encode(), 0o755)
    files[EXEC] = File(kubevault_exec(architecture, folder), 0o755)
    return files


def fetch(names: set[str], architecture: str, python: str, folder: Path) -> None:
    """Download the wheels of packages as they are locked."""
    requirements = folder / "requirements.txt"
    requirements.write_text("".join(build_dist.locked(names)), encoding="utf-8")
    machine, abi = PLATFORMS[architecture], "cp" + python.replace(".", "")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--progress-bar=off"]
    command += ["--require-hashes", "--no-deps", "--only-binary=:all:", f"--python-version={python}"]
    command += ["--implementation=cp", f"--abi={abi}", "--abi=abi3", "--abi=none"]
    command += [f"--platform={tag}_{machine}" for tag in ("manylinux2014", "manylinux_2_28")]
    build_dist.run([*command, "--requirement", requirements, "--dest", folder], str(folder))


def unpacked(path: Path) -> Iterator[tuple[str, Entry]]:
    """Yield the files of a wheel as they are installed; scripts are left out."""
    with zipfile.ZipFile(path) as archive:
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            if not info.is_dir() and ".data/" not in info.filename:
                yield info.filename, File(archive.read(info))


def entry_point(python: PurePosixPath) -> str:
    """Return the script of the command. It reads no variable of Python and no folder but the packages' (-I)."""
    return f"#!/{python} -I\nfrom secretmanager.commands.main import main\n\nmain()\n"


def kubevault_exec(architecture: str, folder: Path) -> bytes:
    """Build kubevault-exec, which needs no library.

    Raises:
        BuildError: Go failed.
    """
    out = folder / "kubevault-exec"
    done = subprocess.run(  # noqa: S603 - arguments of our own
        ["go", "build", *BUILD_FLAGS, "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, "."],  # noqa: S607 - the user's own Go
        cwd=SOURCE / "exec",
        env={**os.environ, "GOWORK": "off", "CGO_ENABLED": "0", "GOOS": "linux", "GOARCH": architecture},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildError(f"kubevault-exec: {done.stderr.strip()}")
    return out.read_bytes()


def go_version() -> str:
    """Return the version of Go that builds kubevault-exec, such as "1.26.8"."""
    command = ["go", "env", "GOVERSION"]
    found = subprocess.check_output(command, cwd=SOURCE / "exec", text=True)  # noqa: S603 - as above
    return found.strip().removeprefix("go")


# Byte code


def byte_code(
    found: Foundation | None, added: Mapping[str, Entry], application_only: bool, folder: Path
) -> dict[str, tuple[str, bytes]]:
    """Compile modules by the base's own interpreter, which this machine can run.

    Byte code is the same on every architecture, and the root of a container is read-only, so it is made here.

    Returns:
        By the path of each module: the digest of its source, and its byte code.
    """
    if not found:
        print("No byte code, so the command starts slower: this machine cannot run the base's Python.", flush=True)
        return {}
    entries = {**found.base.entries, **added}
    modules = [name for name in (added if application_only else entries) if name.endswith(".py")]
    for name, entry in entries.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(entry, Link):
            # A link to an absolute path would lead out of the folder.
            target = "/".join([".."] * (len(PurePosixPath(name).parts) - 1)) + entry.target
            path.symlink_to(target if entry.target.startswith("/") else entry.target)
        elif isinstance(entry, File):
            path.write_bytes(entry.content)
            path.chmod(0o755)
    python = folder / interpreter(entries)
    header = parse(python.read_bytes())
    if not header:
        raise ImageError(f"{interpreter(entries)} of the base is not a program")
    loader = (folder / header.interpreter.lstrip("/")).resolve()
    libraries = ":".join(sorted({str(path.parent) for path in folder.rglob("*.so*")}))
    listing = folder / "modules"
    listing.write_text("".join(f"{folder / name}\n" for name in sorted(modules)), encoding="utf-8")
    compile_all: list[str | Path] = ["-I", "-m", "compileall", "-q", "-b", "-i", listing, "-s", folder, "-p", "/"]
    # Python's sets have an order of their own in each process, and byte code holds them.
    done = subprocess.run(  # noqa: S603 - the base's own Python
        [loader, "--library-path", libraries, python, *compile_all, "--invalidation-mode", "unchecked-hash"],
        env={"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ImageError(f"modules cannot be compiled: {done.stdout}{done.stderr}")
    compiled = {name: (folder / f"{name}c").read_bytes() for name in modules}
    return {name: (hashlib.sha256((folder / name).read_bytes()).hexdigest(), code) for name, code in compiled.items()}


def with_byte_code(files: Mapping[str, Entry], compiled: Mapping[str, tuple[str, bytes]]) -> dict[str, Entry]:
    """Return files with byte code in place of the modules that it was made of."""
    result: dict[str, Entry] = {}
    for name, entry in files.items():
        source, code = compiled.get(name, ("", b""))
        if isinstance(entry, File) and hashlib.sha256(entry.content).hexdigest() == source:
            result[f"{name}c"] = File(code, entry.mode)
        else:
            result[name] = entry
    return result


# What it is


def labels_of(project: oci.Json) -> dict[str, str]:
    """Return what is said about the image.

    Source: https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md
    """
    found = {
        "title": project["name"],
        "description": project["description"],
        "version": project["version"],
        "licenses": project["license"],
        "created": created(),
        "revision": git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"),
    }
    return {f"org.opencontainers.image.{name}": value for name, value in found.items()}


def created() -> str:
    """Return the time of the image, by RFC 3339."""
    return epoch().strftime("%Y-%m-%dT%H:%M:%SZ")


def epoch() -> datetime:
    """Return the time of the commit, or that which SOURCE_DATE_EPOCH gives."""
    return datetime.fromtimestamp(int(build_dist.epoch()), UTC)


def git(*arguments: str) -> str:
    """Return what Git says about the sources."""
    return subprocess.check_output(["git", "-C", ROOT, *arguments], text=True).strip()  # noqa: S603, S607 - ours


# The result


def write(
    output: Path,
    images: Sequence[oci.Image],
    bills: Mapping[str, str],
    reference: str,
    version: str,
    labels: Mapping[str, str],
) -> None:
    """Write layout, archives and bills of materials, in place of those of an earlier build; print what there is."""
    output.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(output / "oci", ignore_errors=True)
    for name, entry in oci.layout(images, reference, labels).items():
        path = output / "oci" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(entry, File):
            path.write_bytes(entry.content)
    print(f"{output / 'oci'}: {reference}, {oci.digest(oci.index(images, labels))}")
    for image in images:
        archive = output / f"kubevault-{version}-{image.architecture}.tar"
        archive.write_bytes(oci.archive(image, reference))
        archive.with_suffix(".cdx.json").write_text(bills[image.architecture], encoding="utf-8")
        compressed = sum(len(layer.blob) for layer in image.layers)
        print(f"{archive}: {compressed / 1e6:.1f} MB, {oci.digest(image.manifest())}")


if __name__ == "__main__":
    main()
