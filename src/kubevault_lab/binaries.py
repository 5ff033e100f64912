"""The programs of the lab's servers: found, fetched or built.

Each comes from the first of these that has it:

1. a path that the user gives (KUBEVAULT_ETCD, KUBEVAULT_KUBE_APISERVER, ...), or PATH if it has the pinned version;
2. the cache: KUBEVAULT_CACHE, else kubevault in the user's cache folder (XDG_CACHE_HOME, ~/.cache);
3. the official release with its published SHA-256, from upstream or KUBEVAULT_MIRROR;
4. a build of the Go module that tools/ pins.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from .cache import Cache, Work, target_platform
from .errors import BuildError, ChecksumError, DownloadError, LabError
from .progress import Progress, duration
from .projects import PROGRAMS, PROJECTS, TOOLS, Project

VERSION_TIMEOUT = 10.0
"""Seconds that a program on PATH may take to say its version."""


def variable(program: str) -> str:
    """Return the name of the environment variable for a program's path."""
    return "KUBEVAULT_" + program.upper().replace("-", "_")


def said_version(output: str) -> str | None:
    """Find the version, without its "v", in what a program such as `etcd --version` says."""
    found = re.search(r"\bv?(\d+\.\d+\.\d+[^\s,]*)", output)
    return found[1] if found else None


@dataclass(frozen=True)
class Provider:
    """Provides programs.

    Attributes:
        cache: where they are kept.
        given: paths that the user set, by program.
        mirror: base URL of a mirror of the releases; None for upstream.
        tools: folder with a Go module for each project.
        projects: whose programs there are.
        progress: reports what is done.
    """

    cache: Cache
    given: Mapping[str, Path] = field(default_factory=dict)
    mirror: str | None = None
    tools: Path = TOOLS
    projects: tuple[Project, ...] = PROJECTS
    progress: Progress = field(default_factory=Progress)

    @classmethod
    def from_environment(
        cls,
        *,
        given: Mapping[str, str] | None = None,
        cache: str | None = None,
        mirror: str | None = None,
        progress: Progress | None = None,
    ) -> Provider:
        """Take what is not given from the environment.

        Args:
            given: paths by program, instead of KUBEVAULT_ETCD and the like.
            cache: folder, instead of KUBEVAULT_CACHE.
            mirror: base URL, instead of KUBEVAULT_MIRROR.
            progress: reports what is done.
        """
        paths = {program: os.environ.get(variable(program)) for program in PROGRAMS} | dict(given or {})
        # A relative XDG_CACHE_HOME is to be ignored (XDG Base Directory Specification).
        home = Path(os.environ.get("XDG_CACHE_HOME", ""))
        default = (home if home.is_absolute() else Path.home() / ".cache") / "kubevault"
        folder = cache or os.environ.get("KUBEVAULT_CACHE")
        return cls(
            Cache(Path(folder).expanduser().absolute() if folder else default),
            {program: Path(path).expanduser().absolute() for program, path in paths.items() if path},
            mirror or os.environ.get("KUBEVAULT_MIRROR") or None,
            progress=progress or Progress(),
        )

    @property
    def programs(self) -> dict[str, Project]:
        """The programs there are, and whose they are."""
        return {program: project for project in self.projects for program in project.packages}

    def provide(self, names: Iterable[str] | None = None) -> dict[str, Path]:
        """Provide programs, whatever it takes.

        Args:
            names: which; all where None.

        Returns:
            The absolute path of each.

        Raises:
            LabError: one cannot be provided; says what to do.
        """
        found = self.locate(names)
        missing = [program for program, path in found.items() if path is None]
        return {program: path for program, path in found.items() if path} | self.obtain(missing)

    def locate(self, names: Iterable[str] | None = None) -> dict[str, Path | None]:
        """Find programs that are there: given, on PATH or in the cache. Changes nothing.

        Args:
            names: which; all where None.

        Returns:
            The absolute path of each, None if it is missing.

        Raises:
            LabError: there is no such program, or a given path is no program.
        """
        programs = self.programs
        chosen = list(programs) if names is None else list(names)
        if unknown := sorted({*chosen, *self.given} - set(programs)):
            raise LabError(f"no program {', '.join(unknown)}; there are {', '.join(programs)}")
        return {program: self._find(program, programs[program]) for program in chosen}

    def obtain(self, names: Iterable[str]) -> dict[str, Path]:
        """Put programs into the cache: from their releases, and where that fails from a build.

        Args:
            names: which; a program that is in the cache stays as it is.

        Returns:
            The absolute path of each.

        Raises:
            LabError: one cannot be provided; says what to do.
        """
        wanted = set(names)
        chosen = {
            project: [program for program in project.packages if program in wanted]
            for project in self.projects
            if wanted & set(project.packages)
        }
        if not chosen:
            return {}
        try:
            failures = self._download(chosen)
            self._build(chosen, failures)
        except OSError as error:
            raise LabError(
                f"the cache {self.cache.folder} cannot be used: {error}; set KUBEVAULT_CACHE to another folder"
            ) from error
        return {
            program: self.cache.path(program, self._key(project))
            for project, programs in chosen.items()
            for program in programs
        }

    def plan(self, program: str) -> str:
        """Say how a program that is missing would be provided."""
        project = self.programs[program]
        version = self._version(project)
        release = project.release(program, version, *target_platform())
        source = f" from the mirror {self.mirror}" if self.mirror else ""
        return f"{program} {version}: the release {release.url}{source}, else a build of {self.tools / project.name}"

    def destination(self, program: str) -> Path:
        """Return the place in the cache where a program belongs."""
        return self.cache.path(program, self._key(self.programs[program]))

    def _version(self, project: Project) -> str:
        return project.version(self.tools)

    def _key(self, project: Project) -> str:
        return project.cache_key(self.tools)

    def _find(self, program: str, project: Project) -> Path | None:
        if path := self.given.get(program):
            if not path.is_file() or not os.access(path, os.X_OK):
                fault = "is not executable" if path.is_file() else "is not a file"
                raise LabError(
                    f"{variable(program)}: found {path}, which {fault}; give the path of {program}, or unset it"
                )
            return path
        version = self._version(project)
        if on_path := shutil.which(program):
            found = _ask_version(on_path, project.version_argument)
            if found == version:
                return Path(on_path).absolute()
            self.progress.say(f"{program}: {on_path} is not used: its version is {found or 'unknown'}, not {version}")
        return self.cache.find(program, self._key(project))

    def _download(self, chosen: Mapping[Project, list[str]]) -> dict[str, DownloadError]:
        """Fetch what is missing in the cache; return why a program could not be fetched."""
        # Takes 50 ms to import, and is rarely needed.
        from .releases import Downloader

        downloader = Downloader(self.mirror, self.progress)
        failures = {}
        for project, programs in chosen.items():
            version = self._version(project)
            with self._exclusive(project) as work:
                for program in programs:
                    if self.cache.find(program, self._key(project)):
                        continue
                    title = f"{program} {version}"
                    try:
                        release = project.release(program, version, *target_platform())
                        file = downloader.fetch(release, work.folder, title)
                    except DownloadError as error:
                        tell = self.progress.warn if isinstance(error, ChecksumError) else self.progress.say
                        tell(f"{title}: not downloaded: {error}")
                        failures[program] = error
                    else:
                        self.cache.install(file, program, self._key(project))
                        self.progress.say(f"{title}: downloaded, its checksum is right")
        return failures

    def _build(self, chosen: Mapping[Project, list[str]], failures: Mapping[str, DownloadError]) -> None:
        """Build what could not be downloaded."""
        # Lazily: where all is downloaded, there is nothing to build.
        from . import gobuild

        left = {
            project: programs
            for project, all_programs in chosen.items()
            if (programs := [program for program in all_programs if program in failures])
        }
        # First of all projects: a build may take a quarter of an hour.
        for project, programs in left.items():
            try:
                gobuild.check_go(self.tools / project.name)
            except BuildError as error:
                raise self._no_way_left(project, programs, failures, error) from error
        for project, programs in left.items():
            version = self._version(project)
            with self._exclusive(project) as work:
                # Another run may have been faster.
                missing = [program for program in programs if not self.cache.find(program, self._key(project))]
                if not missing:
                    continue
                title = f"{' and '.join(missing)} {version}"
                self.progress.say(f"{title}: building with Go from {self.tools / project.name}")
                start = time.monotonic()
                packages = [project.packages[program] for program in missing]
                try:
                    files = gobuild.build(
                        self.tools / project.name, packages, project.ldflags(version), work, self.progress, title
                    )
                except BuildError as error:
                    raise self._no_way_left(project, missing, failures, error) from error
                for program in missing:
                    self.cache.install(files[project.packages[program]], program, self._key(project))
                self.progress.say(f"{title}: built in {duration(time.monotonic() - start)}")

    def _exclusive(self, project: Project) -> AbstractContextManager[Work]:
        def waiting() -> AbstractContextManager[None]:
            self.progress.say(f"{project.name}: another run is providing it; waiting")
            return self.progress.task(f"{project.name}: waiting for another run")

        return self.cache.exclusive(project.name, waiting)

    def _no_way_left(
        self, project: Project, programs: list[str], failures: Mapping[str, DownloadError], error: BuildError
    ) -> LabError:
        from . import gobuild

        version = self._version(project)
        variables = " and ".join(variable(program) for program in programs)
        go = gobuild.required_go(self.tools / project.name)
        return LabError(
            "\n".join(
                (
                    f"{' and '.join(programs)} {version} cannot be provided.",
                    *(f"  download of {program}: {failures[program]}" for program in programs),
                    f"  build: {error}",
                    "Do one of these:",
                    f"  - install Go {go} or newer (https://go.dev/dl/) and let it reach a Go module proxy;",
                    f"  - set {variables} to the path of {' and '.join(programs)} {version};",
                    "  - set KUBEVAULT_MIRROR to the URL of a mirror of the releases"
                    " (its layout: python -m kubevault_lab.binaries --help).",
                )
            )
        )


def provide(names: Iterable[str] | None = None) -> dict[str, Path]:
    """Provide programs of the lab's servers, with the environment's settings; progress goes to standard error.

    Args:
        names: which of etcd, kube-apiserver, kube-controller-manager and vault; all where None.

    Returns:
        The absolute path of each.

    Raises:
        LabError: one cannot be provided; says what to do.
    """
    return Provider.from_environment().provide(names)


def _ask_version(path: str, argument: str) -> str | None:
    """Have a program say its version; None if it does not."""
    try:
        said = subprocess.run(  # noqa: S603 - a program on the user's PATH
            [path, argument],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said_version(said.stdout) if said.returncode == 0 else None


_EPILOG = """\
environment:
  KUBEVAULT_ETCD, KUBEVAULT_KUBE_APISERVER, KUBEVAULT_KUBE_CONTROLLER_MANAGER, KUBEVAULT_VAULT
                    path of a program to use as it is
  KUBEVAULT_CACHE   folder to keep programs in (default: kubevault in XDG_CACHE_HOME or ~/.cache)
  KUBEVAULT_MIRROR  URL of a mirror of the releases (https, or http on loopback). It has each file, its checksums too,
                    under upstream's host and path, as wget --force-directories lays them out:
                      MIRROR/dl.k8s.io/v1.36.3/bin/linux/amd64/kube-apiserver
                      MIRROR/dl.k8s.io/v1.36.3/bin/linux/amd64/kube-apiserver.sha256
                      MIRROR/github.com/etcd-io/etcd/releases/download/v3.6.8/SHA256SUMS
                      MIRROR/releases.hashicorp.com/vault/1.21.0/vault_1.21.0_linux_amd64.zip
  HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE, GOPROXY, GOTOOLCHAIN as usual
"""


def main(arguments: list[str] | None = None) -> int:
    """Provide the programs and write where they are.

    Args:
        arguments: of the command line; sys.argv where None.

    Returns:
        Exit status: 0, 1 where a program cannot be provided, 130 where interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="python -m kubevault_lab.binaries",
        description="Provide the programs of the lab's servers: a given path or PATH, the cache, the release, a build.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="programs to provide (default: all)")
    parser.add_argument("--output", choices=["text", "json"], default="text", help="how to write the paths")
    options = parser.parse_args(arguments)

    return run(Provider.from_environment(), options.names or None, options.output)


def run(provider: Provider, names: Iterable[str] | None, output: str) -> int:
    """Provide programs as the command line does.

    Args:
        provider: provides them.
        names: which; all where None.
        output: how to write the paths, "text" or "json".

    Returns:
        Exit status, see main().
    """
    signal.signal(signal.SIGTERM, _exit)
    try:
        paths = provider.provide(names)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the cache holds nothing unfinished", file=sys.stderr)
        return 130
    if output == "json":
        print(json.dumps({program: str(path) for program, path in paths.items()}))
    else:
        for program, path in paths.items():
            print(f"{program}: {path}")
    return 0


def _exit(number: int, frame: FrameType | None) -> None:
    """Leave by way of every finally, which a signal's default does not."""
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
