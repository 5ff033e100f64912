"""Find, download or build the programs of the lab's servers.

Each comes from the first of these that has it:

1. a path that the user gives (KUBEVAULT_ETCD, KUBEVAULT_KUBE_APISERVER, ...), or PATH if it has the pinned version;
2. the cache: KUBEVAULT_CACHE, else kubevault in the user's cache folder (XDG_CACHE_HOME, ~/.cache);
3. the official release, verified by its published SHA-256, from upstream or KUBEVAULT_MIRROR;
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
from .projects import PROGRAMS, PROJECTS, SERVER_PROGRAMS, TOOLS, Project

VERSION_TIMEOUT = 60.0
"""Seconds that a program on PATH may take to print its version."""


def variable(program: str) -> str:
    """Return the name of the environment variable that holds a program's path."""
    return "KUBEVAULT_" + program.upper().replace("-", "_")


def parse_version(output: str) -> str | None:
    """Return the version, without its "v", from the output of a program such as `etcd --version`."""
    found = re.search(r"\bv?(\d+\.\d+\.\d+[^\s,]*)", output)
    return found[1] if found else None


@dataclass(frozen=True)
class Provider:
    """Provides programs.

    Attributes:
        cache: the cache of programs.
        given: paths that the user set, by program; they are used whatever their version.
        mirror: base URL of a mirror of the releases; None for upstream.
        tools: folder with a Go module for each project.
        projects: the upstream projects.
        progress: reports progress.
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
        """Return a provider; take arguments that are None from the environment.

        Args:
            given: paths by program, instead of KUBEVAULT_ETCD and the like.
            cache: folder, instead of KUBEVAULT_CACHE.
            mirror: base URL, instead of KUBEVAULT_MIRROR.
            progress: reports progress.
        """
        paths = {program: os.environ.get(variable(program)) for program in PROGRAMS} | dict(given or {})
        # A relative XDG_CACHE_HOME must be ignored (XDG Base Directory Specification).
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
        """The project of each program."""
        return {program: project for project in self.projects for program in project.packages}

    def provide(self, names: Iterable[str] | None = None) -> dict[str, Path]:
        """Return the paths of programs; download or build those that are missing.

        Args:
            names: names of the programs; None for all.

        Returns:
            The absolute path of each program.

        Raises:
            LabError: a program cannot be provided; says what to do.
        """
        found = self.locate(names)
        missing = [program for program, path in found.items() if path is None]
        return {program: path for program, path in found.items() if path} | self.obtain(missing)

    def locate(self, names: Iterable[str] | None = None) -> dict[str, Path | None]:
        """Find existing programs: given, on PATH or in the cache. Nothing is changed.

        Args:
            names: names of the programs; None for all.

        Returns:
            The absolute path of each program; None if it is missing.

        Raises:
            LabError: a name is unknown, or a given path is not a program.
        """
        programs = self.programs
        chosen = list(programs) if names is None else list(names)
        if unknown := sorted({*chosen, *self.given} - set(programs)):
            raise LabError(f"no program {', '.join(unknown)}; there are {', '.join(programs)}")
        return {program: self._find(program, programs[program]) for program in chosen}

    def obtain(self, names: Iterable[str]) -> dict[str, Path]:
        """Put programs into the cache: download their releases, or build them if that fails.

        Args:
            names: names of the programs; a program in the cache stays unchanged.

        Returns:
            The absolute path of each program.

        Raises:
            LabError: a program cannot be provided; says what to do.
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
        """Return a text that says how a missing program would be provided."""
        project = self.programs[program]
        version = self._version(project)
        release = project.release(program, version, *target_platform())
        source = f" from the mirror {self.mirror}" if self.mirror else ""
        return f"{program} {version}: the release {release.url}{source}, else a build of {self.tools / project.name}"

    def destination(self, program: str) -> Path:
        """Return the path of a program in the cache, whether it exists or not."""
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
        """Download what is missing in the cache; return the error of each program that could not be downloaded."""
        # Imported here because it takes 50 ms and is rarely needed.
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
                        self.progress.say(f"{title}: downloaded, checksum verified")
        return failures

    def _build(self, chosen: Mapping[Project, list[str]], failures: Mapping[str, DownloadError]) -> None:
        """Build what could not be downloaded."""
        # Imported here because a build is rarely needed.
        from . import gobuild

        left = {
            project: programs
            for project, all_programs in chosen.items()
            if (programs := [program for program in all_programs if program in failures])
        }
        # For all projects before the first build, which may take a quarter of an hour.
        for project, programs in left.items():
            try:
                gobuild.check_go(self.tools / project.name)
            except BuildError as error:
                raise self._no_way_left(project, programs, failures, error) from error
        for project, programs in left.items():
            version = self._version(project)
            with self._exclusive(project) as work:
                # Another process may have been faster.
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
    """Provide programs of the lab's servers, with the settings of the environment; progress goes to standard error.

    Args:
        names: names among PROGRAMS; None for all.

    Returns:
        The absolute path of each program.

    Raises:
        LabError: a program cannot be provided; says what to do.
    """
    return Provider.from_environment().provide(names)


def _ask_version(path: str, argument: str) -> str | None:
    """Return the version that a program prints; None if it prints none."""
    try:
        result = subprocess.run(  # noqa: S603 - a program on the user's PATH
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
    return parse_version(result.stdout) if result.returncode == 0 else None


_EPILOG = """\
environment:
  KUBEVAULT_ETCD, KUBEVAULT_KUBE_APISERVER, KUBEVAULT_KUBE_CONTROLLER_MANAGER, KUBEVAULT_VAULT,
  KUBEVAULT_KUBE_SCHEDULER, KUBEVAULT_KUBELET, KUBEVAULT_KUBECTL
                    path of a program to use, whatever its version
  KUBEVAULT_CACHE   folder to keep programs in (default: kubevault in XDG_CACHE_HOME or ~/.cache)
  KUBEVAULT_MIRROR  URL of a mirror of the releases (https, or http on loopback). It has each file, its checksums too,
                    under upstream's host and path, as wget --force-directories creates them:
                      MIRROR/dl.k8s.io/v1.36.3/bin/linux/amd64/kube-apiserver
                      MIRROR/dl.k8s.io/v1.36.3/bin/linux/amd64/kube-apiserver.sha256
                      MIRROR/github.com/etcd-io/etcd/releases/download/v3.6.8/SHA256SUMS
                      MIRROR/releases.hashicorp.com/vault/1.21.0/vault_1.21.0_linux_amd64.zip
  HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE, GOPROXY, GOTOOLCHAIN as usual
"""


def main(arguments: list[str] | None = None) -> int:
    """Provide the programs and print their paths.

    Args:
        arguments: arguments of the command line; None for sys.argv.

    Returns:
        Exit status: 0, 1 if a program cannot be provided, 130 if interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="python -m kubevault_lab.binaries",
        description="Provide the programs of the lab's servers: a given path or PATH, the cache, the release, a build.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="programs to provide (default: those of every lab)")
    parser.add_argument("--node", action="store_true", help="provide the programs of a node too, so all")
    parser.add_argument("--output", choices=["text", "json"], default="text", help="format of the paths")
    options = parser.parse_args(arguments)

    names = PROGRAMS if options.node else options.names or SERVER_PROGRAMS
    return run(Provider.from_environment(), names, options.output)


def run(provider: Provider, names: Iterable[str] | None, output: str) -> int:
    """Provide programs for the command line.

    Args:
        provider: provides the programs.
        names: names of the programs; None for all.
        output: format of the paths, "text" or "json".

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
        print("interrupted; the cache holds no unfinished program", file=sys.stderr)
        return 130
    if output == "json":
        print(json.dumps({program: str(path) for program, path in paths.items()}))
    else:
        for program, path in paths.items():
            print(f"{program}: {path}")
    return 0


def _exit(number: int, frame: FrameType | None) -> None:
    """Exit through all finally clauses, which a signal's default action skips."""
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
