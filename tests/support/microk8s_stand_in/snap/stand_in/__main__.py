"""The command `microk8s` of the stand-in: options, output and exit codes as MicroK8s 1.36 has them."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

import addons
import certificates
import cluster
import services
from paths import ADMIN, CERTS, SNAP, STOPPED, WORKER, default_address, kubectl, run


def main() -> None:
    """Run the command that the arguments name."""
    command, *rest = sys.argv[1:] or ["help"]
    if command == "kubectl":
        _of_the_control_plane("kubectl")
        _while_started()
        os.environ["KUBECONFIG"] = str(ADMIN)
        os.execv(SNAP / "bin/kubectl", ["kubectl", *rest])
    arguments = _parser().parse_args()
    arguments.run(arguments)


def status(options: argparse.Namespace) -> None:
    """`microk8s status`: ends with 1 if Kubernetes is not ready."""
    if not os.access(ADMIN, os.R_OK):
        print("Insufficient permissions to access MicroK8s.")
        raise SystemExit(1)
    if WORKER.exists():
        print("This MicroK8s deployment is acting as a node in a cluster.\nPlease use the control plane node.")
        return
    if STOPPED.exists():
        print("microk8s is not running, try microk8s start")
        return
    ready = _wait_ready(options.timeout) if options.wait_ready else _ready()
    lines = [f"microk8s:\n  running: {ready}", "high-availability:\n  enabled: False"]
    if ready:
        states = {name: "enabled" if addons.enabled(name) else "disabled" for name in addons.ADDONS}
        lines.append("addons:")
        for name in sorted(states, key=lambda name: (states[name] == "disabled", name)):
            addon = addons.ADDONS[name]
            lines.append(f"  - name: {name}\n    repository: core\n    description: {addon.description}")
            lines.append(f"    version: {addon.version}\n    status: {states[name]}")
    else:
        lines.append("  message: microk8s is not running. Use microk8s inspect for a deeper inspection.")
    print("\n".join(lines))
    if not ready:
        raise SystemExit(1)


def config(_: argparse.Namespace) -> None:
    """`microk8s config`: the administrator's kubeconfig file, with the host's address."""
    _of_the_control_plane("config")
    print(ADMIN.read_text().replace("127.0.0.1", default_address()))


def enable(options: argparse.Namespace) -> None:
    """`microk8s enable` and `microk8s disable`, of one addon with its argument, as in dns:1.1.1.1."""
    _of_the_control_plane(options.command)
    _while_started()
    whole, _, argument = options.addon.partition(":")
    name = whole.removeprefix("core/")
    if name not in addons.ADDONS:
        print(f"Addon {name} was not found in any repository", file=sys.stderr)
        raise SystemExit(1)
    _wait_ready(30)
    if addons.enabled(name) == (options.command == "enable"):
        print(f"Addon core/{name} is already {options.command}d")
    elif options.command == "enable":
        addons.enable(name, argument)
    else:
        addons.disable(name)
    _wait_ready(30)


def add_node(options: argparse.Namespace) -> None:
    """`microk8s add-node`."""
    _of_the_control_plane("add-node")
    info = cluster.add_node(options.token, options.token_ttl)
    print(json.dumps(info, indent=2) if options.format == "json" else f"microk8s join {info['urls'][0]}")


def join(options: argparse.Namespace) -> None:
    """`microk8s join`."""
    cluster.join(options.connection, options.worker)


def remove_node(options: argparse.Namespace) -> None:
    """`microk8s remove-node`."""
    kubectl("delete", "node", options.node)


def refresh_certs(options: argparse.Namespace) -> None:
    """`microk8s refresh-certs`."""
    if os.geteuid():
        print("Elevated permissions is needed for this operation. Please run this command with sudo.")
        raise SystemExit(50)
    if options.ca_dir:
        certificates.install_authority(options.ca_dir)
    elif options.undo:
        certificates.undo()
    elif options.check:
        print(run("openssl", "x509", "-enddate", "-noout", "-in", CERTS / "ca.crt"))
    elif options.cert:
        certificates.refresh(options.cert)
    else:
        print("Please use the '--cert' flag to select the certificate you need refreshed.")
        raise SystemExit(3)


def start(_: argparse.Namespace) -> None:
    """`microk8s start`."""
    run("snapctl", "start", "microk8s", "--enable")
    STOPPED.unlink(missing_ok=True)


def stop(_: argparse.Namespace) -> None:
    """`microk8s stop`."""
    run("snapctl", "stop", "microk8s", "--disable")
    STOPPED.touch()


def version(_: argparse.Namespace) -> None:
    """`microk8s version`."""
    print(f"MicroK8s {os.environ['SNAP_VERSION']} revision {os.environ['SNAP_REVISION']}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="microk8s")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function in (("config", config), ("start", start), ("stop", stop), ("version", version)):
        commands.add_parser(name).set_defaults(run=function)
    of_status = commands.add_parser("status")
    of_status.set_defaults(run=status)
    of_status.add_argument("--wait-ready", "-w", action="store_true")
    of_status.add_argument("--timeout", "-t", type=int, default=0)
    of_status.add_argument("--format", choices=["yaml"], default="yaml")
    for name in ("enable", "disable"):
        of_addon = commands.add_parser(name)
        of_addon.set_defaults(run=enable)
        of_addon.add_argument("addon")
    of_add = commands.add_parser("add-node")
    of_add.set_defaults(run=add_node)
    of_add.add_argument("--token-ttl", "-l", type=int, default=-1)
    of_add.add_argument("--token", "-t")
    of_add.add_argument("--format", choices=["short", "json"], default="short")
    of_join = commands.add_parser("join")
    of_join.set_defaults(run=join)
    of_join.add_argument("connection")
    of_join.add_argument("--worker", action="store_true")
    of_remove = commands.add_parser("remove-node")
    of_remove.set_defaults(run=remove_node)
    of_remove.add_argument("node")
    of_remove.add_argument("--force", action="store_true")
    of_certs = commands.add_parser("refresh-certs")
    of_certs.set_defaults(run=refresh_certs)
    of_certs.add_argument("ca_dir", nargs="?", type=Path)
    of_certs.add_argument("--undo", "-u", action="store_true")
    of_certs.add_argument("--check", "-c", action="store_true")
    of_certs.add_argument("--cert", "-e", choices=["ca.crt", "server.crt"])
    of_service = commands.add_parser("service")
    of_service.set_defaults(run=lambda options: services.SERVICES[options.name]())
    of_service.add_argument("name", choices=services.SERVICES)
    of_hook = commands.add_parser("hook")
    of_hook.set_defaults(run=lambda _: services.install())
    of_hook.add_argument("name", choices=["install"])
    return parser


def _of_the_control_plane(command: str) -> None:
    if WORKER.exists():
        print("This MicroK8s deployment is acting as a node in a cluster.", end=" ")
        print(f"Please use the microk8s {command} on the master.")
        raise SystemExit(0)


def _while_started() -> None:
    if STOPPED.exists():
        print("microk8s is not running, try microk8s start", file=sys.stderr)
        raise SystemExit(1)


def _ready() -> bool:
    try:
        return "service/kubernetes" in kubectl("get", "all", "--output=name") and " Ready " in kubectl("get", "nodes")
    except subprocess.CalledProcessError:
        return False


def _wait_ready(timeout: int) -> bool:
    end = time.monotonic() + timeout
    while not _ready():
        if timeout and time.monotonic() > end:
            return False
        time.sleep(2)
    return True


main()
