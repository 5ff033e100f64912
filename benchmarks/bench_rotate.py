"""Measure rewrapping, side by side in one run: kubevault rewrap, the origin's way, and a floor.

    make bench-rotate                     in a lab of its own
    python benchmarks/bench_rotate.py     on the lab whose .lab/env was sourced

The floor is plain requests of http.client over kept-alive connections, without a new process: the list in pages, the
rewrap of all values in batches, and a PUT for each Secret; once over one connection to Kubernetes, once over as many as
the command has. In a rerun it is the list alone. What it writes is a Secret that ours can rewrap again. The start of
the process is `kubevault rewrap --help`, which imports the command. The origin's way is to read and decrypt, encrypt,
and write one Secret at a time by the calls of its published client (as for bench_read.py); it runs on a few Secrets,
and its time for more is extrapolated. It writes no manifest, and one value only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from bench_read import READERS, published
from bench_seal import (
    BIN,
    Case,
    Connection,
    Measured,
    bare_connections,
    listed,
    operator_token,
    prepared,
    print_row,
    send_each,
    timed,
)
from kubernetes import client

from secretmanager.rotation.rewrapper import CONCURRENCY
from secretmanager.sealed import sealed_values, with_ciphertexts
from secretmanager.sealing.sealer import Sealer
from secretmanager.sealing.spec import SecretSpec
from secretmanager.sealing.stores import KubernetesStore
from secretmanager.servers.kubernetes import KubernetesClient
from secretmanager.servers.vault import BATCH_ITEMS, VaultClient

CASES = [
    Case("1 Secret", 1, 1),
    Case("100 Secrets", 100, 1),
    Case("1,000 Secrets", 1000, 1),
    Case("10,000 Secrets", 10000, 1),
    Case("1,000 keys", 1, 1000),
]
LARGE = 10000
"""From this number of Secrets on, a case is measured once."""

FLOORS = {f"floor {connections}": connections for connections in (1, CONCURRENCY)}

Object = dict[str, Any]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each, except those of 10,000 Secrets")
    parser.add_argument("--largest", type=int, default=LARGE, help="leave out cases with more Secrets")
    parser.add_argument("--origin", type=int, default=50, help="Secrets that the origin's way is measured with")
    parser.add_argument("--published", metavar="PATH", help="folder of the published client's unpacked wheel")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        bench = stack.enter_context(prepared(Bench))
        interpreters = stack.enter_context(published(arguments.published))
        measured = {}
        for case in (case for case in CASES if case.secrets <= arguments.largest):
            rounds = 1 if case.secrets >= LARGE else arguments.rounds
            measured[case] = bench.measure(case, rounds)
        origin = bench.measure_origin(arguments.origin, *interpreters["published"])
    print_tables(measured, bench.start.median("start"), origin, arguments)


class Bench:
    """Runs contestants on the same Secrets, each after a rotation of their key."""

    def __init__(self, folder: Path, key: str, namespace: str, api: client.CoreV1Api) -> None:
        self.start = Measured()
        self._key = key
        self._namespace = namespace
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/secrets"
        self._vault = VaultClient(os.environ["VAULT_ADDR"], ca_cert=os.environ["VAULT_CACERT"], token=operator_token())
        self._kubernetes = KubernetesClient.from_kubeconfig(os.environ["KUBECONFIG"], connections=CONCURRENCY)
        self._token = self._log_in()
        token_file = folder / "token"
        token_file.write_text(self._token)
        self._env = {**os.environ, "VAULT_TOKEN_FILE": str(token_file)}

    def measure(self, case: Case, rounds: int) -> tuple[Measured, Measured]:
        """Measure one case; return its first runs and its reruns."""
        print(f"{case.title}: sealing", file=sys.stderr)
        self._seal(case)
        first, rerun = Measured(), Measured()
        for number in range(rounds):
            print(f"{case.title}: round {number + 1} of {rounds}", file=sys.stderr)
            for name, connections in FLOORS.items():
                self._rotate()
                first.add(name, self._floor(connections))
            self._rotate()
            begun = self._command("--help")[0]
            self.start.add("start", begun)
            for measured in (first, rerun):
                measured.add("ours", *self._command("--namespace", self._namespace))
                # Of the same round: on a busy machine, starts differ by more than some of the differences.
                measured.add("beyond", measured.seconds["ours"][-1] - begun)
            start = time.perf_counter()
            secrets = self._list(bare_connections(1, self._token)[1][0])
            rerun.add("list", time.perf_counter() - start)
            self._check(secrets, case)
        self._api.delete_collection_namespaced_secret(self._namespace)
        return first, rerun

    def measure_origin(self, count: int, python: str, env: dict[str, str]) -> list[float]:
        """Return how long the origin's way takes for each Secret, in seconds."""
        print(f"the origin's way, {count} Secrets", file=sys.stderr)
        setup = {
            "mode": "rewrite",
            "kubeconfig": os.environ["KUBECONFIG"],
            "service_account": "default",
            "namespace": self._namespace,
            "vault_url": os.environ["VAULT_ADDR"],
            "vault_ca": os.environ["VAULT_CACERT"],
            "published_role": "none: it finds a token",
            "transit_key": self._key,
            "secrets": [f"bench-{number:04}" for number in range(count)],
            "key": "value",
        }
        command = [python, str(READERS / "published.py"), json.dumps(setup)]
        env = {**env, "VAULT_TOKEN": self._token}
        run = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
        found: list[float] = json.loads(run.stdout.splitlines()[-1])["times"]
        return found

    def _check(self, secrets: list[Object], case: Case) -> None:
        """Stop if not all values are at the newest version."""
        newest = self._vault.read_key(self._key)["latest_version"]
        values = [value for secret in secrets for value in sealed_values(secret).values()]
        if [value.version for value in values] != [newest] * (case.secrets * case.keys):
            raise SystemExit(f"{case.title}: not all are at version {newest}")

    def _log_in(self) -> str:
        """Return a token that may rotate and rewrap, and for the origin's way encrypt and decrypt."""
        paths = {f"keys/{self._key}": "read"}
        for verb in ("rewrap", "encrypt", "decrypt"):
            paths[f"{verb}/{self._key}"] = "update"
        paths[f"keys/{self._key}/rotate"] = "update"
        policy = {"path": {f"transit/{path}": {"capabilities": [right]} for path, right in paths.items()}}
        role = {
            "bound_service_account_names": ["default"],
            "bound_service_account_namespaces": ["default"],
            "audience": "vault",
            "token_policies": [f"kubevault-rotator-{self._key}"],
        }
        for path, body in (
            (f"sys/policies/acl/kubevault-rotator-{self._key}", {"policy": json.dumps(policy)}),
            (f"auth/kubernetes/role/{self._key}", role),
        ):
            self._vault.checked("POST", path, self._vault.request("POST", path, body))
        jwt = self._kubernetes.create_token("default", "default", "vault")
        return self._vault.login_kubernetes(self._key, jwt).client_token

    def _rotate(self) -> None:
        self._vault.rotate_key(self._key, token=self._token)

    def _seal(self, case: Case) -> None:
        keys = [f"key-{number:04}" for number in range(case.keys)]
        specs = [
            SecretSpec(
                self._namespace,
                f"bench-{number:05}",
                {key: uuid.uuid4().hex.encode() * 2 for key in keys},
                transit_key=self._key,
            )
            for number in range(case.secrets)
        ]
        Sealer(self._vault, KubernetesStore(self._kubernetes)).seal(specs)

    def _command(self, *options: str) -> tuple[float, float]:
        return timed([BIN / "kubevault", "rewrap", "--transit-key", self._key, *options], self._env)

    def _floor(self, connections: int) -> float:
        vault, kubernetes = bare_connections(connections, self._token)
        start = time.perf_counter()
        secrets = self._list(kubernetes[0])
        values = [(secret, key, value) for secret in secrets for key, value in sealed_values(secret).items()]
        news: dict[str, dict[str, str]] = {secret["metadata"]["name"]: {} for secret in secrets}
        for begin in range(0, len(values), BATCH_ITEMS):
            batch = values[begin : begin + BATCH_ITEMS]
            items = [{"ciphertext": value.ciphertext} for _, _, value in batch]
            answer = vault.send("POST", f"/v1/transit/rewrap/{self._key}", {"batch_input": items})
            for (secret, key, _), result in zip(batch, answer["data"]["batch_results"], strict=True):
                news[secret["metadata"]["name"]][key] = result["ciphertext"]
        requests = []
        for secret in secrets:
            name = secret["metadata"]["name"]
            requests.append(("PUT", f"{self._path}/{name}", with_ciphertexts(secret, news[name])))
        send_each(kubernetes, requests)
        return time.perf_counter() - start

    def _list(self, kubernetes: Connection) -> list[Object]:
        return [secret for page in listed(kubernetes, self._path) for secret in page]


def print_tables(
    measured: dict[Case, tuple[Measured, Measured]], start: float, origin: list[float], arguments: argparse.Namespace
) -> None:
    """Print the measurements as Markdown."""
    print(f"\nSeconds, medians of {arguments.rounds} (10,000 Secrets: one run); {os.cpu_count()} cores, which the")
    print(f"servers share. The process starts in {start:.2f} s. The origin's way is extrapolated (~) from", end=" ")
    each = statistics.median(origin)
    print(f"{len(origin)} Secrets, {each * 1000:.1f} ms each.\n")
    header = ["case", "origin", "floor, 1 connection", f"floor, {CONCURRENCY} connections", "kubevault rewrap"]
    header += ["beyond the start", "/ lower floor", "rerun", "beyond the start", "list alone", "MiB"]
    print_row(header)
    print_row(["---"] * len(header))
    for case, (first, rerun) in measured.items():
        floors = [first.median(name) for name in FLOORS]
        beyond = first.median("beyond")
        times = [*floors, first.median("ours"), beyond]
        again = [rerun.median(name) for name in ("ours", "beyond", "list")]
        # It writes a Secret with one value, and drops the others.
        row = [f"~{each * case.secrets:.1f}" if case.keys == 1 else "cannot", *(f"{seconds:.2f}" for seconds in times)]
        row += [f"{beyond / min(floors):.2f}", *(f"{seconds:.2f}" for seconds in again)]
        print_row([case.title, *row, f"{first.memory['ours']:.0f}"])


if __name__ == "__main__":
    main()
