"""Measure sealing, side by side in one run: kubevault_secret, the command kubevault, the stock loop, and a floor.

    make bench-seal                       in a lab of its own
    python benchmarks/bench_seal.py       on the lab whose .lab/env was sourced

The floor is plain requests of http.client over kept-alive connections, without a new process: for a first run the
encryption of all values in batches and a POST for each Secret, for a rerun the HMAC of all values and a list; once over
one connection to each server, once over as many as the module has. "No-op" is Ansible with a module that takes the same
arguments and does nothing. The stock loop (community.hashi_vault.vault_write and kubernetes.core.k8s) runs on a few
Secrets; its time for more is extrapolated from the difference between one and a few, and marked as such.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from kubernetes import client, config

from secretmanager.sealed import Place
from secretmanager.sealing.stores import CONCURRENCY
from secretmanager.servers.kubeconfig import find_access
from secretmanager.servers.vault import BATCH_ITEMS, VaultClient

ROOT = Path(__file__).parents[1]
SEALERS = Path(__file__).parent / "sealers"
BIN = Path(sys.executable).parent

Secrets = list[dict[str, Any]]
AnyBench = TypeVar("AnyBench")


@dataclass(frozen=True)
class Case:
    """What is sealed, and how often it is measured."""

    title: str
    secrets: int
    keys: int


CASES = [
    Case("1 Secret", 1, 1),
    Case("100 Secrets", 100, 1),
    Case("1,000 Secrets", 1000, 1),
    Case("1,000 keys", 1, 1000),
]


@dataclass
class Measured:
    """Times in seconds and the largest process in MiB, of each contestant."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, seconds: float, memory: float | None = None) -> None:
        """Record one run."""
        self.seconds.setdefault(name, []).append(seconds)
        if memory is not None:
            self.memory[name] = max(memory, self.memory.get(name, 0))

    def median(self, name: str) -> float:
        """Return a contestant's median time."""
        return statistics.median(self.seconds[name])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="first runs and reruns of each")
    parser.add_argument("--stock", type=int, default=8, help="Secrets that the stock loop is measured with")
    arguments = parser.parse_args()
    with prepared(Bench) as bench:
        measured = {(case, run): Measured() for case in CASES for run in ("first", "rerun")}
        for number in range(arguments.rounds):
            for case in CASES:
                print(f"round {number + 1} of {arguments.rounds}: {case.title}", file=sys.stderr)
                bench.measure(case, measured[case, "first"], measured[case, "rerun"])
        stock = bench.measure_stock(arguments.stock)
    print_tables(measured, stock, arguments)


class Bench:
    """Runs contestants against both servers."""

    def __init__(self, folder: Path, key: str, namespace: str, api: client.CoreV1Api) -> None:
        self._folder = folder
        self._key = key
        self._namespace = namespace
        self._api = api

    def secrets(self, case: Case) -> Secrets:
        """Return Secrets of new names and random values."""
        stem = uuid.uuid4().hex[:8]

        def values() -> dict[str, str]:
            return {f"key-{n:04}" if case.keys > 1 else "value": uuid.uuid4().hex * 2 for n in range(case.keys)}

        names = [f"bench-{stem}-{n:04}" for n in range(case.secrets)]
        return [{"namespace": self._namespace, "name": name, "data": values()} for name in names]

    def measure(self, case: Case, first: Measured, rerun: Measured) -> None:
        """Measure all contestants on one case, each with new Secrets."""
        for connections in (1, CONCURRENCY):
            secrets = self.secrets(case)
            name = f"floor {connections}"
            first.add(name, self._floor(secrets, connections, self._seal_barely))
            rerun.add(name, self._floor(secrets, connections, self._compare_barely))
            self._clear()
        for name in ("ours", "noop"):
            secrets = self.secrets(case)
            for measured in (first, rerun):
                measured.add(name, *self._play(name, secrets))
            self._clear() if name == "ours" else None
        secrets = self.secrets(case)
        for measured in (first, rerun):
            measured.add("command", *self._command(secrets))
        self._clear()

    def measure_stock(self, count: int) -> Measured:
        """Measure the stock loop on one Secret and on a few."""
        measured = Measured()
        for number in (1, count):
            secrets = self.secrets(Case("", number, 1))
            for run in ("first", "rerun"):
                print(f"stock loop, {number} Secrets, {run}", file=sys.stderr)
                measured.add(f"{run} {number}", *self._play("stock", secrets))
        self._clear()
        return measured

    def _play(self, name: str, secrets: Secrets) -> tuple[float, float]:
        variables = self._folder / "variables.json"
        # The cheapest way to pass them to a task: Ansible reads them from a file.
        variables.write_text(json.dumps({"transit_key": self._key, "secrets": secrets}))
        env = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_LIBRARY": f"{ROOT / 'plugins' / 'modules'}:{SEALERS / 'library'}",
            "ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.default",
            "VAULT_TOKEN": operator_token(),
        }
        return timed([BIN / "ansible-playbook", SEALERS / f"{name}.yml", "-e", f"@{variables}"], env)

    def _command(self, secrets: Secrets) -> tuple[float, float]:
        file = self._folder / "secrets.json"
        file.write_text(json.dumps(secrets))
        return timed([BIN / "kubevault", "seal", "--transit-key", self._key, "--secrets", file], dict(os.environ))

    def _floor(
        self, secrets: Secrets, connections: int, work: Callable[[Connection, list[Connection], Secrets], None]
    ) -> float:
        vault, kubernetes = bare_connections(connections, operator_token())
        start = time.perf_counter()
        work(vault, kubernetes, secrets)
        return time.perf_counter() - start

    def _seal_barely(self, vault: Connection, kubernetes: list[Connection], secrets: Secrets) -> None:
        values = [(secret, key, value) for secret in secrets for key, value in secret["data"].items()]
        bodies: dict[str, dict[str, str]] = {secret["name"]: {} for secret in secrets}
        for start in range(0, len(values), BATCH_ITEMS):
            batch = values[start : start + BATCH_ITEMS]
            items = [{"plaintext": base64.b64encode(value.encode()).decode()} for _, _, value in batch]
            answer = vault.send("POST", f"/v1/transit/encrypt/{self._key}", {"batch_input": items})
            for (secret, key, _), result in zip(batch, answer["data"]["batch_results"], strict=True):
                bodies[secret["name"]][key] = base64.b64encode(result["ciphertext"].encode()).decode()
        path = f"/api/v1/namespaces/{self._namespace}/secrets"

        send_each(kubernetes, [("POST", path, {"metadata": {"name": name}, "data": bodies[name]}) for name in bodies])

    def _compare_barely(self, vault: Connection, kubernetes: list[Connection], secrets: Secrets) -> None:
        inputs = [
            Place(secret["namespace"], secret["name"], key).hmac_input(value.encode())
            for secret in secrets
            for key, value in secret["data"].items()
        ]
        for start in range(0, len(inputs), BATCH_ITEMS):
            items = [{"input": base64.b64encode(each).decode()} for each in inputs[start : start + BATCH_ITEMS]]
            vault.send("POST", f"/v1/transit/hmac/{self._key}-digest", {"batch_input": items})
        path = f"/api/v1/namespaces/{self._namespace}/secrets"
        if len(secrets) == 1:
            kubernetes[0].send("GET", f"{path}/{secrets[0]['name']}")
            return
        for _ in listed(kubernetes[0], path):
            pass

    def _clear(self) -> None:
        self._api.delete_collection_namespaced_secret(self._namespace)


class Connection:
    """One kept-alive connection, without checks or retries."""

    def __init__(self, url: str, context: ssl.SSLContext, headers: dict[str, str]) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, context=context)
        self._headers = {"Content-Type": "application/json", **headers}

    def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send one request; return the JSON of the response."""
        payload = None if body is None else json.dumps(body).encode()
        self._connection.request(method, path, payload, self._headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: HTTP status {answer.status}: {content[:300]!r}")
        return json.loads(content)


def bare_connections(number: int, token: str) -> tuple[Connection, list[Connection]]:
    """Return a connection to Vault and some to Kubernetes; they connect at their first request."""
    access = find_access(os.environ["KUBECONFIG"])
    context = ssl.create_default_context(cafile=os.environ["VAULT_CACERT"])
    vault = Connection(os.environ["VAULT_ADDR"], context, {"X-Vault-Token": token})
    return vault, [Connection(access.url, access.context, {}) for _ in range(number)]


def send_each(connections: list[Connection], requests: list[tuple[str, str, dict[str, Any]]]) -> None:
    """Send requests, each a method, a path and a body, over all connections at once."""

    def send(connection: Connection, share: list[tuple[str, str, dict[str, Any]]]) -> None:
        for request in share:
            connection.send(*request)

    shares = [requests[number :: len(connections)] for number in range(len(connections))]
    with ThreadPoolExecutor(len(connections)) as pool:
        list(pool.map(send, connections, shares))


def listed(kubernetes: Connection, path: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the pages of a list."""
    following = ""
    while True:
        page = kubernetes.send("GET", f"{path}?limit=500&continue={following}")
        yield page["items"]
        if not (following := page["metadata"].get("continue", "")):
            return


def operator_token() -> str:
    """Return the token of the lab's operator."""
    return Path(os.environ["VAULT_TOKEN_FILE"]).read_text(encoding="ascii").strip()


# A small process starts the program: what a program is started by counts as its own memory (getrusage(2)).
LAUNCHER = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
run = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
seconds = time.perf_counter() - start
if run.returncode:
    sys.exit(run.stdout.decode(errors="replace"))
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024]))
"""


def timed(command: list[Any], env: dict[str, str]) -> tuple[float, float]:
    """Run a program; return seconds, and the size in MiB of the largest process among it and its children."""
    launched = [sys.executable, "-I", "-S", "-c", LAUNCHER, *map(str, command)]
    run = subprocess.run(launched, env=env, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(run.stderr)
    seconds, memory = json.loads(run.stdout)
    return seconds, memory


@contextlib.contextmanager
def prepared(bench: Callable[[Path, str, str, client.CoreV1Api], AnyBench]) -> Iterator[AnyBench]:
    """Return what measures, with a folder, a key and a namespace of this run."""
    missing = [
        name for name in ("VAULT_ADDR", "VAULT_CACERT", "VAULT_TOKEN_FILE", "KUBECONFIG") if name not in os.environ
    ]
    if missing:
        raise SystemExit(f"{', '.join(missing)}: not set; run `make bench-seal` or such, or source .lab/env")
    vault = VaultClient(os.environ["VAULT_ADDR"], ca_cert=os.environ["VAULT_CACERT"], token=operator_token())
    key = f"bench-{uuid.uuid4().hex[:8]}"
    for name in (key, f"{key}-digest"):
        path = f"transit/keys/{name}"
        vault.checked("POST", path, vault.request("POST", path, {"type": "aes256-gcm96"}))
    api = client.CoreV1Api(config.new_client_from_config(os.environ["KUBECONFIG"]))
    namespace = f"bench-{uuid.uuid4().hex[:8]}"
    api.create_namespace({"metadata": {"name": namespace}})
    try:
        with tempfile.TemporaryDirectory(dir=shared_memory()) as folder:
            yield bench(Path(folder), key, namespace, api)
    finally:
        api.delete_namespace(namespace)


def shared_memory() -> str | None:
    """Return a folder in memory, so that the disk is not measured."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def print_tables(measured: dict[tuple[Case, str], Measured], stock: Measured, arguments: argparse.Namespace) -> None:
    """Print the measurements as Markdown."""
    print(f"\nSeconds, medians of {arguments.rounds}; {os.cpu_count()} cores, which the servers share.\n")
    floors = [f"floor {connections}" for connections in (1, CONCURRENCY)]
    header = ["case", "run", "kubevault_secret", "no-op", "difference", "floor, 1 connection"]
    header += [f"floor, {CONCURRENCY} connections", "difference / lower floor", "command kubevault"]
    print_row(header)
    print_row(["---"] * len(header))
    for (case, run), found in measured.items():
        difference = found.median("ours") - found.median("noop")
        times = [found.median(name) for name in ("ours", "noop")] + [difference] + [found.median(it) for it in floors]
        ratio = difference / min(times[3:])
        row = [f"{each:.2f}" for each in times] + [f"{ratio:.1f}", f"{found.median('command'):.2f}"]
        print_row([case.title, run, *row])
    few = arguments.stock
    each = {run: (stock.median(f"{run} {few}") - stock.median(f"{run} 1")) / (few - 1) for run in ("first", "rerun")}
    print(
        f"\nThe stock loop takes {each['first']:.2f} s a Secret in a first run, {each['rerun']:.2f} s in a rerun,"
        f" by runs with 1 and {few} Secrets;\nits times below are extrapolated from that."
        " Times are of whole runs, Ansible's start and all.\n"
    )
    print_row(["case", "run", "stock loop", "kubevault_secret", "a Secret, stock", "a Secret, ours", "times as fast"])
    print_row(["---"] * 7)
    for (case, run), found in measured.items():
        if case.secrets > 1:
            ours = found.median("ours")
            whole = stock.median(f"{run} 1") + each[run] * (case.secrets - 1)
            shares = [f"{time_taken / case.secrets * 1000:.1f} ms" for time_taken in (whole, ours)]
            print_row([case.title, run, f"{whole:.0f}", f"{ours:.2f}", *shares, f"{whole / ours:.0f}"])
    print("\nLargest process, MiB.\n")
    print_row(["case", "kubevault_secret", "no-op", "command kubevault"])
    print_row(["---"] * 4)
    for case in CASES:
        memory = measured[case, "first"].memory
        print_row([case.title, *(f"{memory[name]:.0f}" for name in ("ours", "noop", "command"))])
    print_row([f"stock loop, {few} Secrets", f"{stock.memory[f'first {few}']:.0f}", "", ""])


def print_row(cells: list[str]) -> None:
    """Print one row of a Markdown table."""
    print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
