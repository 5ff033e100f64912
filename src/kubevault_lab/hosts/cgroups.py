"""Control groups (cgroups(7)) of a sandbox, for which systemd in a host makes its own below.

Where the machine has cgroups v1, only the hierarchy of systemd is used; hosts have no controllers then.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PREFIX = "kubevault-hosts-"


def create(name: str) -> None:
    """Create the group of a sandbox, and move this process into a group below it.

    Args:
        name: the group's name, see `name_of`.

    Raises:
        OSError: a hierarchy cannot be written.
    """
    for group in _groups(name):
        own = group / "init"
        # One of an earlier process with this ID may be left, and empty.
        own.mkdir(parents=True, exist_ok=True)
        (own / "cgroup.procs").write_text("0")
        controllers = group / "cgroup.controllers"  # v2
        if controllers.exists():
            wanted = " ".join(f"+{controller}" for controller in controllers.read_text().split())
            (group / "cgroup.subtree_control").write_text(wanted)


def of_host(name: str, host: str) -> list[Path]:
    """Create the groups of a host, and return the files that a process writes itself into."""
    groups = [group / host for group in _groups(name)]
    for group in groups:
        group.mkdir(exist_ok=True)
    return [group / "cgroup.procs" for group in groups]


def remove(name: str) -> None:
    """Remove the group of a sandbox that has ended.

    Raises:
        OSError: a process still is in it.
    """
    for group in _groups(name):
        _remove(group)


def remove_abandoned() -> None:
    """Remove the groups of sandboxes whose outer process was killed, and could not do it."""
    for hierarchy in _hierarchies():
        for group in hierarchy.glob(f"{_PREFIX}*"):
            # The second question is for sandboxes of other PID namespaces.
            if not Path("/proc", group.name.removeprefix(_PREFIX)).exists() and not _has_processes(group):
                _remove(group)


def name_of(pid: int) -> str:
    """Return the name of the group of the sandbox with this outer process."""
    return f"{_PREFIX}{pid}"


def _has_processes(group: Path) -> bool:
    return any(_processes(Path(folder)) for folder, _, _ in os.walk(group))


def _processes(group: Path) -> str:
    """Return the process IDs in a group; none if another sandbox has removed it."""
    try:
        return (group / "cgroup.procs").read_text()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return ""
        raise


def _remove(group: Path) -> None:
    for folder, _, _ in os.walk(group, topdown=False):
        # Another sandbox may be doing the same.
        with suppress(FileNotFoundError):
            Path(folder).rmdir()


def _groups(name: str) -> list[Path]:
    return [hierarchy / name for hierarchy in _hierarchies()]


def _hierarchies() -> Iterator[Path]:
    """Return the mount points that systemd in a container uses: cgroups v2, and the hierarchy name=systemd of v1."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and re.search(r"\bname=systemd\b", options)):
            yield Path(fields.split()[4])
