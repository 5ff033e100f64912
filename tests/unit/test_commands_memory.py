"""What other programs of the same user can read of the commands: nothing, since they hold secrets.

`support.hostile` stands in for servers that do not answer, so that a command can be looked at while it waits.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.hostile import Hostile, hostile
from support.servers import Authority

from secretmanager.commands.main import Subcommands

FILES = ("environ", "mem", "maps", "auxv", "fd/0", "cwd", "root")
"""Files of /proc/PID that only who may trace a process can read."""

PLAIN_USER = [] if os.geteuid() else ["setpriv", "--bounding-set", "-all", "--inh-caps=-all"]
"""Runs a program without the capabilities of root, as in a container; other users have none."""

ARGUMENTS: dict[str, list[str]] = {
    "exec": ["--secret", "a/b", "--files", "--", "true"],
    "files": ["--secret", "a/b", "--to", "/dev/shm"],
    "info": ["a"],
    "read": ["a/b"],
    "renew-reviewer": ["--lifetime", "1h"],
    "retire": ["--transit-key", "a"],
    "rewrap": ["--transit-key", "a"],
    "rotate": ["--transit-key", "a"],
    "seal": ["a/b", "--transit-key", "a", "--from-file", "x=/etc/hostname"],
}
WITHOUT_A_SERVER = {"inject", "ready"}

LOOK = f"""
import os, sys
for name in {FILES!r}:
    path = f"/proc/{{sys.argv[1]}}/{{name}}"
    try:
        (os.readlink if name in ("fd/0", "cwd", "root") else open)(path)
    except PermissionError:
        continue
    print(name)
"""


def readable(pid: int) -> list[str]:
    """Return what another process of the same user can read of a process."""
    look = [*PLAIN_USER, sys.executable, "-c", LOOK, str(pid)]
    return subprocess.run(look, capture_output=True, text=True, check=True).stdout.split()


@contextmanager
def silent(folder: Path) -> Iterator[tuple[Hostile, threading.Event]]:
    """Yield a server that takes a request and never answers, and what is set once it has one."""
    asked, ended = threading.Event(), threading.Event()

    def serve(connection: Any) -> None:
        asked.set()
        ended.wait()

    with hostile(folder, serve) as server:
        yield server, asked
        ended.set()


@contextmanager
def waiting(folder: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until it waits for a server."""
    pair = Authority(folder, "other").issue("client")
    cert, key = (base64.b64encode(path.read_bytes()).decode() for path in pair)
    with silent(folder) as (server, asked):
        content = {
            "clusters": [{"name": "it", "cluster": {"server": server.url, "certificate-authority": server.ca}}],
            # OpenSSL reads these from /proc/self/fd.
            "users": [{"name": "it", "user": {"client-certificate-data": cert, "client-key-data": key}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "current-context": "it",
        }
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(content))
        own = {key: value for key, value in os.environ.items() if not key.startswith(("VAULT_", "K8S_", "KUBE"))}
        servers = {"VAULT_ADDR": server.url, "VAULT_CACERT": server.ca, "K8S_AUTH_KUBECONFIG": str(kubeconfig)}
        code = "from secretmanager.commands.main import main; main()"
        command = [*PLAIN_USER, sys.executable, "-c", code, name, *ARGUMENTS[name]]
        with subprocess.Popen(command, env={**own, **servers, "VAULT_TOKEN": "hvs.PLAIN"}) as process:
            try:
                assert asked.wait(60)
                yield process
            finally:
                process.kill()


def test_each_command_is_known() -> None:
    assert ARGUMENTS.keys() | WITHOUT_A_SERVER == set(Subcommands.NAMES)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_no_other_program_can_read_a_command(tmp_path: Path, name: str) -> None:
    with waiting(tmp_path, name) as process:
        assert readable(process.pid) == []
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        (cores,) = [line.split() for line in limits.splitlines() if line.startswith("Max core file size")]
        assert cores[4] == "0"


def test_what_can_be_read_of_a_program_that_is_not_protected() -> None:
    """So the test above looks in a way that sees something."""
    with subprocess.Popen([*PLAIN_USER, "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        found = readable(process.pid)
        process.kill()
    assert found == list(FILES)
