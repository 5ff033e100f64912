"""The client in a process that is forked, as gunicorn, Celery and multiprocessing do, and at the end of a process."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import queue
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.client import Manager, Put
from support.cluster import Cluster
from support.servers import PATIENCE, PrivateVault

from secretmanager import AsyncSecretManager, SecretManager
from secretmanager.errors import ManagerClosed

REVOKE = "auth/token/revoke-self"


def in_child(call: Callable[[], object]) -> int:
    """Call a function in a process that is forked now; return its exit status: 1, with a traceback, if it hangs."""
    child = os.fork()
    if child == 0:
        logging.disable()  # pytest's handlers write to a stream whose own lock a thread of the parent may hold
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        try:
            call()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the process ends here
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def threads(number: int, call: Callable[[], object]) -> Iterator[None]:
    """Call a function all the time, in several threads."""
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            call()

    working = [threading.Thread(target=work) for _ in range(number)]
    for thread in working:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in working:
            thread.join()


@pytest.fixture
def secret(put: Put) -> str:
    return put({"a": "PLAIN-1"})


def reader(one: SecretManager, cluster: Cluster, secret: str) -> Callable[[], object]:
    return lambda: one.read_secrets(secret, cluster.namespace, transit_key="plain")


def test_a_child_reads_while_threads_of_its_parent_do(manager: Manager, cluster: Cluster, secret: str) -> None:
    """At the fork they hold the locks, and all connections are in use."""
    one = manager(connections=1, cache_plaintext_ttl=0.001)
    read = reader(one, cluster, secret)
    with threads(4, read):
        assert [in_child(read) for _ in range(10)] == [0] * 10


def test_a_child_reads_while_a_thread_of_its_parent_logs_in(manager: Manager, cluster: Cluster, secret: str) -> None:
    one = manager()
    began = threading.Event()
    session = one._connected()[1]
    log_in = session._log_in

    def slowly() -> Any:
        began.set()
        threading.Event().wait(1)
        return log_in()

    session._log_in = slowly
    thread = threading.Thread(target=reader(one, cluster, secret))
    thread.start()
    began.wait(PATIENCE)
    assert in_child(reader(one, cluster, secret)) == 0
    thread.join()


def test_a_child_leaves_the_token_and_the_watches_of_its_parent(
    manager: Manager, put: Put, cluster: Cluster, secret: str, vault: PrivateVault
) -> None:
    one, found = manager(), queue.Queue[Any]()
    read = reader(one, cluster, secret)
    read()
    watch = one.watch(secret, cluster.namespace, transit_key="plain", on_change=found.put)
    revoked = vault.requests(REVOKE)

    def end() -> None:
        assert (watch.closed, list(watch)) == (True, [])
        read()
        watch.close()
        one.close()

    assert in_child(end) == 0
    assert vault.requests(REVOKE) == revoked
    put({"a": "PLAIN-2"}, name=secret)
    assert found.get(timeout=PATIENCE) == {"a": "PLAIN-2"}


def test_a_watch_that_a_child_does_not_have_is_told_once(
    manager: Manager, cluster: Cluster, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As of gunicorn with preload_app: by the parent, in which it goes on, at its first fork."""
    one = manager()
    watch = one.watch(secret, cluster.namespace, transit_key="plain", on_change=print)
    one.watch(secret, cluster.namespace, transit_key="plain").close()
    assert [in_child(lambda: None) for _ in range(2)] == [0, 0]
    (told,) = [record.getMessage() for record in caplog.records if "forked" in record.getMessage()]
    assert told.startswith(
        f"{cluster.namespace}/{secret}: process {os.getpid()} was forked, and its watch goes on there"
    )
    watch.close()


def test_a_child_of_an_asynchronous_process_reads(options: dict[str, Any], cluster: Cluster, secret: str) -> None:
    one = AsyncSecretManager(options)

    async def read() -> None:
        assert await one.read_secrets(secret, cluster.namespace, transit_key="plain") == {"a": "PLAIN-1"}

    asyncio.run(read())
    assert in_child(lambda: asyncio.run(read())) == 0
    asyncio.run(one.close())
    with pytest.raises(ManagerClosed):
        asyncio.run(read())


def test_no_change_is_lost_by_a_time_out(options: dict[str, Any], put: Put, cluster: Cluster, secret: str) -> None:
    async def run() -> None:
        async with AsyncSecretManager(options) as one:
            watch = await one.watch(secret, cluster.namespace, transit_key="plain")
            for value in ("PLAIN-2", "PLAIN-3"):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(watch), 0.5)
                await asyncio.to_thread(put, {"a": value}, name=secret)
                assert await asyncio.wait_for(anext(watch), PATIENCE) == {"a": value}
            await watch.close()
            with pytest.raises(StopAsyncIteration):
                await anext(watch)

    asyncio.run(run())


WATCHES = {
    "sync": "SecretManager(options).watch(*place, on_change=print)\n",
    "async": """
async def run():
    one = AsyncSecretManager(options)
    watch = await one.watch(*place)
    try:
        await asyncio.wait_for(anext(watch), 0.5)
    except TimeoutError:
        pass
asyncio.run(run())
""",
}


@pytest.mark.parametrize("code", WATCHES.values(), ids=WATCHES)
def test_a_watch_that_nobody_closed_keeps_no_process_from_ending(
    options: dict[str, Any], cluster: Cluster, secret: str, code: str
) -> None:
    place = (secret, cluster.namespace, "SECRET", None, "plain")
    head = f"import asyncio, time\nfrom secretmanager import *\noptions, place = {options!r}, {place!r}\n"
    ended = subprocess.run([sys.executable, "-c", head + code + "\ntime.sleep(0.5)"], timeout=PATIENCE, check=False)
    assert ended.returncode == 0
