"""The root file system of hosts: Debian, made once by mmdebstrap and kept in the lab's cache of programs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from ..binaries import Provider
from ..cache import Cache
from ..errors import LabError
from ..progress import Progress

SUITE = "bookworm"
"""Debian's release, as what the hosts run."""

USER = "admin"
"""The user who logs in by SSH and may become root."""

PACKAGES = (
    # What a server installed by Debian's installer has, and Ansible needs.
    *("ca-certificates", "dbus", "gpgv", "iproute2", "libpam-systemd", "logrotate", "nftables", "openssh-server"),
    *("procps", "python3", "python3-apt", "sudo", "systemd", "systemd-sysv", "unzip"),
    # snapd, which snapd.py starts on hosts that need it, and what mounts its snaps.
    *("dbus-user-session", "fuse3", "openssl", "snapd", "squashfuse"),
    # By one of them, vault-snapshot encrypts.
    *("age", "gnupg"),
)
"""Debian's packages on each host."""

_SET_UP = f"""
set -eu
useradd --root "$1" --create-home --shell /bin/bash {USER}
echo '{USER} ALL=(ALL) NOPASSWD: ALL' >"$1/etc/sudoers.d/{USER}"
systemctl --root="$1" enable systemd-networkd.service ssh.service
# A host counts as started when it has its address.
systemctl --root="$1" add-wants multi-user.target network-online.target
systemctl --root="$1" --quiet disable snapd.service snapd.socket snapd.seeded.service snapd.apparmor.service
# Each host has its own: see machine.py.
rm "$1"/etc/ssh/ssh_host_*
: >"$1/etc/machine-id"
"""
"""Shell script that completes the root file system in the folder $1."""


@dataclass(frozen=True)
class RootFileSystem:
    """The root file system that all hosts share, in a cache.

    Attributes:
        cache: the cache.
        packages: Debian's packages in it.
        mirror: URL of a mirror of Debian; None for mmdebstrap's own choice.
        progress: reports progress.
    """

    cache: Cache
    packages: tuple[str, ...] = PACKAGES
    mirror: str | None = None
    progress: Progress = field(default_factory=Progress)

    @classmethod
    def from_environment(cls) -> RootFileSystem:
        """Return the one in the lab's cache; KUBEVAULT_DEBIAN_MIRROR names a mirror of Debian."""
        return cls(Provider.from_environment().cache, mirror=os.environ.get("KUBEVAULT_DEBIAN_MIRROR") or None)

    @property
    def key(self) -> str:
        """What identifies it in the cache: Debian's release and a hash of its content's description."""
        description = json.dumps([self.packages, _SET_UP]).encode()
        return f"{SUITE}-{hashlib.sha256(description).hexdigest()[:12]}"

    @property
    def path(self) -> Path:
        """Its folder, whether it exists or not."""
        return self.cache.path("rootfs", self.key)

    def provide(self) -> Path:
        """Return its folder; make it if it does not exist, in about 70 seconds.

        Raises:
            LabError: mmdebstrap fails, or the cache cannot be written.
        """
        if self.cache.find("rootfs", self.key):
            return self.path
        try:
            with self.cache.exclusive("rootfs") as work:
                # Another process may have been faster.
                return self.cache.find("rootfs", self.key) or self._make(work.folder)
        except OSError as error:
            raise LabError(f"the cache {self.cache.folder} cannot be used: {error}; set KUBEVAULT_CACHE") from error

    def _make(self, folder: Path) -> Path:
        root, log = folder / "root", self.cache.folder / "rootfs.log"
        command = [
            # What it mounts is gone with it, also if it is killed.
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(self.packages)}"),
            *(f"--customize-hook={_SET_UP}", SUITE, str(root), *([self.mirror] if self.mirror else [])),
        ]
        title = f"root file system of hosts, Debian {SUITE}"
        self.progress.say(f"{title}: making it once, by mmdebstrap; log: {log}")
        with self.progress.task(title), log.open("wb") as output:
            status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)  # noqa: S603
        if status.returncode:
            end = "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-5:])
            raise LabError(
                f"{title}: mmdebstrap ended with status {status.returncode}:\n{end}\n"
                "If Debian's archive is not reachable, set KUBEVAULT_DEBIAN_MIRROR to the URL of a mirror."
            )
        return self.cache.install(root, "rootfs", self.key)
