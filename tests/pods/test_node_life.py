"""The life of a lab's node: nothing of it is left on the machine, however it ended, and it is repaired."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.ansible import BIN, play_in_lab
from support.images import BUSYBOX, busybox
from support.lab import Lab
from support.pods import container, create_namespace
from support.search import below, processes
from support.servers import wait_until

from kubevault_lab.images import load

SYSCTLS = [
    *("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops"),
    *("kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes", "net/ipv4/ip_forward"),
]


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def machine(lab: Path) -> dict[str, Any]:
    """Return what a node could leave on the machine; of what others may change meanwhile, what names the lab."""
    identity = hashlib.sha256(str(lab.resolve()).encode()).hexdigest()[:12]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    links = json.loads(output("ip", "-json", "link"))
    folders = ("/var/lib/kubelet", "/var/lib/cni", "/var/log/pods", "/var/log/containers", "/run/containerd")
    return {
        "mounts": [line for line in mounts if str(lab) in line],
        "cgroups": sorted(
            str(path) for path in below(Path("/sys/fs/cgroup")) if path.name.startswith(f"kubevault-{identity}")
        ),
        "interfaces": sorted(link["ifname"] for link in links if link["ifname"].startswith(("pods", "veth", "cni"))),
        "namespaces": sorted(map(str, Path("/run/netns").glob("cni-*"))),
        "rules": re.findall(r".*(?:CNI|KUBE|10\.244\.|10\.96\.).*", output("nft", "list", "ruleset")),
        "processes": of_lab(lab),
        "sysctls": {name: Path("/proc/sys", name).read_text() for name in SYSCTLS},
        "folders": {folder: Path(folder).exists() and sorted(Path(folder).iterdir()) for folder in folders},
        "lab": lab.exists(),
    }


def of_lab(lab: Path) -> list[str]:
    """Return the command lines of processes that name the lab, such as its containerd-shims."""
    return [command for pid, command in processes() if str(lab) in command and pid != os.getpid()]


def kubelet(lab: Lab) -> str:
    """Return the kubelet's process ID in the node; nothing if it does not run."""
    command = [BIN / "supervisorctl", "-c", lab.folder / "node/supervisord.conf", "status", "kubelet"]
    status = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"RUNNING\s+pid (\d+)", status)
    return found[1] if found else ""


def up(lab: Lab) -> int:
    return play_in_lab("playbooks/lab.yml", lab.folder).changed


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """Return a lab with a node, which a test may take down."""
    monkeypatch.setenv("LAB_NODE", "1")
    lab = Lab(Path(tempfile.mkdtemp(prefix="kv-")))
    try:
        yield lab
    finally:
        lab.play("lab-down.yml")


def run_pods(lab: Lab) -> None:
    """Run a pod to its end, and leave another one running."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
        archive.write(busybox())
        archive.flush()
        load(str(lab.folder / "node/containerd.sock"), Path(archive.name))
    pods = create_namespace(lab.env["KUBECONFIG"])
    assert pods.run({"containers": [container(BUSYBOX, ["/bin/echo", "hello"])]}) == "hello\n"
    pods.wait(pods.start({"containers": [container(BUSYBOX, ["/bin/sleep", "3600"])]}), "Running")


def test_nothing_is_left_after_lab_down(lab: Lab) -> None:
    lab.folder.rmdir()
    before = machine(lab.folder)
    up(lab)
    run_pods(lab)
    during = machine(lab.folder)
    assert any("containerd-shim" in command for command in during["processes"]), "otherwise the test proves nothing"
    assert during["cgroups"] != before["cgroups"]
    pid = kubelet(lab)
    subprocess.run(
        [BIN / "supervisorctl", "-c", lab.folder / "node/supervisord.conf", "signal", "KILL", "kubelet"], check=True
    )
    wait_until("another kubelet", lambda: kubelet(lab) not in ("", pid))
    lab.play("lab-down.yml")
    # A node that did not end in time was killed, and the kernel then ends what is in it.
    wait_until("the end of the node", lambda: not of_lab(lab.folder))
    assert machine(lab.folder) == before


def test_nothing_is_left_of_a_lab_that_was_killed_and_a_second_run_repairs_it(lab: Lab) -> None:
    lab.folder.rmdir()
    before = machine(lab.folder)
    up(lab)
    run_pods(lab)
    os.kill(lab.supervisord(), signal.SIGKILL)
    wait_until("the end of the node", lambda: not of_lab(lab.folder))
    assert {**machine(lab.folder), "cgroups": [], "lab": False} == {**before, "cgroups": []}
    assert up(lab) > 0
    run_pods(lab)
    os.kill(lab.supervisord(), signal.SIGKILL)
    lab.play("lab-down.yml")
    wait_until("the end of the node", lambda: not of_lab(lab.folder))
    assert machine(lab.folder) == before
