"""What modules write to the journal of the host that runs them: by a /dev/log of a mount namespace of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.ansible import ROOT, environment

CANARY = "follow-the-white-rabbit"
SECRETS = {
    "pem": f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n",
    "tab": f"\t{CANARY}\\",
    "quotes": f'it\'s "{CANARY}"',
    "json": json.dumps({"password": f"\n{CANARY}"}),
    "nested": {"a": [f"{CANARY}\r\n"]},
}
KUBECONFIG = {"kind": "Config", "users": [{"name": "x", "user": {"token": f"{CANARY}\n"}}]}

TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "secrets": (
        "kubevault_secret",
        {
            "namespace": "default",
            "transit_key": "k",
            "secrets": [{"name": "a", "data": SECRETS}, {"name": "b", "binary_data": {"x": f"{CANARY}\n"}}],
        },
    ),
    "one secret": ("kubevault_secret", {"name": "a", "namespace": "default", "transit_key": "k", "data": SECRETS}),
    "credentials": (
        "kubevault_secret_info",
        {"vault_token": f"{CANARY}x", "kubeconfig": KUBECONFIG, "namespace": "default"},
    ),
    "resources": ("vault_resource", {"resources": [{"path": "a/b", "secret_data": SECRETS}, {"path": "c/d"}]}),
    "a wrong suboption": (
        "kubevault_secret",
        {"secrets": [{"name": "a", "data": SECRETS, "datum": SECRETS}, {"name": "b", "data": [CANARY]}]},
    ),
    "an unknown option": ("vault_resource", {"resources": [{"path": "a/b", "secret_dat": SECRETS}], "token": SECRETS}),
}

RUN = """
import json, sys
from importlib import import_module
from ansible.module_utils.testing import patch_module_args
sys.path.append(sys.argv[1])
name, arguments = json.loads(sys.stdin.read())
with patch_module_args({**arguments, "_ansible_module_name": name, "_ansible_debug": True, "_ansible_verbosity": 4}):
    import_module(f"ansible_collections.kubevault.core.plugins.modules.{name}").main()
"""

# The devices that are needed, and the test's socket, in place of the host's /dev.
ISOLATED = """
set -eu
mkdir "$1/host" "$1/dev"
mount --rbind /dev "$1/host"
mount -t tmpfs dev "$1/dev"
for device in null zero random urandom; do touch "$1/dev/$device"; mount --bind "$1/host/$device" "$1/dev/$device"; done
mkdir "$1/dev/shm"
touch "$1/dev/log"
mount --bind "$1/log" "$1/dev/log"
mount --rbind "$1/dev" /dev
shift
exec "$@"
"""


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[list[str]]:
    """What arrives at the socket, in the folder of the test."""
    entries: list[str] = []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "log"))

    def receive() -> None:
        while message := listener.recv(1 << 20):
            entries.append(message.decode(errors="replace"))

    receiver = threading.Thread(target=receive)
    receiver.start()
    yield entries
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.sendto(b"", str(tmp_path / "log"))
    receiver.join()
    listener.close()


@pytest.mark.parametrize("kind", TASKS)
def test_no_secret_is_in_the_journal(journal: list[str], tmp_path: Path, kind: str) -> None:
    name, arguments = TASKS[kind]
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    done = subprocess.run(
        [*unshare, "sh", "-c", ISOLATED, "sh", tmp_path, sys.executable, "-c", RUN, ROOT / "collections"],
        input=json.dumps([name, {"vault_url": "https://127.0.0.1:1", **arguments}]),
        env=environment(PYTHONPATH=os.environ.get("PYTHONPATH", "")),
        capture_output=True,
        text=True,
        check=False,
    )
    result = json.loads(done.stdout)
    assert result["failed"], done.stderr
    said = "\n".join(journal)
    assert "Invoked with" in said or kind in ("a wrong suboption", "an unknown option")
    for text in (said, done.stdout, done.stderr):
        assert CANARY not in text
        assert "rabbit" not in text
