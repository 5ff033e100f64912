"""Run the lab's node in namespaces of its own, and relay TCP connections between it and this machine.

The node has its own process IDs, network and mounts. When its first process ends, the kernel ends all the others and
takes away their network and mounts: nothing of the node is left on this machine, however it ended. The node's network
has no route to anywhere; what it needs of this machine is relayed, so that servers stay on loopback and the machine
needs no bridge, address translation or forwarding.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass

from .network import CLONE_NEWNET, CLONE_NEWPID, open_namespace, setns, unshare, within

CHUNK = 1 << 16
"""Bytes that a relay reads at once."""

IP_FREEBIND = 15
"""Bind to an address that does not exist yet (ip(7)); the socket module does not name it."""

Address = tuple[str, int]


@dataclass(frozen=True)
class Relay:
    """Connections to accept at one address and to forward to another.

    Attributes:
        listen: numeric IPv4 address and port to listen on.
        connect: numeric IPv4 address and port to connect to.
        inward: False to listen in the node and connect on this machine; True for the reverse.
    """

    listen: Address
    connect: Address
    inward: bool

    @classmethod
    def parse(cls, text: str, *, inward: bool) -> Relay:
        """Return the relay that "LISTEN:PORT=CONNECT:PORT" describes.

        Raises:
            ValueError: the text does not have this form.
        """
        listen, _, connect = text.partition("=")
        return cls(_address(listen), _address(connect), inward)


def start(command: Sequence[str]) -> tuple[subprocess.Popen[bytes], int]:
    """Start a command as the first process of new PID, network and mount namespaces; it ends with this process.

    Args:
        command: the program and its arguments.

    Returns:
        The process, and a file descriptor of its network namespace.

    Raises:
        OSError: this user may not create namespaces.
    """
    with ExitStack() as stack:
        for kind, flag in (("pid", CLONE_NEWPID), ("net", CLONE_NEWNET)):
            namespace = open_namespace(kind)
            stack.callback(os.close, namespace)
            stack.callback(setns, namespace, flag)
        unshare(CLONE_NEWPID | CLONE_NEWNET)
        launcher = ["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "--mount-proc", "--"]
        process = subprocess.Popen([*launcher, *command], stdin=subprocess.DEVNULL)  # noqa: S603 - our own caller's
        return process, open_namespace("net")


async def run(command: Sequence[str], relays: Sequence[Relay]) -> int:
    """Run a command in a node, with relays, until it ends or this process gets SIGTERM or SIGINT.

    Args:
        command: the program and its arguments.
        relays: what to relay.

    Returns:
        The exit status of the command, negative if a signal ended it (`subprocess.Popen.returncode`). When this
        function returns, all processes of the node have ended.

    Raises:
        OSError: this user may not create namespaces, or an address is not free.
    """
    loop = asyncio.get_running_loop()
    process, network = start(command)
    try:
        for relay in relays:
            await _serve(relay, network)
        ended = asyncio.Event()
        loop.add_reader(os.pidfd_open(process.pid), ended.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, process.kill)
        await ended.wait()
    finally:
        # The kernel lets the first process of a PID namespace end as the last one (pid_namespaces(7)).
        process.kill()
        process.wait()
    return process.returncode


async def _serve(relay: Relay, network: int) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with within(network) if relay.inward else nullcontext():
                outgoing = socket.socket()
            outgoing.setblocking(False)
            await asyncio.get_running_loop().sock_connect(outgoing, relay.connect)
            other_reader, other_writer = await asyncio.open_connection(sock=outgoing)
        except OSError as error:
            print(f"{relay.connect[0]}:{relay.connect[1]}: {error.strerror}", file=sys.stderr)
            writer.transport.abort()
            return
        await asyncio.gather(_copy(reader, other_writer), _copy(other_reader, writer))
        for each in (writer, other_writer):
            each.close()

    with nullcontext() if relay.inward else within(network):
        listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # The node sets its addresses up itself, a moment later.
    listener.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    listener.bind(relay.listen)
    await asyncio.start_server(accept, sock=listener)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, and pass the end on; a broken connection breaks the other."""
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not host:
        raise ValueError(f"{text!r} is not ADDRESS:PORT")
    return host, int(port)


def main(arguments: list[str] | None = None) -> int:
    """Run a node for the command line.

    Args:
        arguments: arguments of the command line; None for sys.argv.

    Returns:
        Exit status: 0 if it was told to end, 1 if the node ended by itself.
    """
    parser = argparse.ArgumentParser(prog="python -m kubevault_lab.node", description=__doc__)
    form = "ADDRESS:PORT=ADDRESS:PORT"
    parser.add_argument("--outward", action="append", default=[], metavar=form, help="listen in the node")
    parser.add_argument("--inward", action="append", default=[], metavar=form, help="listen on this machine")
    parser.add_argument("command", nargs="+", help="first process of the node")
    options = parser.parse_args(arguments)
    relays = [
        *(Relay.parse(text, inward=False) for text in options.outward),
        *(Relay.parse(text, inward=True) for text in options.inward),
    ]
    status = asyncio.run(run(options.command, relays))
    return 0 if status == -signal.SIGKILL else 1


if __name__ == "__main__":
    sys.exit(main())
