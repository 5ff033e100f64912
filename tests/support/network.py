"""A network whose middle drops connections: two network namespaces, joined by a cable, and nothing of the machine's."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kubevault_lab.network import CLONE_NEWNET, open_namespace, setns

T = TypeVar("T")

SERVER = "192.0.2.1"
"""The server's address (TEST-NET-1, RFC 5737)."""

_CLIENT = "192.0.2.2"


class Network:
    """A client's side and a server's side, each a network namespace, given by a process in it.

    Packets are dropped by a routing rule where they enter the server's side, as by a firewall that has forgotten a
    connection: nobody is told.
    """

    def __init__(self, client: int, server: int) -> None:
        self._client, self._server = client, server
        for pid, device, address in ((client, "client", _CLIENT), (server, "server", SERVER)):
            if pid == client:
                self._run(client, "ip", "link", "add", device, "type", "veth", "peer", "server", "netns", str(server))
            self._run(pid, "ip", "address", "add", f"{address}/24", "dev", device)
            self._run(pid, "ip", "link", "set", device, "up")
        # The rules of this test come before the table of local addresses, and count for connections that exist.
        self._run(server, "ip", "rule", "add", "pref", "10", "lookup", "local")
        self._run(server, "ip", "rule", "delete", "pref", "0")
        self._run(server, "sh", "-c", "echo 0 >/proc/sys/net/ipv4/tcp_early_demux")

    def listener(self) -> socket.socket:
        """Return a listening socket on the server's side."""
        return _within(self._server, lambda: socket.create_server((SERVER, 0)))

    def as_client(self, call: Callable[[], T]) -> T:
        """Call a function whose sockets, and those of threads that it starts, are on the client's side."""
        return _within(self._client, call)

    def drop(self) -> int:
        """Drop what the client sends over connections that exist now; return their number."""
        listed = self._run(self._client, "ss", "--no-header", "--tcp", "--numeric", "state", "established")
        ports = [line.split()[2].rpartition(":")[2] for line in listed.splitlines()]
        for port in ports:
            self._run(self._server, "ip", "rule", "add", "pref", "5", "ipproto", "tcp", "sport", port, "blackhole")
        return len(ports)

    @staticmethod
    def _run(pid: int, *command: str) -> str:
        nsenter = ["nsenter", "--target", str(pid), "--net"]
        return subprocess.run([*nsenter, *command], check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def own_network() -> Iterator[Network]:
    """Make a network; it ends with its two processes."""
    with contextlib.ExitStack() as stack:
        pids = []
        for _ in range(2):
            holder = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            stack.callback(holder.communicate)  # without input it ends
            assert holder.stdout
            holder.stdout.readline()
            pids.append(holder.pid)
        yield Network(*pids)


def _within(pid: int, call: Callable[[], T]) -> T:
    """Call a function in a thread of its own that is in the network namespace of a process."""
    with ThreadPoolExecutor(1, initializer=_enter, initargs=(pid,)) as thread:
        return thread.submit(call).result()


def _enter(pid: int) -> None:
    """Move this thread, and those that it starts, into the network namespace of a process."""
    namespace = open_namespace("net", pid)
    try:
        setns(namespace, CLONE_NEWNET)
    finally:
        os.close(namespace)
