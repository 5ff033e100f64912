"""Hosts in a sandbox, by systemd-nspawn: created, started, stopped, cut off and looked into."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import LabError
from . import cgroups
from .rootfs import USER, RootFileSystem
from .sandbox import BRIDGE, CONTROLLER, NETWORK, STATE, VARIABLE, children

PATIENCE = 300.0
"""Seconds that a host may take to start or to stop."""

KEY = STATE / "id_ed25519"
"""Private key with which `rootfs.USER` logs in."""

KNOWN_HOSTS = STATE / "known_hosts"
"""The hosts' keys, as ssh(1) reads them."""

CONNECTION = {
    "ansible_user": USER,
    "ansible_ssh_private_key_file": str(KEY),
    "ansible_ssh_common_args": f"-o UserKnownHostsFile={KNOWN_HOSTS}",
    # Connections that ssh(1) shares are found by name, and every sandbox may have a host of this name.
    "ansible_control_path_dir": str(STATE / "ssh"),
}
"""Ansible's variables by which it logs in."""

_HOSTS = STATE / "machines"

_BYTECODE = Path(__file__).parents[1] / "bytecode/sitecustomize.py"

_NSPAWN = "systemd-nspawn"

_UP = ("running", "degraded")  # systemctl(1), is-system-running

# With --keep-unit, systemd-nspawn reports a reboot by this status and leaves it to others to start the host again.
_RUN = """
while
    (for group in $0; do echo 0 >"$group" || exit 1; done; exec "$@")
    [ $? -eq 133 ]
do :; done
"""

_NETWORK = """\
[Match]
Name=host0

[Network]
Address={address}/{prefix}
IPv6AcceptRA=no
"""
"""Without the last line, the host waits 12 seconds for a router before it counts as online."""

_CUT = """
table inet kubevault-cut {{
    chain input {{ type filter hook input priority -10; ip saddr {{ {addresses} }} drop; }}
    chain output {{ type filter hook output priority -10; ip daddr {{ {addresses} }} drop; }}
}}
"""


@dataclass(frozen=True)
class Host:
    """A host. What it writes stays until it is removed, also while it is stopped.

    Attributes:
        name: its name, which the sandbox and all hosts resolve.
        address: its IPv4 address.
        arguments: further arguments of systemd-nspawn, such as "--bind=/dev/fuse".
    """

    name: str
    address: str
    arguments: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        """Its root folder, in which files can be read and written from outside."""
        return self._folder / "root"

    @property
    def running(self) -> bool:
        """Whether its processes run."""
        return bool(self._processes())

    def start(self) -> None:
        """Start it, as by its power button, and wait until its services run.

        Raises:
            LabError: it does not start, or a service failed; names them.
        """
        if self.running:
            return
        command = [
            *(_NSPAWN, "--quiet", "--boot", "--register=no", "--keep-unit", f"--directory={self.root}"),
            *(f"--machine={self.name}", f"--network-bridge={BRIDGE}", "--resolv-conf=off", "--timezone=off"),
            *("--link-journal=no", *self.arguments),
        ]
        groups = " ".join(map(str, cgroups.of_host(os.environ[VARIABLE], self.name)))
        with self._log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                ["sh", "-c", _RUN, groups, *command],  # noqa: S607
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait("start", lambda: self._is_up(process))
        if failed := self.run("systemctl", "--failed", "--plain", "--no-legend").stdout:
            raise LabError(f"{self.name}: started, but services failed:\n{failed.rstrip()}")

    def stop(self) -> None:
        """Shut it down, as by its power button.

        Raises:
            LabError: it does not end.
        """
        for pid in self._nspawn():
            _signal(pid, signal.SIGTERM)
        self._wait("stop", lambda: not self.running)

    def kill(self) -> None:
        """End all its processes at once, as a loss of power does, except that what it wrote is not lost.

        Raises:
            LabError: it does not end.
        """
        if leader := self._leader():
            _signal(leader, signal.SIGKILL)
        self._wait("stop", lambda: not self.running)

    def run(self, *command: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as root on the host, not by its network.

        Args:
            command: program and arguments.
            stdin: its standard input.
            check: whether another exit status than 0 is an error.

        Raises:
            LabError: the host does not run, or `check` and the command failed.
        """
        leader = self._leader()
        if not leader:
            raise LabError(f"{self.name} does not run")
        done = _run_in(leader, command, stdin)
        if check and done.returncode:
            output = (done.stderr or done.stdout).strip()
            raise LabError(f"{self.name}: {' '.join(command)} ended with status {done.returncode}: {output}")
        return done

    def cut(self, *addresses: str) -> None:
        """Drop each packet from and to these addresses, as a broken cable does; replaces what was cut before.

        Args:
            addresses: of hosts, or `sandbox.CONTROLLER` for clients in the sandbox.
        """
        self.mend()
        self.run("nft", "-f", "-", stdin=_CUT.format(addresses=", ".join(addresses)))

    def mend(self) -> None:
        """End what `cut` did."""
        self.run("nft", "-f", "-", stdin="add table inet kubevault-cut; delete table inet kubevault-cut")

    def remove(self) -> None:
        """End it, and remove what it wrote."""
        self.kill()
        _call("umount", self.root)
        shutil.rmtree(self._folder)
        _write_names()

    @property
    def _folder(self) -> Path:
        return _HOSTS / self.name

    @property
    def _log(self) -> Path:
        return self._folder / "console.log"

    def _make(self, lower: Path) -> None:
        for name in ("root", "upper", "work"):
            (self._folder / name).mkdir(parents=True)
        (self._folder / "host.json").write_text(json.dumps(asdict(self)))
        upper, work = self._folder / "upper", self._folder / "work"
        _call("mount", "-t", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", "overlay", self.root)
        (self.root / "etc/hostname").write_text(f"{self.name}\n")
        # mmdebstrap copied the machine's name server, which no host reaches; a question would wait for it.
        (self.root / "etc/resolv.conf").write_text("# Hosts know each other by /etc/hosts.\n")
        # Debian's place for it; Ansible's modules run by this Python.
        shutil.copyfile(_BYTECODE, self.root / "etc/python3.11/sitecustomize.py")
        network = _NETWORK.format(address=self.address, prefix=NETWORK.prefixlen)
        (self.root / "etc/systemd/network/10-host0.network").write_text(network)
        _make_key(self.root / "etc/ssh/ssh_host_ed25519_key", self.name)
        keys = self.root / f"home/{USER}/.ssh"
        keys.mkdir(mode=0o700)
        shutil.copyfile(f"{KEY}.pub", keys / "authorized_keys")
        home = keys.parent.stat()
        for path in (keys, keys / "authorized_keys"):
            os.chown(path, home.st_uid, home.st_gid)

    def _is_up(self, process: subprocess.Popen[bytes]) -> bool:
        if process.poll() is not None:
            raise LabError(f"{self.name} ended while it started:\n{self._log.read_text(errors='replace')[-2000:]}")
        leader = self._leader()
        return leader is not None and _run_in(leader, ["systemctl", "is-system-running"]).stdout.strip() in _UP

    def _wait(self, what: str, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not reached():
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} did not {what} within {PATIENCE:g} s")
            time.sleep(0.1)

    def _processes(self) -> dict[int, list[str]]:
        """Return the command of each process outside the host that runs it, by process ID."""
        found = {int(entry.name): _command(int(entry.name)) for entry in Path("/proc").glob("[0-9]*")}
        return {pid: command for pid, command in found.items() if f"--machine={self.name}" in command}

    def _nspawn(self) -> list[int]:
        return [pid for pid, command in self._processes().items() if command[0] == _NSPAWN]

    def _leader(self) -> int | None:
        """Return the process ID of the host's first process; None while it does not run."""
        inside = (child for pid in self._nspawn() for child in children(pid))
        # Until it runs the host's init, the child has its parent's command.
        return next((pid for pid in inside if _command(pid)[0] not in ("", _NSPAWN)), None)


def create(names: Iterable[str], arguments: tuple[str, ...] = (), rootfs: RootFileSystem | None = None) -> list[Host]:
    """Create hosts and start them; those that exist are started if they do not run.

    Args:
        names: their names.
        arguments: as of `Host`, for those that are new.
        rootfs: the root file system that they share; that of the environment if None.

    Raises:
        LabError: this is no sandbox, or a host does not start.
    """
    existing = {host.name: host for host in hosts()}
    lower = (rootfs or RootFileSystem.from_environment()).provide()
    if not KEY.exists():
        _make_key(KEY, "kubevault hosts")
    chosen = []
    for name in names:
        if name not in existing:
            used = {host.address for host in existing.values()} | {CONTROLLER}
            address = next(str(address) for address in NETWORK.hosts() if str(address) not in used)
            existing[name] = Host(name, address, arguments)
            existing[name]._make(lower)
        chosen.append(existing[name])
    _write_names()
    for host in chosen:
        host.start()
    return chosen


def hosts() -> list[Host]:
    """Return the hosts of this sandbox, by name.

    Raises:
        LabError: this is no sandbox.
    """
    if VARIABLE not in os.environ:
        raise LabError("hosts are stood up in a sandbox: python -m kubevault_lab.hosts sandbox -- COMMAND")
    found = [json.loads(path.read_text()) for path in sorted(_HOSTS.glob("*/host.json"))]
    return [Host(each["name"], each["address"], tuple(each["arguments"])) for each in found]


def _write_names() -> None:
    """Tell the sandbox and all hosts the names and keys of all."""
    found = hosts()
    mark = "# hosts of the sandbox\n"
    lines = f"{mark}{CONTROLLER} controller\n" + "".join(f"{host.address} {host.name}\n" for host in found)
    names = STATE / "hosts"
    names.write_text(names.read_text().partition(mark)[0] + lines)
    known = []
    for host in found:
        (host.root / "etc/hosts").write_text(f"127.0.0.1 localhost\n::1 localhost ip6-localhost\n{lines}")
        key = (host.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
        known.append(f"{host.name},{host.address} {' '.join(key)}\n")
    KNOWN_HOSTS.write_text("".join(known))


def _run_in(leader: int, command: Sequence[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command as root in the host with this first process."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    env = {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8"}
    enter = [shutil.which("nsenter") or "nsenter", f"--target={leader}", "--all", "--wdns=/", "--", *command]
    return subprocess.run(enter, input=stdin, capture_output=True, text=True, env=env, check=False)  # noqa: S603


def _signal(pid: int, number: int) -> None:
    """Send a signal to a process, which may have ended meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _command(pid: int) -> list[str]:
    """Return a process' program and arguments; one empty string for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return [""]


def _make_key(path: Path, comment: str) -> None:
    _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path)


def _call(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise LabError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
