"""Where MicroK8s keeps its files, and the arguments of its services."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

SNAP = Path(os.environ["SNAP"])
DATA = Path(os.environ["SNAP_DATA"])
ARGS = DATA / "args"
CERTS = DATA / "certs"
CREDENTIALS = DATA / "credentials"
LOCKS = DATA / "var/lock"
GROUP = "microk8s"

INSTALLED = LOCKS / "installed.lock"
STOPPED = LOCKS / "stopped.lock"
WORKER = LOCKS / "clustered.lock"
JOINED = LOCKS / "no-cert-reissue"
NO_ETCD = LOCKS / "no-etcd"

ADMIN = CREDENTIALS / "client.config"


def run(*command: object, stdin: str | None = None) -> str:
    """Run a program and return its standard output; its standard error is ours."""
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, input=stdin, text=True).stdout


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """Run kubectl as the administrator."""
    return run(SNAP / "bin/kubectl", f"--kubeconfig={ADMIN}", *arguments, stdin=stdin)


def arguments(service: str) -> list[str]:
    """Return the arguments of a service, as its file in args has them: one a line, with variables."""
    return [os.path.expandvars(word) for word in shlex.split((ARGS / service).read_text(), comments=True)]


def set_argument(service: str, name: str, value: str) -> bool:
    """Set an argument of a service; return whether it was another."""
    file = ARGS / service
    before = file.read_text().splitlines()
    after = [f"{name}={value}", *(line for line in before if not line.startswith(f"{name}="))]
    file.write_text("\n".join(after) + "\n")
    return set(before) != set(after)


def restart(*services: str) -> None:
    """Restart services of the snap."""
    for service in services:
        command = ["snapctl", "restart", f"microk8s.daemon-{service}"]
        if subprocess.run(command, check=False).returncode:
            print(f"Failed to restart service microk8s.daemon-{service}.")
            raise SystemExit(4)


def addresses() -> list[str]:
    """Return the host's addresses."""
    return [address for address in run("hostname", "-I").split() if not address.startswith("169.254.")]


def default_address() -> str:
    """Return the address of the interface with the default route; without one, the host's first."""
    route = run("ip", "-4", "-o", "route", "get", "198.51.100.1").split() if has_default_route() else []
    return route[route.index("src") + 1] if "src" in route else addresses()[0]


def has_default_route() -> bool:
    """Whether there is a default route, which MicroK8s needs."""
    return bool(run("ip", "-4", "route", "show", "default").strip())


def hostname() -> str:
    """Return the name of this node."""
    return os.uname().nodename.lower()
