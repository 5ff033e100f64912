"""No thread forks while another one is in a library that has locks of its own; the child can go in."""

from __future__ import annotations

import os
import threading

from secretmanager.servers.forking import unforked

PATIENCE = 60.0
"""Seconds after which what should come at once fails the test."""


def test_a_fork_waits_for_what_must_not_be_cut() -> None:
    inside, end, forked = threading.Event(), threading.Event(), threading.Event()
    statuses: list[int] = []

    def hold() -> None:
        with unforked():
            inside.set()
            end.wait(PATIENCE)

    def fork() -> None:
        child = os.fork()
        if child == 0:
            with unforked(), unforked():
                os._exit(0)
        forked.set()
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    threads = [threading.Thread(target=hold, daemon=True), threading.Thread(target=fork, daemon=True)]
    threads[0].start()
    assert inside.wait(PATIENCE)
    threads[1].start()
    assert not forked.wait(0.3)
    end.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert statuses == [0]
    with unforked():
        assert os.waitpid(_ending(), 0)[1] == 0


def _ending() -> int:
    """Fork inside, as a signal handler may."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    return child
