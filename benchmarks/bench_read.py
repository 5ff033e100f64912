"""Measure reads of a sealed Secret, side by side in one run: SecretManager, the published client, and a floor.

    make bench-read                       in a lab of its own
    python benchmarks/bench_read.py       on the lab whose .lab/env was sourced

The floor is four plain requests over kept-alive connections. The published client (dekeyrej-secretmanager) is
installed into a temporary virtual environment; with --published it is an unpacked wheel with the packages of this
environment. Contestants take turns. "Cold" is a whole process, from start to end; "warm" is one more read in it.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from secretmanager.servers.kubernetes import KubernetesClient
from secretmanager.servers.vault import TransitItem, VaultClient

PUBLISHED = (Path(__file__).parents[1] / "tests/support/published.txt").read_text(encoding="ascii").strip()
READERS = Path(__file__).parent / "readers"
CONTESTANTS = ("floor", "ours", "published")
MANY = 100

Setup = dict[str, Any]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", metavar="PATH", help="folder of the published client's unpacked wheel")
    parser.add_argument("--rounds", type=int, default=15, help="cold processes of each, and turns of warm reads")
    parser.add_argument("--reads", type=int, default=100, help="warm reads a turn")
    parser.add_argument("--seconds", type=float, default=30, help="how long the threads read")
    parser.add_argument("--threads", type=int, default=64)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        setup = stack.enter_context(prepared())
        interpreters = stack.enter_context(published(arguments.published))
        bench = Bench(setup, interpreters)
        rows = cold(bench, arguments.rounds)
        rows += warm(bench, max(3, arguments.rounds // 5), arguments.reads)
        rows += many(bench, arguments.reads)
        rows += threads(bench, arguments.threads, arguments.seconds)
    print_table(rows)


class Bench:
    """Runs readers, each in a new process."""

    def __init__(self, setup: Setup, interpreters: dict[str, tuple[str, dict[str, str]]]) -> None:
        self.setup = setup
        self._interpreters = interpreters

    def command(self, name: str, mode: str, **options: Any) -> tuple[list[str], dict[str, str]]:
        """Return a reader's command and environment."""
        python, env = self._interpreters[name]
        return [python, str(READERS / f"{name}.py"), json.dumps({**self.setup, "mode": mode, **options})], env

    def time(self, name: str) -> float:
        """Return the duration of a cold process, in seconds."""
        command, env = self.command(name, "cold")
        start = time.perf_counter()
        subprocess.run(command, env=env, check=True, stderr=subprocess.DEVNULL)
        return time.perf_counter() - start

    def measure(self, name: str, mode: str, **options: Any) -> dict[str, Any]:
        """Return the measurements of a reader."""
        command, env = self.command(name, mode, **options)
        run = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
        found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
        return found


Row = tuple[str, dict[str, str], str]
"""The measured quantity, the figure of each contestant, and a comparison of ours with the aim."""


def cold(bench: Bench, rounds: int) -> list[Row]:
    """Measure whole processes."""
    for name in CONTESTANTS:
        bench.time(name)  # compiles, and fills the file cache
    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for _ in range(rounds):
        for name in CONTESTANTS:
            times[name].append(bench.time(name))
    median = {name: statistics.median(found) for name, found in times.items()}
    ratio = median["ours"] / median["floor"]
    figures = {name: f"{median[name] * 1e3:.0f} ms (best {min(times[name]) * 1e3:.0f})" for name in CONTESTANTS}
    return [("cold: process with one read", figures, f"{ratio:.2f} x floor, aim 2")]


def warm(bench: Bench, turns: int, reads: int) -> list[Row]:
    """Measure further reads in a process."""
    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    memory = {}
    for _ in range(turns):
        for name in CONTESTANTS:
            found = bench.measure(name, "warm", reads=reads)
            times[name] += found["times"]
            memory[name] = f"{found['memory'] / 2**20:.0f} MiB"
    median = {name: statistics.median(found) for name, found in times.items()}
    ratio = median["ours"] / median["floor"]
    figures = {
        name: f"{median[name] * 1e3:.2f} ms (p99 {sorted(found)[len(found) * 99 // 100] * 1e3:.1f})"
        for name, found in times.items()
    }
    return [("warm: one more read", figures, f"{ratio:.2f} x floor, aim 1.2"), ("memory at most", memory, "")]


def many(bench: Bench, reads: int) -> list[Row]:
    """Measure reads of a hundred values at once: of one Secret, and of a hundred Secrets."""
    rows: list[Row] = []
    one = statistics.median(bench.measure("ours", "warm", reads=reads)["times"])
    for title, requests in (
        (f"{MANY} values of one Secret", [_request(bench.setup, "many", n) for n in range(MANY)]),
        (f"{MANY} Secrets", [_request(bench.setup, f"many-{n}", n) for n in range(MANY)]),
    ):
        figures = {}
        for name, turns in (("ours", max(5, reads // 5)), ("published", 3)):
            found = bench.measure(name, "many", reads=turns, requests=requests)
            figures[name] = statistics.median(found["times"])
        aim = f"{figures['ours'] / one:.1f} x one read" + (", aim 3" if "one" in title else "")
        rows.append((title, {name: f"{seconds * 1e3:.1f} ms" for name, seconds in figures.items()}, aim))
    return rows


def threads(bench: Bench, number: int, seconds: float) -> list[Row]:
    """Measure many threads with one manager, for longer than the lifetime of a token."""
    figures, aim = {}, ""
    for name in ("ours", "published"):
        found = bench.measure(name, "threads", threads=number, seconds=seconds, connections=number)
        figures[name] = f"{found['reads'] / seconds:.0f} reads/s, {found['errors']} errors {' '.join(found['kinds'])}"
        if name == "ours":
            aim = f"{found['logins'] + 1} log-ins, {found['renewals']} renewals, {found['errors']} errors, aim 1 and 0"
    return [(f"{number} threads for {seconds:g} s, tokens of 10 s", figures, aim)]


def print_table(rows: list[Row]) -> None:
    """Print a table in Markdown."""
    print(f"| | floor | SecretManager | published {PUBLISHED.partition('==')[2]} | |\n|---|---|---|---|---|")
    for title, figures, aim in rows:
        print(f"| {title} | {' | '.join(figures.get(name, '') for name in CONTESTANTS)} | {aim} |")


def _request(setup: Setup, name: str, number: int) -> dict[str, str]:
    return {
        "secret_name": f"{setup['prefix']}-{name}",
        "namespace": setup["namespace"],
        "read_key": f"key-{number}" if name == "many" else "secrets.json",
        "transit_key": setup["transit_key"],
    }


@contextlib.contextmanager
def published(path: str | None) -> Iterator[dict[str, tuple[str, dict[str, str]]]]:
    """Return each contestant's interpreter and environment."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    own = (sys.executable, env)
    if path:
        yield {"floor": own, "ours": own, "published": (sys.executable, {**env, "PYTHONPATH": path})}
        return
    with tempfile.TemporaryDirectory() as folder:
        print(f"installing {PUBLISHED}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = f"{folder}/bin/python"
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PUBLISHED]
        subprocess.run(install, check=True)
        yield {"floor": own, "ours": own, "published": (python, env)}


@contextlib.contextmanager
def prepared() -> Iterator[Setup]:
    """Make roles and Secrets for this run, and take them away afterwards."""
    try:
        kubeconfig, vault_url, vault_ca = (os.environ[name] for name in ("KUBECONFIG", "VAULT_ADDR", "VAULT_CACERT"))
        token = Path(os.environ["VAULT_TOKEN_FILE"]).read_text(encoding="ascii").strip()
    except KeyError as error:
        raise SystemExit(f"{error.args[0]} is not set: source .lab/env, or run `make bench-read`") from None
    prefix = f"bench-{uuid.uuid4().hex[:8]}"
    vault = VaultClient(vault_url, ca_cert=vault_ca, token=token)
    kubernetes = KubernetesClient.from_kubeconfig(kubeconfig)
    content = yaml.safe_load(Path(kubeconfig).read_text(encoding="utf-8"))
    cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    setup: Setup = {
        "prefix": prefix,
        "kubeconfig": kubeconfig,
        "kubernetes_url": cluster["server"],
        "kubernetes_ca": cluster["certificate-authority"],
        "client_cert": user["client-certificate"],
        "client_key": user["client-key"],
        "vault_url": vault_url,
        "vault_ca": vault_ca,
        "namespace": "default",
        "service_account": "default",
        "role": prefix,
        "published_role": f"{prefix}-published",
        "secret": f"{prefix}-one",
        "key": "secrets.json",
        "transit_key": "aes256-key",
    }
    # The published client asks for the API server's audience and looks its token up, which the policy "default" allows.
    roles = {prefix: ("vault", True), f"{prefix}-published": ("https://kubernetes.default.svc", False)}
    made = []
    try:
        for role, (audience, bare) in roles.items():
            body = {
                "bound_service_account_names": ["default"],
                "bound_service_account_namespaces": ["default"],
                "audience": audience,
                "token_policies": ["kubevault-reader-aes256-key"],
                "token_no_default_policy": bare,
                "token_ttl": 10,
                "token_max_ttl": 3600,
            }
            answer = vault.request("POST", f"auth/kubernetes/role/{role}", body)
            vault.checked("POST", role, answer)
        values = {"secrets.json": b'{"username": "neo", "password": "follow-the-white-rabbit"}'}
        secrets = {f"{prefix}-one": values} | {f"{prefix}-many-{n}": values for n in range(MANY)}
        secrets[f"{prefix}-many"] = {f"key-{n}": values["secrets.json"] for n in range(MANY)}
        for name, texts in secrets.items():
            ciphertexts = vault.encrypt("aes256-key", [TransitItem(text) for text in texts.values()])
            data = {key: base64.b64encode(text.encode()).decode() for key, text in zip(texts, ciphertexts, strict=True)}
            made.append(kubernetes.create_secret("default", {"metadata": {"name": name}, "data": data}))
        yield setup
    finally:
        for found in made:
            kubernetes.delete_secret("default", found)
        for role in roles:
            vault.request("DELETE", f"auth/kubernetes/role/{role}")


if __name__ == "__main__":
    main()
