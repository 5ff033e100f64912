"""Vault hosts as users set them up by site.yml, and a Kubernetes of the lab; in a sandbox for hosts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kubevault_lab.hosts import machine
from kubevault_lab.hosts.sandbox import BRIDGE, NETWORK
from secretmanager.admin.cluster import await_healthy
from secretmanager.admin.connection import Vault
from secretmanager.admin.initialisation import Initialisation, ensure_unsealed
from secretmanager.errors import VaultError

from .ansible import BIN, ROOT, ansible_environment, run_playbook
from .search import processes
from .servers import PATIENCE, wait_until
from .site import Site, serve_release

KUBERNETES = str(NETWORK[254])
"""Address of the API server; not that of clients, which may be cut off."""


class VaultHosts(Site):
    """The inventory's hosts of Vault, and Kubernetes beside them.

    Args:
        folder: a folder, whose path is short.
        names: names of the Vault hosts.
        variables: variables of the inventory that differ from the example.

    Attributes:
        names: as above.
        hosts: the hosts by name.
        urls: addresses of Vault, as clients get them.
        kubeconfig: file of the administrator of Kubernetes.
    """

    def __init__(self, folder: Path, names: Sequence[str], variables: Mapping[str, Any]) -> None:
        self.names = list(names)
        self.hosts: dict[str, machine.Host] = {}
        self.urls = [f"https://{name}:8200" for name in names]
        self.kubeconfig = str(folder / "kubernetes/admin.conf")
        super().__init__(
            folder, {"kubevault_kubeconfig": self.kubeconfig, **variables}, {"vault": self.names, "microk8s": []}
        )

    def create(self) -> None:
        """Create the hosts, serve Vault's release, and start Kubernetes."""
        serve_release()
        subprocess.run(["ip", "address", "add", f"{KUBERNETES}/{NETWORK.prefixlen}", "dev", BRIDGE], check=True)
        self._kubernetes(["lab-binaries", "lab-supervisor", "certificate-authority", "lab-kubernetes"])
        self.create_hosts()

    def create_hosts(self) -> None:
        """Create the hosts, with small disks for data and audit log."""
        for name in self.names:
            disks = [f"--bind={self._disk(name, kind)}:{path}" for kind, path in DISKS.items()]
            (self.hosts[name],) = machine.create([name], tuple(disks))

    def remove_hosts(self) -> None:
        """Remove them, with all that they hold."""
        for host in self.hosts.values():
            host.remove()
        self.hosts.clear()
        for disk in self.folder.glob("disks/*"):
            subprocess.run(["umount", disk], check=True)
            disk.rmdir()

    def remove(self) -> None:
        """Remove all that `create` made."""
        self.remove_hosts()
        self._kubernetes(["lab-supervisor"], tasks="remove")
        subprocess.run(["ip", "address", "delete", f"{KUBERNETES}/{NETWORK.prefixlen}", "dev", BRIDGE], check=True)

    def kill_when(self, reached: Callable[[str], bool], playbook: str, *arguments: str) -> None:
        """Run a playbook, and end all its processes by SIGKILL at some point.

        Args:
            reached: whether that point is reached, by what it has printed so far.
            playbook: as of `play`.
            arguments: as of `play`.
        """
        # The kernel ends what is in the namespace: Ansible's workers have process groups of their own.
        contained = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command = [BIN / "ansible-playbook", playbook, f"--inventory={self.inventory}", *arguments]
        log = self.folder / "killed.log"
        with (
            log.open("w") as output,
            subprocess.Popen(
                [*contained, *command],
                cwd=ROOT,
                env={**ansible_environment(), "ANSIBLE_NOCOLOR": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            ) as process,
        ):
            while process.poll() is None and not reached(log.read_text()):
                time.sleep(0.02)
            process.kill()
        assert process.returncode == -signal.SIGKILL, log.read_text()

    def leader(self) -> str:
        """Return the name of the node that leads, by its own word; wait for the end of an election."""
        leaders: list[str] = []

        def found() -> bool:
            leaders[:] = filter(self._leads, self.names)
            return bool(leaders)

        wait_until("a leader", found)
        return leaders[0]

    def _leads(self, name: str) -> bool:
        try:
            return bool(self.client(name, timeout=5, retries=0).request("GET", "sys/leader").json().get("is_self"))
        except VaultError:
            return False

    def pid(self, name: str) -> int:
        """Return the process ID of Vault on a host, as it is outside of the host."""
        inside = self.hosts[name].run("readlink", "/proc/self/ns/pid").stdout.strip()
        servers = [pid for pid, command in processes() if "vault server" in command]
        (pid,) = (pid for pid in servers if str(Path(f"/proc/{pid}/ns/pid").readlink()) == inside)
        return pid

    def fill(self, name: str, kind: str) -> None:
        """Fill a disk of a host to the last byte."""
        script = f"cat /dev/zero >{DISKS[kind]}/fill"
        assert "No space left" in self.hosts[name].run("sh", "-c", script, check=False).stderr

    def clear(self, name: str, kind: str) -> None:
        """End what `fill` did."""
        self.hosts[name].run("rm", f"{DISKS[kind]}/fill")

    def unseal(self, *names: str) -> None:
        """Unseal nodes as an operator does after they started."""
        keys = Initialisation(
            1, 1, str(self.secrets / "vault-unseal-keys.json"), str(self.secrets / "vault-root-token")
        )
        for name in names:
            ensure_unsealed(Vault(self.client(name)), keys, timeout=PATIENCE)

    def await_healthy(self) -> None:
        """Wait until all nodes serve and have all data."""
        for name in self.names:
            await_healthy(Vault(self.client(name)), PATIENCE)

    def _disk(self, name: str, kind: str) -> Path:
        """Return a folder of the sandbox with its own, small file system."""
        disk = self.folder / "disks" / f"{name}-{kind}"
        disk.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE},mode=755", "tmpfs", disk], check=True)
        return disk

    def _kubernetes(self, roles: Sequence[str], tasks: str = "main") -> None:
        """Run roles of the lab, for a Kubernetes that the hosts reach."""
        pki = str(self.folder / "pki")
        certificates = [
            {
                "name": "kube-apiserver",
                "common_name": "kube-apiserver",
                "subject_alt_name": ["DNS:localhost", "IP:127.0.0.1", f"IP:{KUBERNETES}"],
                "extended_key_usage": ["serverAuth", "clientAuth"],
            },
            *(
                {"name": name, "common_name": user, "extended_key_usage": ["clientAuth"], **more}
                for name, user, more in [
                    ("kube-controller-manager", "system:kube-controller-manager", {}),
                    ("admin", "admin", {"organization_name": "system:masters"}),
                ]
            ),
        ]
        variables = {
            "ansible_python_interpreter": sys.executable,
            "lab_supervisor_dir": str(self.folder),
            "lab_supervisor_ports": ["etcd", "etcd-peer", "kube-apiserver"],
            "certificate_authority_dir": pki,
            "certificate_authority_common_name": "Kubernetes of the tests",
            "certificate_authority_certificates": certificates,
            "lab_kubernetes_dir": str(self.folder),
            "lab_kubernetes_pki_dir": pki,
            "lab_kubernetes_address": KUBERNETES,
            "lab_kubernetes_ports": f"{{{{ lookup('ansible.builtin.file', '{self.folder}/ports.json') | from_json }}}}",
            "lab_kubernetes_binaries": "{{ lab_binaries_paths }}",
        }
        steps = [{"import_role": {"name": str(ROOT / "roles" / role), "tasks_from": tasks}} for role in roles]
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": variables, "tasks": steps}
        playbook = self.folder / "kubernetes.yml"
        playbook.write_text(yaml.safe_dump([play], sort_keys=False))
        run_playbook(playbook, "--inventory=localhost,", env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"})


def printed(*lines: str) -> Callable[[str], bool]:
    """Return a function that says whether an output has lines that begin so, in this order."""
    pattern = re.compile(".*".join(f"^{re.escape(line)}" for line in lines), re.MULTILINE | re.DOTALL)
    return lambda output: bool(pattern.search(output))


DISKS = {"data": "/opt/vault/data", "audit": "/var/log/vault"}
"""Folders of Vault that are disks of their own, so that one of them can be full."""

DISK_SIZE = "1g"
"""Enough for what the tests write: each version of a Transit key makes all further writes of the key larger."""
