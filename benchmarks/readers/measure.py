"""Measure a reader in its process; print one JSON object."""

import json
import logging
import threading
import time
from pathlib import Path


class Count(logging.Handler):
    """Counts log-ins and renewals by the client's DEBUG messages."""

    def __init__(self):
        super().__init__()
        self.logins = self.renewals = 0

    def emit(self, record):
        """Count one message."""
        text = record.getMessage()
        self.logins += text.startswith("logged in to Vault")
        self.renewals += text.startswith("the token is renewed")


def run(setup, read, close=lambda: None):
    """Measure as the mode says: "warm" and "many" read one after another, "threads" all at once for some seconds."""
    assert read()
    found = in_threads(setup, read) if setup["mode"] == "threads" else one_by_one(setup, read)
    close()
    print(json.dumps({**found, "memory": memory()}))


def one_by_one(setup, read):
    """Return the times of reads, in seconds."""
    times = []
    for _ in range(setup["reads"]):
        start = time.perf_counter()
        assert read()
        times.append(time.perf_counter() - start)
    return {"times": times}


def in_threads(setup, read):
    """Return the numbers of reads, errors, log-ins and renewals."""
    count = Count()
    logger = logging.getLogger("secretmanager.login.session")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(count)
    logger.propagate = False
    end = time.monotonic() + setup["seconds"]
    reads, errors, kinds = [0] * setup["threads"], [0] * setup["threads"], set()

    def work(index):
        while time.monotonic() < end:
            try:
                assert read()
                reads[index] += 1
            except Exception as error:  # noqa: BLE001 - any failure counts
                errors[index] += 1
                kinds.add(type(error).__name__)

    threads = [threading.Thread(target=work, args=[index]) for index in range(setup["threads"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "reads": sum(reads),
        "errors": sum(errors),
        "kinds": sorted(kinds),
        "logins": count.logins,
        "renewals": count.renewals,
    }


def memory():
    """Return the peak memory of this process, in bytes (VmHWM of proc_pid_status(5))."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
