"""Hosts in a sandbox: what they are, what can be done to them, and that nothing of them is left on the machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.servers import wait_until

HOSTS = [sys.executable, "-m", "kubevault_lab.hosts"]
SANDBOX = [*HOSTS, "sandbox", "--"]


def sandboxed(script: str) -> str:
    """Run a shell script in a sandbox; return its output."""
    done = subprocess.run(
        [*SANDBOX, "bash", "-euo", "pipefail", "-c", f'hosts() {{ {" ".join(HOSTS)} "$@"; }}\n{script}'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


NAME = f"one-{os.getpid()}.example.org"
"""A host's name that only this run has: other sandboxes may begin and end meanwhile."""


def machine() -> dict[str, object]:
    """Return what hosts could leave on this machine."""
    run = Path("/run")
    devices = [*Path("/sys/class/net").iterdir(), *run.glob("netns/*")]
    groups = Path("/sys/fs/cgroup").glob("**/kubevault-hosts-*")  # each with the process ID of its sandbox
    return {
        "mounts": [line for line in Path("/proc/self/mounts").read_text().splitlines() if "kubevault" in line],
        "network": sorted(path.name for path in devices if re.match("hosts$|vb-|kubevault", path.name)),
        "groups": [str(path) for path in groups if not Path("/proc", path.name.rpartition("-")[2]).exists()],
        "processes": [command for command in commands() if NAME in command],
        "run": sorted(str(path) for path in [*run.iterdir(), *run.glob("systemd/*")]),
        "hosts": Path("/etc/hosts").read_text(),
    }


def commands() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue


def test_a_host_is_a_server_with_its_own_address_name_and_log_in() -> None:
    output = sandboxed(
        """
        hosts up one.example.org two.example.org
        log_in="-i /run/kubevault-hosts/id_ed25519 -o UserKnownHostsFile=/run/kubevault-hosts/known_hosts"
        ssh $log_in admin@one.example.org '
            cat /proc/1/comm; hostname; sudo systemctl is-system-running; getent hosts two.example.org'
        """
    )
    assert output.splitlines() == ["systemd", "one.example.org", "running", "198.51.100.3    two.example.org"]


def test_a_stopped_a_killed_and_a_rebooted_host_keep_what_they_wrote_and_their_address() -> None:
    output = sandboxed(
        """
        hosts up one.example.org
        run() { hosts run one.example.org -- "$@"; }
        run sh -c 'echo kept >/root/file'
        for action in stop kill; do
            hosts $action one.example.org
            hosts status
            hosts start one.example.org
            run cat /root/file
        done
        boot=$(run cat /proc/sys/kernel/random/boot_id; run stat -c %Y /run/systemd)
        run systemctl reboot
        until [[ $(run stat -c %Y /run/systemd 2>/dev/null) != "${boot##*$'\\n'}" ]] &&
            run systemctl is-system-running >/dev/null; do sleep 0.1; done 2>/dev/null
        run cat /root/file
        run ip -4 -brief address show host0
        """
    )
    stopped = "one.example.org 198.51.100.2 stopped"
    lines = [line.split("@")[0] if line.startswith("host0") else line for line in output.splitlines()]
    assert lines == [stopped, "kept", stopped, "kept", "kept", "host0"]
    assert "198.51.100.2/24" in output


def test_the_network_between_two_hosts_can_be_cut_and_mended() -> None:
    program = """
from kubevault_lab.hosts import machine
one, two, three = machine.create(["one", "two", "three"])
def reaches(target):
    return one.run("timeout", "2", "bash", "-c", f"exec 3<>/dev/tcp/{target.address}/22", check=False).returncode == 0
print([reaches(two), reaches(three)])
one.cut(two.address)
print([reaches(two), reaches(three)])
one.mend()
print([reaches(two), reaches(three)])
"""
    output = sandboxed(f"{sys.executable} - <<'E'\n{program}\nE")
    assert output.splitlines() == ["[True, True]", "[False, True]", "[True, True]"]


def test_nothing_is_left() -> None:
    before = machine()
    sandboxed(f"hosts up {NAME}; hosts run {NAME} -- nft add table inet test")
    assert machine() == before


def test_the_exit_status_is_that_of_the_command() -> None:
    assert subprocess.run([*SANDBOX, "sh", "-c", "exit 7"], check=False).returncode == 7
    assert subprocess.run([*SANDBOX, "sh", "-c", "kill -KILL $$"], check=False).returncode == 137


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_where_creation_is_ended_half_way(number: signal.Signals, tmp_path: Path) -> None:
    before = machine()
    started = tmp_path / "started"
    notice = f"(until mount | grep -q kubevault-hosts/machines/two; do :; done; touch {started})"
    script = f"{notice} & exec {' '.join(HOSTS)} up {NAME} two"
    process = subprocess.Popen([*SANDBOX, "bash", "-c", script])
    wait_until("the second host's root", started.exists)
    process.send_signal(number)
    process.wait()
    if number == signal.SIGKILL:
        # The kernel ends the rest; the empty control groups wait for the next sandbox.
        wait_until("the end of all processes", lambda: not machine()["processes"])
        subprocess.run([*SANDBOX, "true"], check=True)
    assert machine() == before


def test_a_host_whose_root_cannot_boot_is_an_error_with_its_log() -> None:
    output = sandboxed(
        """
        hosts up one.example.org
        hosts stop one.example.org
        rm /run/kubevault-hosts/machines/one.example.org/root/sbin/init
        rm /run/kubevault-hosts/machines/one.example.org/root/lib/systemd/systemd
        hosts start one.example.org 2>&1 || true
        """
    )
    assert "error: one.example.org ended while it started:" in output


def test_hosts_need_a_sandbox() -> None:
    done = subprocess.run([*HOSTS, "up", "one"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "error: hosts are stood up in a sandbox: python -m kubevault_lab.hosts sandbox -- COMMAND\n",
    )
