"""Run a command in namespaces of its own, in which hosts can be stood up. The kernel leaves nothing of it.

The command and all that it starts is in one PID namespace, which ends with its first process. Then all processes,
network devices and mounts are gone, also if the machine's side was killed. What hosts write is on a tmpfs of its own.
Only empty control groups can be left, by SIGKILL; the next sandbox removes them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from ipaddress import IPv4Network
from pathlib import Path

from ..errors import LabError
from . import cgroups

NETWORK = IPv4Network("198.51.100.0/24")
"""Addresses of the hosts (TEST-NET-2, RFC 5737); the first is the sandbox's own, so that of Ansible and of clients."""

CONTROLLER = str(NETWORK[1])
"""The sandbox's own address."""

BRIDGE = "hosts"
"""The network device that joins the hosts."""

STATE = Path("/run/kubevault-hosts")
"""What is known of the hosts; on the sandbox's own tmpfs."""

VARIABLE = "KUBEVAULT_HOSTS_SANDBOX"
"""Environment variable that holds the name of the control group of the sandbox that a process is in."""


def run(command: list[str]) -> int:
    """Run a command in a sandbox of its own.

    Args:
        command: program and arguments. It has the machine's files, and /run, /etc/hosts and a network of its own.

    Returns:
        Its exit status; 128 and the signal's number if a signal ended it.

    Raises:
        LabError: no sandbox can be made; says why.
    """
    if os.geteuid() != 0:
        raise LabError(f"a sandbox for hosts needs root: found user ID {os.geteuid()}")
    cgroups.remove_abandoned()
    name = cgroups.name_of(os.getpid())
    # Both end with this process, and all that is in the sandbox with them.
    unshare = ["unshare", "--net", "--mount", "--propagation=slave", "--pid", "--fork", "--kill-child", "--mount-proc"]
    init = [sys.executable, "-m", "kubevault_lab.hosts", "init", "--", *command]
    # A terminal sends SIGINT to the command, too; this process ends after it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    contained = ["setpriv", "--pdeathsig=KILL", "--", *unshare, *init]
    process = subprocess.Popen(contained, env={**os.environ, VARIABLE: name})  # noqa: S603
    signal.signal(signal.SIGTERM, lambda number, _: _forward(process.pid, number))
    try:
        return _status(process.wait())
    finally:
        cgroups.remove(name)


def init(command: list[str]) -> int:
    """Be the first process of a sandbox: set it up, run the command, and reap orphans until it ends.

    Args:
        command: as of `run`.

    Returns:
        As of `run`.

    Raises:
        LabError: the network or a mount cannot be made.
    """
    cgroups.create(os.environ[VARIABLE])
    # For the state, and so that systemd-nspawn leaves nothing in the machine's.
    _do("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    STATE.mkdir(mode=0o700)
    names = STATE / "hosts"
    names.write_bytes(Path("/etc/hosts").read_bytes())
    _do("mount", "--bind", names, "/etc/hosts")
    _do("ip", "link", "set", "lo", "up")
    _do("ip", "link", "add", BRIDGE, "type", "bridge")
    _do("ip", "address", "add", f"{CONTROLLER}/{NETWORK.prefixlen}", "dev", BRIDGE)
    _do("ip", "link", "set", BRIDGE, "up")
    pid = os.posix_spawnp(command[0], command, os.environ, setsigdef=[signal.SIGINT, signal.SIGPIPE])
    signal.signal(signal.SIGTERM, lambda number, _: os.kill(pid, number))
    while True:
        ended, status = os.wait()
        if ended == pid:
            return _status(os.waitstatus_to_exitcode(status))


def children(pid: int) -> list[int]:
    """Return the process IDs of a process' children; none if there is no such process."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _forward(pid: int, number: int) -> None:
    """Send a signal to the first process of the sandbox whose unshare(1) this is."""
    for child in children(pid):
        os.kill(child, number)


def _status(code: int) -> int:
    return 128 - code if code < 0 else code


def _do(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise LabError(f"no sandbox for hosts: {' '.join(map(str, command))}: {done.stderr.strip()}")
