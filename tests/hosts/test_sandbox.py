"""Hosts in a sandbox: what they are, what can be done to them, and that nothing of them is left on the machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.search import below, processes
from support.servers import wait_until

from kubevault_lab.hosts.cgroups import name_of

HOSTS = [sys.executable, "-m", "kubevault_lab.hosts"]
SANDBOX = [*HOSTS, "sandbox", "--"]


def sandboxed(script: str) -> str:
    """Run a shell script in a sandbox; return its output."""
    command = [*SANDBOX, "bash", "-euo", "pipefail", "-c", f'hosts() {{ {" ".join(HOSTS)} "$@"; }}\n{script}']
    process = begin(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output, errors = process.communicate()
    assert process.returncode == 0, output + errors
    return output


def begin(command: list[str], **options: Any) -> subprocess.Popen[str]:
    """Start a sandbox, and note its control group."""
    process = subprocess.Popen(command, text=True, **options)
    GROUPS.add(name_of(process.pid))
    return process


NAME = f"one-{os.getpid()}.example.org"
"""A host's name that only this run has: other sandboxes may begin and end meanwhile."""

GROUPS: set[str] = set()
"""Names of the control groups of this run's sandboxes."""


def machine() -> dict[str, object]:
    """Return what hosts could leave on this machine."""
    devices = [*Path("/sys/class/net").iterdir(), *Path("/run").glob("netns/*")]
    return {
        "mounts": [line for line in Path("/proc/self/mounts").read_text().splitlines() if "kubevault" in line],
        "network": sorted(path.name for path in devices if re.match("hosts$|vb-|kubevault", path.name)),
        "groups": [str(path) for path in below(Path("/sys/fs/cgroup")) if path.name in GROUPS],
        "processes": [command for _, command in processes() if NAME in command],
        "hosts": Path("/etc/hosts").read_text(),
    }


LIST_RUN = "find /run -maxdepth 2 -ignore_readdir_race"


def run() -> set[str]:
    """Return what is in /run of this machine, where other programs write too."""
    return set(subprocess.run(LIST_RUN.split(), capture_output=True, text=True, check=True).stdout.splitlines())


def test_a_host_is_a_server_with_its_own_address_name_and_log_in() -> None:
    output = sandboxed(
        """
        hosts up one.example.org two.example.org
        log_in="-i /run/kubevault-hosts/id_ed25519 -o UserKnownHostsFile=/run/kubevault-hosts/known_hosts"
        ssh $log_in admin@one.example.org '
            cat /proc/1/comm; hostname; sudo systemctl is-system-running; getent hosts two.example.org
            grep nameserver /etc/resolv.conf || echo asks nobody else'
        """
    )
    name = "198.51.100.3    two.example.org"
    assert output.splitlines() == ["systemd", "one.example.org", "running", name, "asks nobody else"]


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
def reaches(target, seconds="60"):
    command = "timeout", seconds, "bash", "-c", f"exec 3<>/dev/tcp/{target.address}/22"
    return one.run(*command, check=False).returncode == 0
print([reaches(two), reaches(three)])
one.cut(two.address)
print([reaches(two, "2"), reaches(three)])
one.mend()
print([reaches(two), reaches(three)])
"""
    output = sandboxed(f"{sys.executable} - <<'E'\n{program}\nE")
    assert output.splitlines() == ["[True, True]", "[False, True]", "[True, True]"]


def test_nothing_is_left() -> None:
    before, run_before = machine(), run()
    run_inside = sandboxed(f"hosts up {NAME}; hosts run {NAME} -- nft add table inet test; {LIST_RUN}").splitlines()
    assert "/run/kubevault-hosts" in run_inside, "otherwise the test proves nothing"
    assert machine() == before
    assert (run() - run_before) & set(run_inside) == set()


def test_the_exit_status_is_that_of_the_command() -> None:
    assert subprocess.run([*SANDBOX, "sh", "-c", "exit 7"], check=False).returncode == 7
    assert subprocess.run([*SANDBOX, "sh", "-c", "kill -KILL $$"], check=False).returncode == 137


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_where_creation_is_ended_half_way(number: signal.Signals, tmp_path: Path) -> None:
    before, run_before = machine(), run()
    started = tmp_path / "started"
    notice = f"until mount | grep -q kubevault-hosts/machines/two; do :; done; {LIST_RUN} >{started}.now"
    script = f"({notice}; mv {started}.now {started}) & exec {' '.join(HOSTS)} up {NAME} two"
    process = begin([*SANDBOX, "bash", "-c", script])
    wait_until("the second host's root", started.exists)
    process.send_signal(number)
    process.wait()
    if number == signal.SIGKILL:
        # The kernel ends the rest; the empty control groups wait for the next sandbox.
        wait_until("the end of all processes", lambda: not machine()["processes"])
        subprocess.run([*SANDBOX, "true"], check=True)
    assert machine() == before
    assert (run() - run_before) & set(started.read_text().splitlines()) == set()


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
