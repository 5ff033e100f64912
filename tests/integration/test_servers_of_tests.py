"""Servers that tests start end with the test process, even if SIGKILL ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from support.servers import wait_until

CODE = """
import sys, time
from pathlib import Path
from support.servers import PrivateVault
vault = PrivateVault(Path(sys.argv[1]))
vault.start(unseal=False)
print(vault.program.process.pid, flush=True)
time.sleep(600)
"""


def test_a_private_vault_ends_with_a_test_process_that_is_killed(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", CODE, tmp_path], env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        assert "vault" in Path(f"/proc/{pid}/cmdline").read_text()
        process.send_signal(signal.SIGKILL)
    wait_until("the end of its Vault", lambda: not is_alive(pid))


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
