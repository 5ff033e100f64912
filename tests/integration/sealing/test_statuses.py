"""Every exit status that docs/sealing.md names, of every subcommand: of processes, as a shell or a CronJob sees it."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from support.ansible import BIN, ROOT
from support.sealing import Chain, environment
from support.servers import PATIENCE, Decoy, wait_until

from secretmanager.admin.reviewer import ANNOTATION
from secretmanager.commands.main import Subcommands
from secretmanager.sealing.sealer import Sealer
from secretmanager.sealing.stores import KubernetesStore

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: shop, namespace: shop}
spec: {containers: [{name: shop, command: [shop]}]}
"""
# In place it is done once, in the order of the cases.
INJECT = "--with=exec --secret=a --role=r --vault-url=https://v:8200 --image=kubevault@sha256:" + 64 * "0"
FILES = "files --allow-disk --to={folder}/volume --service-account={namespace}/default"


class Case(NamedTuple):
    """A call, in which {namespace}, {folder} and {key} stand for what the fixtures have made; and what it prints."""

    status: int
    arguments: str
    says: str


CASES = [
    Case(0, "seal {namespace}/new --transit-key {key} --from-file a", "new: created"),
    Case(0, "seal {namespace}/old --transit-key {key} --from-file a", "old: unchanged"),
    Case(1, "seal {namespace}/new --transit-key nosuch --from-file a", "nosuch"),
    Case(1, "seal nosuch/new --transit-key {key} --from-file a", "nosuch"),
    Case(1, "seal {namespace}/plain --transit-key {key} --from-file a", "was not sealed here"),
    Case(1, "seal {namespace}/new --transit-key {key} --from-file nosuch", "No such file"),
    Case(1, "seal --transit-key {key} --secrets nosuch", "No such file"),
    Case(2, "seal --transit-key {key}", "Usage: "),
    Case(3, "seal {namespace}/old --transit-key {key} --from-file a=b --check", "old: would be updated"),
    Case(0, "rotate --transit-key {key} --older-than 1h", "young enough"),
    Case(1, "rotate --transit-key nosuch --older-than 1h", "nosuch"),
    Case(1, "rotate --transit-key unused --older-than 0 --rewrap --manifest bad.yml", "is not YAML"),
    Case(2, "rotate --transit-key {key} --older 30", "No such option"),
    Case(2, "rotate --transit-key {key} --older-than 30", "allowed is a number with s, m, h or d"),
    Case(3, "rotate --transit-key {key} --older-than 0 --check", "nothing was changed"),
    Case(0, "rewrap --transit-key idle --namespace {namespace}", "0 rewrapped"),
    Case(1, "rewrap --transit-key {key} --no-kubernetes --manifest bad.yml", "is not YAML"),
    Case(1, "rewrap --transit-key {key} --namespace nosuch", 'namespaces "nosuch" not found'),
    Case(2, "rewrap", "--transit-key"),
    Case(3, "rewrap --transit-key {key} --namespace {namespace} --check", "2 would be rewrapped"),
    Case(0, "retire --transit-key idle", "nothing to retire"),
    Case(1, "retire --transit-key {key}", "old"),
    Case(1, "retire --transit-key {key} --manifest nosuch", "No such file"),
    Case(2, "retire", "--transit-key"),
    Case(3, "retire --transit-key unused2 --check", "nothing was changed"),
    Case(0, "renew-reviewer --lifetime 30d --reviewer {namespace}/kept", "not due before 2"),
    Case(1, "renew-reviewer --lifetime 30d --reviewer {namespace}/nosuch", "nosuch"),
    Case(1, "renew-reviewer --lifetime 30d --reviewer {namespace}/default", "Vault has a token that does not end"),
    Case(2, "renew-reviewer --lifetime 30d --reviewer vault-auth", "allowed is NAMESPACE/NAME"),
    Case(2, "renew-reviewer --lifetime 30", "allowed is a number with s, m, h or d"),
    Case(3, "renew-reviewer --lifetime 30d --reviewer {namespace}/due --check", "/due: would be renewed"),
    Case(0, "info {namespace}/old --fail-if plain", "old: "),
    Case(1, "info nosuch", "nosuch"),
    Case(1, "info {namespace}/nosuch", "nosuch"),
    Case(2, "info bad.yml/a.", "is not allowed"),
    Case(3, "info {namespace}/old --fail-if behind", "behind: a"),
    Case(0, "read {namespace}/old/a", "1"),
    Case(1, "read {namespace}/old/nosuch", "nosuch"),
    Case(1, "read {namespace}/old --vault-url https://127.0.0.1:1 --token-file token", "127.0.0.1:1"),
    Case(2, "read old", "allowed is NAMESPACE/NAME"),
    *(Case(status, f"exec --secret {{namespace}}/old -- sh -c exit\\ {status}", "") for status in (0, 1, 2, 3)),
    Case(2, "exec --secret {namespace}/old", "COMMAND"),
    Case(125, "exec --secret {namespace}/nosuch -- true", "nosuch"),
    Case(
        125,
        "exec --secret {namespace}/large -- true",
        "/large: data key big is too large for a variable: 200,005 bytes",
    ),
    Case(0, "exec --files --secret {namespace}/large -- true", ""),
    Case(126, "exec --secret {namespace}/old -- {folder}", "Permission denied"),
    Case(127, "exec --secret {namespace}/old -- nosuch", "nosuch: No such file"),
    Case(126, "exec --files --secret {namespace}/old -- {folder}", "Permission denied"),
    Case(127, "exec --files --secret {namespace}/old -- nosuch", "nosuch: No such file"),
    Case(0, f"{FILES} --secret {{namespace}}/old", "wrote"),
    Case(1, f"{FILES} --exec --exec-program /bin/true --secret {{namespace}}/large", "data key big is too large for"),
    Case(1, "files --allow-disk --to={folder}/nosuch --secret={namespace}/old", "nosuch: is not a folder"),
    Case(1, f"{FILES} --secret {{namespace}}/nosuch --wait 0", "nosuch"),
    Case(2, "files --secret {namespace}/old", "--to"),
    Case(1, "ready {folder}", ""),
    Case(2, "ready", "FOLDER"),
    Case(0, f"inject pod.yaml {INJECT}", "kubevault-exec"),
    Case(1, f"inject pod.yaml {INJECT} --check", ""),
    Case(0, f"inject pod.yaml {INJECT} --in-place", ""),
    Case(0, f"inject pod.yaml {INJECT} --check", ""),
    Case(1, f"inject bad.yml {INJECT}", "is not YAML"),
    Case(2, f"inject {INJECT} --in-place", "--in-place needs a FILE"),
]
BY_SIGNAL = {("files", 0), ("files", 143), ("ready", 0)}
"""Those of test_a_signal_ends_files."""


def documented() -> set[tuple[str, int]]:
    """Return the subcommands and statuses of the table."""
    section = (ROOT / "docs/sealing.md").read_text().partition("\n## Exit statuses\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    found = set()
    for names, *cells, others in rows[2:]:
        statuses = [status for status, cell in enumerate(cells) if cell]
        statuses += map(int, re.findall(r"\b1\d\d\b", others))
        found |= {(name, status) for name in re.findall(r"`([a-z-]+)`", names) for status in statuses}
    return found


def test_every_status_has_a_case() -> None:
    assert {(case.arguments.split()[0], case.status) for case in CASES} | BY_SIGNAL == documented()
    assert {name for name, _ in documented()} == set(Subcommands.NAMES)


@pytest.fixture(scope="module")
def places(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the calls name: a Secret that is behind its key's newest version, a plain one, and keys that nobody uses."""
    folder = tmp_path_factory.mktemp("statuses")
    for name, content in {"a": "1", "b": "2", "bad.yml": "a: [", "pod.yaml": POD}.items():
        (folder / name).write_text(content)
    (folder / "volume").mkdir()
    (folder / "token").write_text(chain.vault.root.token or "")
    for key in ("statuses", "unused", "unused2", "idle"):
        chain.vault.new_key(key, derived=True)
    root = chain.client(chain.vault.root.token)
    wanted = {"old": {"a": b"1"}, "large": {"big": b"x" * 200_000}}
    specs = [chain.wanted(name, data, transit_key="statuses") for name, data in wanted.items()]
    Sealer(root, KubernetesStore(chain.kubernetes())).seal(specs)
    chain.put("plain", {"a": b"1"})
    for key in ("statuses", "unused2"):
        chain.vault.write(f"transit/keys/{key}/rotate")
    reviewers = {"kept": datetime.now(UTC) + timedelta(days=1), "due": datetime.now(UTC) - timedelta(days=1)}
    for name, time in reviewers.items():
        annotations = {ANNOTATION: time.strftime("%Y-%m-%dT%H:%M:%SZ")}
        account = {"metadata": {"name": name, "annotations": annotations}}
        chain.api.create_namespaced_service_account(chain.namespace, account)
    yield {"namespace": chain.namespace, "folder": str(folder), "key": "statuses"}
    for name in ("old", "large", "plain", "new"):
        chain.api.delete_namespaced_secret(name, chain.namespace)
    for name in reviewers:
        chain.api.delete_namespaced_service_account(name, chain.namespace)


@pytest.fixture
def shell(chain: Chain, places: dict[str, str]) -> dict[str, str]:
    return environment(chain, Path(places["folder"], "token"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.arguments.partition(' ')[0]}-{case.status}")
def test_status(case: Case, places: dict[str, str], shell: dict[str, str]) -> None:
    words = case.arguments.format_map(places).replace("\\ ", "\0").split()
    command = [BIN / "kubevault", *(word.replace("\0", " ") for word in words)]
    done = subprocess.run(command, env=shell, cwd=places["folder"], capture_output=True, text=True, check=False)
    assert done.returncode == case.status, done.stderr
    assert case.says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if case.status in (1, 125) and case.says:
        (line,) = done.stderr.removesuffix("\n").splitlines()
        assert line.startswith("kubevault: ")


@pytest.mark.parametrize("case", [case for case in CASES if case.status == 2 and "exit" not in case.arguments])
def test_wrong_usage_sends_nothing(case: Case, places: dict[str, str], shell: dict[str, str]) -> None:
    decoy = Decoy()
    elsewhere = {**shell, "VAULT_ADDR": decoy.url, "K8S_AUTH_HOST": decoy.url, "K8S_AUTH_API_KEY": "x"}
    del elsewhere["K8S_AUTH_KUBECONFIG"]
    test_status(case, places, elsewhere)
    decoy.close()
    assert decoy.connections == 0


@pytest.mark.parametrize(("secret", "watch", "status"), [("nosuch", [], 143), ("old", ["--watch"], 0)])
def test_a_signal_ends_files(
    chain: Chain, places: dict[str, str], shell: dict[str, str], secret: str, watch: list[str], status: int
) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as volume, Path(volume, "log").open("w+") as log:
        arguments = ["--to", f"{volume}/to", "--service-account", f"{chain.namespace}/default", *watch]
        Path(volume, "to").mkdir()
        command = [BIN / "kubevault", "files", f"--secret={chain.namespace}/{secret}", *arguments]
        with subprocess.Popen(command, env=shell, stderr=log) as process:
            ready = [BIN / "kubevault", "ready", f"{volume}/to"]
            said = "wrote" if watch else "waiting"
            wait_until(said, lambda: said in Path(log.name).read_text())
            assert subprocess.run(ready, check=False).returncode == (0 if watch else 1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == status
