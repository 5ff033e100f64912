"""The command line: python -m kubevault_lab.hosts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from ..binaries import Provider
from ..cache import target_platform
from ..errors import LabError
from . import machine, sandbox, snapd
from .mirror import Mirror
from .rootfs import RootFileSystem
from .sandbox import STATE

_DESCRIPTION = """\
Hosts with a real systemd, an address and sshd, by systemd-nspawn, in a sandbox of which nothing is left.

  python -m kubevault_lab.hosts sandbox -- bash      a shell in a sandbox, and in it:
  python -m kubevault_lab.hosts up vault.example.org
  python -m kubevault_lab.hosts run vault.example.org -- systemctl status
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        arguments: arguments of the command line; None for sys.argv.

    Returns:
        Exit status: that of the command for `sandbox` and `run`; otherwise 0, or 1 for an error.
    """
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    match options.subcommand:
        case "sandbox":
            # Here, because a sandbox reaches no network.
            RootFileSystem.from_environment().provide()
            return sandbox.run(options.command)
        case "init":
            return sandbox.init(options.command)
        case "up":
            _up(options)
        case "status":
            for host in machine.hosts():
                print(f"{host.name} {host.address} {'running' if host.running else 'stopped'}")
        case "connection":
            print(yaml.safe_dump(machine.CONNECTION), end="")
        case "run":
            done = _host(options.name).run(*options.command, check=False)
            sys.stdout.write(done.stdout)
            sys.stderr.write(done.stderr)
            return done.returncode
        case "mirror":
            _mirror(options.folder)
        case "down":
            for host in machine.hosts():
                if host.name in options.name or not options.name:
                    host.remove()
        case action:
            getattr(_host(options.name), action)()
    return 0


def _up(options: argparse.Namespace) -> None:
    arguments = (*options.argument, *(snapd.ARGUMENTS if options.snapd else ()))
    for host in machine.create(options.name, arguments):
        if options.snapd:
            snapd.start(host)


def _mirror(folder: Path) -> None:
    provider = Provider.from_environment()
    project = provider.programs["vault"]
    release = project.release("vault", project.version(provider.tools), *target_platform())
    served = Mirror(folder, STATE / "signer")
    served.create_key()
    served.publish(release, provider.provide(["vault"])["vault"])
    served.serve()


def _host(name: str) -> machine.Host:
    known = {host.name: host for host in machine.hosts()}
    if name not in known:
        raise LabError(f"no host {name}; there are {', '.join(known) or 'none'}")
    return known[name]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kubevault_lab.hosts",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    each = commands.add_parser("sandbox", help="run a command in a sandbox of its own")
    each.add_argument("command", nargs="+")
    each = commands.add_parser("init")  # of a sandbox; not for users
    each.add_argument("command", nargs="+")
    each = commands.add_parser("up", help="create hosts, or start those that are stopped")
    each.add_argument("name", nargs="+")
    each.add_argument("--argument", action="append", default=[], help="an argument of systemd-nspawn, for new hosts")
    each.add_argument("--snapd", action="store_true", help="with snapd; for new hosts")
    commands.add_parser("status", help="list the hosts")
    commands.add_parser("connection", help="print the variables by which Ansible logs in, as YAML")
    each = commands.add_parser("run", help="run a command as root on a host")
    each.add_argument("name")
    each.add_argument("command", nargs="+")
    each = commands.add_parser("mirror", help="serve the lab's Vault as a release, signed by a key of its own")
    each.add_argument("folder", type=Path)
    each = commands.add_parser("down", help="remove hosts")
    each.add_argument("name", nargs="*", help="default: all")
    for action in ("start", "stop", "kill"):
        commands.add_parser(action, help=f"{action} a host").add_argument("name")
    return parser


if __name__ == "__main__":
    sys.exit(main())
