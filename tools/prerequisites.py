"""Says what this machine lacks, before anything is installed. It runs on any Python 3, old ones too.

With --node it names what the node of a lab (`make lab-up LAB_NODE=1`) needs besides, with --pods what
the tests in pods need.
"""

import importlib.util
import os
import pathlib
import platform
import shutil
import stat
import sys


def missing():
    """Return a sentence for each thing that is missing; each says how to get it."""
    if platform.system() != "Linux":
        yield "Linux: found {}. The lab's servers run on Linux alone.".format(platform.system())
    if sys.version_info < (3, 11):
        yield "Python 3.11 or newer: found {}. Install one, then: make PYTHON=python3.11 ...".format(
            platform.python_version()
        )
    checkout = pathlib.Path(__file__).resolve().parents[1]
    if os.pathsep in str(checkout):
        yield "a checkout in whose path is no {!r}, which PATH cannot hold: found {}".format(os.pathsep, checkout)
    if checkout.stat().st_mode & stat.S_IWOTH:
        yield "a checkout that not everybody may write, or Ansible ignores its ansible.cfg: chmod o-w {}".format(
            checkout
        )
    if importlib.util.find_spec("ensurepip") is None:
        yield "Python's venv. On Debian or Ubuntu: apt install python3-venv"
    if shutil.which("setpriv") is None:
        yield "setpriv (util-linux). On Debian or Ubuntu: apt install util-linux"
    if shutil.which("ss") is None:
        yield "ss (iproute2), for the tests. On Debian or Ubuntu: apt install iproute2"


# What the node runs, by the name of its package in Debian and Ubuntu.
NODE_FILES = {
    "containerd": ["/usr/bin/containerd", "/usr/local/bin/containerd"],
    "runc": ["/usr/bin/runc", "/usr/sbin/runc", "/usr/local/bin/runc", "/usr/local/sbin/runc"],
    "containernetworking-plugins": [
        folder + "/bridge" for folder in ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")
    ],
    "catatonit": ["/usr/bin/catatonit", "/usr/libexec/catatonit/catatonit"],
    "iproute2": ["/sbin/ip", "/usr/sbin/ip", "/usr/bin/ip"],
}


def missing_for_node():
    """Return a sentence for each thing that a node misses."""
    if os.geteuid() != 0:
        yield "root, which makes the namespaces, cgroups and mounts of a node: found user ID {}.".format(os.geteuid())
    for package, paths in NODE_FILES.items():
        if not any(map(os.path.exists, paths)):
            yield "{}. On Debian or Ubuntu: apt install {}".format(package, package)
    if not os.access("/sys/fs/cgroup", os.W_OK):
        yield "cgroups that can be written (/sys/fs/cgroup); a container has them if it is privileged."


def missing_for_pods():
    """Return a sentence for each thing that the tests in pods miss."""
    for sentence in missing_for_node():
        yield sentence
    for package, path in (("busybox-static", "/bin/busybox"), ("nginx-light", "/usr/sbin/nginx")):
        if shutil.which(path) is None:
            yield "{}. On Debian or Ubuntu: apt install {}".format(path, package)
    if shutil.which("go") is None:
        yield "Go, which builds programs of the tests: https://go.dev/dl/"


CHECKS = {"--node": missing_for_node, "--pods": missing_for_pods}
found = list(CHECKS[sys.argv[1]]() if len(sys.argv) > 1 else missing())
for sentence in found:
    sys.stderr.write("Missing: " + sentence + os.linesep)
sys.exit(1 if found else 0)
