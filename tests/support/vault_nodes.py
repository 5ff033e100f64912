"""Nodes of one Vault cluster on loopback, which roles/vault-server sets up under supervisord."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import yaml

from kubevault_lab.binaries import provide
from secretmanager.admin.connection import Vault
from secretmanager.admin.initialisation import Initialisation, ensure_unsealed
from secretmanager.errors import SecretManagerError
from secretmanager.servers.vault import TransitItem, VaultClient

from .ansible import BIN, Run, environment, run_playbook
from .lab import Lab
from .servers import PATIENCE, Authority, wait_until

CONFIGURED = "{{ lab_supervisor_dir }}/{{ inventory_hostname }}"
"""Folder of a node."""


class VaultNodes:
    """A cluster, as an inventory of local hosts and a playbook. As a context manager, it is gone at the end.

    Args:
        nodes: names of the hosts in the inventory.
        environment: environment variables of Vault.
        variables: variables of the role that differ from those here.

    Attributes:
        nodes: as above.
        environment: as above.
        folder: its folder, whose path is short, for supervisord's socket.
        ca: file of the CA.
        variables: variables of the inventory.
    """

    def __init__(self, nodes: Sequence[str], environment: Mapping[str, str] | None = None, **variables: Any) -> None:
        self.folder = folder = Path(tempfile.mkdtemp(prefix="kubevault-nodes."))
        self.nodes = list(nodes)
        self.environment = dict(environment or {})
        self.lab = Lab(folder)
        secrets, pki = folder / "secrets", folder / "pki"
        secrets.mkdir()
        pki.mkdir()
        authority = Authority(pki)
        self.ca = str(authority.file)
        for name in nodes:
            authority.issue(name)
        program = provide(["vault"])["vault"]
        self.variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "lab_supervisor_dir": str(folder),
            "ports": "{{ lookup('ansible.builtin.file', lab_supervisor_dir ~ '/ports.json') | from_json }}",
            "vault_server_binary": str(program),
            "vault_server_url": "https://127.0.0.1:{{ ports[inventory_hostname] }}",
            "vault_server_address": "127.0.0.1:{{ ports[inventory_hostname] }}",
            "vault_server_cluster_address": "127.0.0.1:{{ ports[inventory_hostname ~ '-cluster'] }}",
            "vault_server_cluster_url": "https://127.0.0.1:{{ ports[inventory_hostname ~ '-cluster'] }}",
            "vault_server_ca_cert": self.ca,
            "vault_server_tls_cert": f"{pki}/{{{{ inventory_hostname }}}}.crt",
            "vault_server_tls_key": f"{pki}/{{{{ inventory_hostname }}}}.key",
            "vault_server_config_dir": CONFIGURED,
            "vault_server_data_dir": f"{CONFIGURED}/data",
            "vault_server_audit_dir": f"{CONFIGURED}/audit",
            "vault_server_audit_devices": [
                {"name": name, "type": "file", "options": {"file_path": f"audit/{name}.log"}}
                for name in ("first", "second")
            ],
            "vault_server_user": "",
            "vault_server_service_manager": "supervisor",
            "vault_server_supervisor_program": "{{ inventory_hostname }}",
            "vault_server_supervisor_config": "{{ lab_supervisor_dir }}/supervisord.conf",
            "vault_server_supervisorctl": str(BIN / "supervisorctl"),
            "vault_server_keys_file": str(secrets / "keys.json"),
            "vault_server_root_token_file": str(secrets / "root-token"),
            "vault_server_token_file": str(secrets / "operator-token"),
            "vault_operator_root_token_file": "{{ vault_server_root_token_file }}",
            "vault_operator_token_file": "{{ vault_server_token_file }}",
            "vault_operator_elevate": True,  # there is nobody to ask
            **variables,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if (self.folder / "supervisord.pid").exists():
                process = Path(f"/proc/{self.lab.supervisord()}")
                self._supervisorctl("shutdown")
                wait_until("the end of supervisord", lambda: not process.exists())
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def write(self) -> None:
        """Write the inventory and the playbooks."""
        programs = [
            {
                "name": name,
                "command": [
                    *("env", "-C", str(self.folder / name)),
                    *(f"{name}={value}" for name, value in self.environment.items()),
                    self.variables["vault_server_binary"],
                    *("server", f"-config={self.folder / name / 'vault.hcl'}"),
                ],
                "autostart": False,
            }
            for name in self.nodes
        ]
        hosts = {"hosts": dict.fromkeys(self.nodes), "vars": self.variables}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump({"vault": hosts}))
        operator = {
            "VAULT_ADDR": "{{ groups['vault'] | map('extract', hostvars, 'vault_server_url') | join(',') }}",
            "VAULT_CACERT": "{{ vault_server_ca_cert }}",
        }
        ports = [f"{name}{end}" for name in self.nodes for end in ("", "-cluster")]

        def role(name: str, tasks: str = "main", variables: Mapping[str, Any] | None = None, **more: Any) -> Any:
            return {"import_role": {"name": name, "tasks_from": tasks}, "vars": variables or {}, **more}

        programs_of = {"lab_supervisor_programs": programs}
        servers = [role("vault-server")]
        playbooks = {
            "set-up": [
                role("lab-supervisor", variables={"lab_supervisor_ports": ports}, run_once=True),
                role("lab-supervisor", "programs", programs_of, run_once=True),
                *servers,
                role("vault-operator", run_once=True, environment=operator),
            ],
            "servers": servers,
            "restore": [role("vault-server", "restore"), *servers, role("vault-server", "restored")],
        }
        for name, tasks in playbooks.items():
            play = {"hosts": "vault", "gather_facts": False, "tasks": tasks}
            (self.folder / f"{name}.yml").write_text(yaml.safe_dump([play], sort_keys=False))

    def play(self, *arguments: str, playbook: str | None = None, fails: bool = False) -> Run:
        """Run a playbook of the repository on all nodes; without one, the role vault-server alone."""
        return self._run(playbook or self.folder / "servers.yml", *arguments, fails=fails)

    def _run(self, playbook: str | Path, *arguments: str, fails: bool = False) -> Run:
        self.write()
        env = environment(ANSIBLE_FORKS="10")
        return run_playbook(playbook, "-i", self.folder / "hosts.yml", *arguments, env=env, fails=fails)

    def set_up(self, *, fails: bool = False) -> Run:
        """Start supervisord and the nodes, and issue the operator's token."""
        return self._run(self.folder / "set-up.yml", fails=fails)

    def restore(self, *arguments: str) -> Run:
        """Restore a snapshot; vault_server_snapshot is among the arguments."""
        return self._run(self.folder / "restore.yml", *arguments)

    def changed(self, *arguments: str) -> int:
        """Run the role vault-server on all nodes; return how many tasks changed something, on any of them."""
        return self.play(*arguments).changed

    def lose(self) -> None:
        """Lose all nodes with their data, as if their hosts were gone."""
        self.supervise("stop", *self.nodes)
        for name in self.nodes:
            shutil.rmtree(self.folder / name)

    def replace(self, key_shares: int, key_threshold: int) -> Path:
        """Have another Vault on the same hosts, with a privileged token; return where the former one's secrets are."""
        secrets = self.folder / "secrets"
        former = secrets.rename(self.folder / "former-secrets")
        secrets.mkdir()
        self.supervise("stop", *self.nodes)
        for name in self.nodes:
            shutil.rmtree(self.folder / name / "data")
            (self.folder / name / "data").mkdir()
        self.supervise("start", *self.nodes)
        keys = Initialisation(key_shares, key_threshold, str(secrets / "keys.json"), str(secrets / "root-token"))
        members = [Vault(self.client(name, token="")) for name in self.nodes]
        # All at the same time: those that join wait for the first one.
        with ThreadPoolExecutor(len(members)) as pool:
            list(pool.map(lambda member: ensure_unsealed(member, keys, cluster=members, timeout=PATIENCE), members))
        self.await_votes(self.token("root-token"))
        return former

    def new_key(self, name: str) -> None:
        """Have the operator mount the Transit engine and make a key."""
        operator = self.client()
        for path, body in [("sys/mounts/transit", {"type": "transit"}), (f"transit/keys/{name}", {})]:
            assert operator.request("POST", path, body).ok

    def url(self, name: str) -> str:
        """Return the address of a node."""
        return f"https://127.0.0.1:{self.lab.ports[name]}"

    def token(self, name: str) -> str:
        """Return a token of the folder of secrets."""
        return (self.folder / "secrets" / name).read_text().strip()

    def client(self, *names: str, token: str | None = None, **options: Any) -> VaultClient:
        """Return a client of some of the nodes, or of all, by default with the operator's token."""
        token = self.token("operator-token") if token is None else token
        urls = [self.url(name) for name in names or self.nodes]
        return VaultClient(urls, ca_cert=self.ca, token=token, **options)

    def leader(self) -> str:
        """Return the name of the node that leads; wait for the end of an election."""
        names = {self.url(name): name for name in self.nodes}

        def address() -> str:
            return str(self.client().request("GET", "sys/leader").json()["leader_address"])

        wait_until("a leader", lambda: address() in names)
        return names[address()]

    def peers(self, token: str | None = None) -> dict[str, bool]:
        """Return the nodes in Raft's configuration, and whether each has a vote."""
        configuration = self.client(token=token).request("GET", "sys/storage/raft/configuration").json()
        return {server["node_id"]: server["voter"] for server in configuration["data"]["config"]["servers"]}

    def await_votes(self, token: str | None = None) -> None:
        """Wait until all nodes, and no others, have a vote."""
        wait_until("a vote of each node", lambda: self.peers(token) == dict.fromkeys(self.nodes, True))

    def healthy(self, name: str) -> bool:
        """Whether autopilot calls a node healthy."""
        state = self.client().request("GET", "sys/storage/raft/autopilot/state").json()["data"]
        return bool(state["servers"][name]["healthy"])

    def seal_status(self, name: str) -> dict[str, Any]:
        """Return what a node says of its seal."""
        status: dict[str, Any] = self.client(name, token="").request("GET", "sys/seal-status").json()
        return status

    def opens_itself(self, name: str) -> None:
        """Restart a node, and wait until it serves, without anybody's help."""
        self.supervise("restart", name)
        health = self.client(name, token="", retries=20)
        wait_until("an open Vault", lambda: health.request("GET", "sys/health?standbyok=true").status == 200)

    @contextmanager
    def sealing_all_the_time(self, key: str) -> Iterator[None]:
        """Encrypt with hardly a pause, by a client of all nodes; any error fails the test."""
        ended, problems = threading.Event(), []

        def work() -> None:
            client = self.client()
            while not ended.wait(0.02) and not problems:
                try:
                    client.encrypt(key, [TransitItem(b"value")])
                except SecretManagerError as error:
                    problems.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        assert not problems

    def supervise(self, action: str, *names: str) -> None:
        """Start, stop or restart the processes of nodes."""
        self._supervisorctl(action, *names)

    def _supervisorctl(self, *arguments: str) -> None:
        command = [BIN / "supervisorctl", "-c", self.folder / "supervisord.conf", *arguments]
        subprocess.run(command, check=True, capture_output=True)
