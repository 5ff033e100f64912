"""kubevault files on real servers: as init container and sidecar run it, here as processes with a folder on a tmpfs."""

from __future__ import annotations

import http.server
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
from support import forked
from support.ansible import BIN, environment
from support.client import RIGHTS, Put, assert_no_secret
from support.cluster import Cluster
from support.servers import PATIENCE, PrivateVault, Proxy, wait_until
from test_client_watch import rewrap

SECRET = {"username": "PLAIN-neo", "password": "PLAIN-$1", "secrets.json": '{"port": 1, "pin": "PLAIN-pin"}'}


class Output(NamedTuple):
    """What the command printed."""

    stdout: str
    stderr: str


Files = Callable[..., Output]


@dataclass(frozen=True)
class Pod:
    """What a container has: variables, a volume, and a termination message."""

    env: dict[str, str]
    volume: Path
    termination: Path
    account: str

    @property
    def arguments(self) -> list[str]:
        # A pod's own service account is found by its mounted token, which only a pod has.
        return ["files", "--to", str(self.volume), "--service-account", self.account]

    def shown(self) -> dict[str, str]:
        """Return the files that a program of the pod sees."""
        tops = [path for path in self.volume.iterdir() if not path.name.startswith("..")]
        paths = [path for top in tops for path in ([top] if top.is_file() else sorted(top.rglob("*")))]
        return {str(path.relative_to(self.volume)): path.read_text() for path in paths if path.is_file()}

    def ready(self) -> int:
        return subprocess.run([BIN / "kubevault", "ready", self.volume], env=self.env, check=False).returncode


@pytest.fixture
def pod(vault: PrivateVault, cluster: Cluster, tmp_path: Path) -> Iterator[Pod]:
    termination = tmp_path / "termination-log"
    env = environment(
        VAULT_ADDR=vault.url,
        VAULT_CACERT=vault.ca,
        KUBEVAULT_AUTH_METHOD="kubernetes",
        KUBEVAULT_ROLE="reader",
        KUBEVAULT_TERMINATION_LOG=str(termination),
        K8S_AUTH_KUBECONFIG=cluster.kubeconfig,
    )
    with tempfile.TemporaryDirectory(dir="/dev/shm") as volume:
        Path(volume).chmod(0o777)
        yield Pod(env, Path(volume), termination, f"{cluster.namespace}/reader")
    if termination.exists():
        assert_no_secret(termination.read_text())


@pytest.fixture
def files(pod: Pod, tmp_path: Path) -> Files:
    """Runs the command to its end, in a process that is forked; its output holds no plaintext."""

    def run(*arguments: str, status: int = 0) -> Output:
        process = forked.kubevault(*pod.arguments, *arguments, env=pod.env, folder=tmp_path)
        output = Output(process.stdout.decode(), process.stderr.decode())
        assert_no_secret("".join(output))
        assert "Traceback" not in output.stderr
        assert process.returncode == status, output
        return output

    return run


@dataclass
class Running:
    """The command as it runs, as users start it, and what it says."""

    process: subprocess.Popen[bytes]
    log: Path

    def says(self, text: str, times: int = 1) -> None:
        """Wait until it said something."""

        def found() -> bool:
            assert self.process.poll() in (None, 0), self.log.read_text()
            return self.log.read_text().count(text) >= times

        wait_until(repr(text), found)


@contextmanager
def running(pod: Pod, *arguments: str, **env: str) -> Iterator[Running]:
    log = pod.termination.with_name("log")
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [BIN / "kubevault", *pod.arguments, *arguments], env={**pod.env, **env}, stdout=output, stderr=output
        ) as process,
    ):
        try:
            yield Running(process, log)
        finally:
            process.kill()
            assert_no_secret(log.read_text())


@contextmanager
def sidecar(pod: Pod, *arguments: str, **env: str) -> Iterator[Running]:
    """Run it with --watch, from when the files are there until SIGTERM, which it obeys with status 0."""
    with running(pod, "--watch", *arguments, **env) as it:
        it.says("wrote")
        yield it
        it.process.terminate()
        assert it.process.wait(PATIENCE) == 0


def place(cluster: Cluster, name: str, key: str = "") -> str:
    return f"--secret={cluster.namespace}/{name}" + (f"/{key}" if key else "")


def test_each_value_is_a_file(pod: Pod, files: Files, seal: Put, cluster: Cluster) -> None:
    name = seal(SECRET)
    assert pod.ready() == 1
    done = files(place(cluster, name))
    assert pod.shown() == SECRET
    assert done == ("", f"kubevault: {pod.volume}: wrote password, secrets.json, username\n")
    assert not pod.termination.exists()
    assert pod.ready() == 0
    assert stat.S_IMODE((pod.volume / "password").stat().st_mode) == 0o444
    assert files(place(cluster, name)).stderr == ""


def test_members_of_several_secrets_and_their_mode(pod: Pod, files: Files, seal: Put, cluster: Cluster) -> None:
    one, two = seal(SECRET), seal({"a": "PLAIN-a"}, key="plain")
    files(place(cluster, one, "secrets.json"), place(cluster, two), "--mode", "0400")
    assert pod.shown() == {"port": "1", "pin": "PLAIN-pin", "a": "PLAIN-a"}
    assert stat.S_IMODE((pod.volume / "a").stat().st_mode) == 0o400
    done = files(place(cluster, two), place(cluster, two), status=1)
    assert done.stderr == "kubevault: a: is in several of the Secrets\n"
    assert "a" in pod.shown()


def test_files_by_templates(pod: Pod, files: Files, seal: Put, cluster: Cluster, tmp_path: Path) -> None:
    entry = {"path": "conf/app.ini", "template": "u=${username} p=${password} $host $${x}\n", "mode": "0440"}
    (tmp_path / "files.json").write_text(json.dumps({"files": [entry, {"path": "pw", "value": "password"}]}))
    where = place(cluster, seal(SECRET))
    files(where, "--config", "files.json")
    assert pod.shown() == {"conf/app.ini": "u=PLAIN-neo p=PLAIN-$1 $host ${x}\n", "pw": "PLAIN-$1"}
    assert stat.S_IMODE((pod.volume / "conf/app.ini").stat().st_mode) == 0o440
    before = (pod.volume / "..data").readlink()
    (tmp_path / "files.json").write_text(json.dumps({"files": [{"path": "x", "template": "${nosuch}"}]}))
    done = files(where, "--config", "files.json", status=1)
    said = "files.json: files[0]: template of x: there is no value nosuch; there are password, secrets.json, username"
    assert done.stderr == f"kubevault: {said}\n"
    assert pod.termination.read_text() == said
    assert (pod.volume / "..data").readlink() == before


def test_variables(pod: Pod, files: Files, seal: Put, cluster: Cluster, built: bytes, tmp_path: Path) -> None:
    (tmp_path / "kubevault-exec").write_bytes(built)
    files(place(cluster, "nosuch"), "--exec", "--exec-program", "kubevault-exec", "--wait", "0", status=1)
    assert list(pod.volume.iterdir()) == []
    where = place(cluster, seal(SECRET))
    renamed = ["--variable", "PGPASSWORD=password"]
    files(where, "--exec", "--exec-program", "kubevault-exec", "--env-prefix", "DB_", *renamed)
    shown = {path.name for path in pod.volume.iterdir() if not path.name.startswith("..")}
    assert shown == {".env", "kubevault-exec"}
    done = subprocess.run([pod.volume / "kubevault-exec", "env"], capture_output=True, text=True, env={}, check=True)
    assert sorted(done.stdout.splitlines()) == [
        "DB_password=PLAIN-$1",
        'DB_secrets_json={"port": 1, "pin": "PLAIN-pin"}',
        "DB_username=PLAIN-neo",
        "PGPASSWORD=PLAIN-$1",
    ]
    for variable, message in (("A=nosuch", "there is no nosuch; there is password, sec"), ("1=password", "'1' is not")):
        done = files(where, "--exec", "--exec-program", "kubevault-exec", "--variable", variable, status=1)
        assert message in done.stderr


def test_a_disk_is_refused(pod: Pod, files: Files, seal: Put, cluster: Cluster) -> None:
    where = place(cluster, seal(SECRET))
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder:
        done = files(where, "--to", folder, status=1)
        assert f"{folder}: is not on a tmpfs, so files there would reach a disk" in done.stderr
        assert not list(Path(folder).iterdir())
        files(where, "--to", folder, "--allow-disk")
        assert (Path(folder) / "username").read_text() == "PLAIN-neo"


def test_wrong_options(pod: Pod, files: Files, cluster: Cluster) -> None:
    where = place(cluster, "nosuch")
    for arguments, message in (
        (["--signal", "HUP"], "need --watch"),
        (["--watch", "--signal", "HUP"], "--signal and --process need each other"),
        (["--mode", "0999"], "mode: found '0999'"),
        (["--variable", "A=a"], "--variable needs --exec"),
        (["--watch", "--notify-url", "http://192.0.2.1/"], "allowed is http:// and a loopback address"),
        (["--exec", "--exec-program", "/nosuch"], "/nosuch: the program cannot be copied"),
        (["--config", "nosuch.yaml"], "nosuch.yaml: No such file"),
    ):
        assert message in files(where, *arguments, status=2 if "need" in message else 1).stderr
        assert message in pod.termination.read_text()


def test_vault_is_sealed_while_it_starts(pod: Pod, vault: PrivateVault, seal: Put, cluster: Cluster) -> None:
    where = place(cluster, seal(SECRET))
    vault.seal()
    try:
        with running(pod, where) as it:
            it.says("waiting for up to")
            it.says("sealed")
            # It writes the file after the line.
            wait_until("the reason", lambda: pod.termination.exists() and "sealed" in pod.termination.read_text())
            assert pod.ready() == 1
            vault.unseal()
            assert it.process.wait(2 * PATIENCE) == 0
    finally:
        vault.unseal()
    assert pod.shown() == SECRET
    assert pod.termination.read_text() == ""


def test_vault_is_not_there_and_comes(pod: Pod, vault: PrivateVault, seal: Put, cluster: Cluster) -> None:
    where = place(cluster, seal(SECRET))
    vault.kill()
    try:
        with running(pod, "--watch", where) as it:
            it.says("no response from Vault")
            vault.start()
            it.says("wrote")
    finally:
        vault.kill()
        vault.start()
    assert pod.shown() == SECRET


def test_the_limit(pod: Pod, files: Files, vault: PrivateVault, seal: Put, cluster: Cluster) -> None:
    where = place(cluster, seal(SECRET))
    vault.seal()
    try:
        at_once = files(where, "--wait", "0", status=1).stderr
        assert "waiting" not in at_once
        later = files(where, "--wait", "3", status=1).stderr
    finally:
        vault.unseal()
    assert later.splitlines()[-1] == at_once.strip() == f"kubevault: {pod.termination.read_text()}"
    assert "sealed" in at_once
    assert not list(pod.volume.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--role", "nosuch"], "nosuch"),
        (["--role", "powerless"], "transit/decrypt"),
        (["--secret", "default/nosuch"], "default/nosuch"),
    ],
)
def test_refusals(pod: Pod, files: Files, seal: Put, cluster: Cluster, arguments: list[str], message: str) -> None:
    done = files(place(cluster, seal(SECRET)), *arguments, "--wait", "0", status=1)
    assert message in done.stderr
    assert message in pod.termination.read_text()


def test_a_secret_that_comes_later(pod: Pod, seal: Put, cluster: Cluster) -> None:
    name = f"later-{os.urandom(4).hex()}"
    with running(pod, place(cluster, name)) as it:
        it.says("waiting for up to")
        seal(SECRET, name=name)
        assert it.process.wait(2 * PATIENCE) == 0
    assert pod.shown() == SECRET


def test_the_first_process_of_a_container_obeys_sigterm(pod: Pod, cluster: Cluster) -> None:
    with running(pod, place(cluster, "nosuch")) as it:
        it.says("waiting")
        it.process.terminate()
        assert it.process.wait(PATIENCE) == 128 + signal.SIGTERM


def test_a_change_arrives(pod: Pod, seal: Put, cluster: Cluster) -> None:
    one, two = seal({"a": "PLAIN-1", "b": "PLAIN-2"}), seal({"c": "PLAIN-3"})
    with sidecar(pod, place(cluster, one), place(cluster, two)) as it:
        seal({"c": "PLAIN-4"}, name=two)
        it.says("wrote c\n")
        assert pod.shown() == {"a": "PLAIN-1", "b": "PLAIN-2", "c": "PLAIN-4"}
        cluster.api.delete_namespaced_secret(two, cluster.namespace)
        seal({"d": "PLAIN-5"}, name=two)
        it.says("wrote d; removed c\n")
        assert pod.shown() == {"a": "PLAIN-1", "b": "PLAIN-2", "d": "PLAIN-5"}


def test_a_rewrap_writes_nothing(pod: Pod, seal: Put, cluster: Cluster, vault: PrivateVault) -> None:
    name = seal({"a": "PLAIN-1"})
    decrypted = vault.requests("transit/decrypt/derived")
    with sidecar(pod, place(cluster, name)) as it:
        before = (pod.volume / "..data").readlink()
        rewrap(vault, cluster, name)
        # Events come in order, so that it saw the rewrap when it sees what follows.
        cluster.api.patch_namespaced_secret(name, cluster.namespace, {"metadata": {"labels": {"x": "y"}}})
        assert (pod.volume / "..data").readlink() == before
        seal({"a": "PLAIN-2"}, name=name)
        it.says("wrote a", 2)
    assert vault.requests("transit/decrypt/derived") == decrypted + 2
    assert pod.shown() == {"a": "PLAIN-2"}


def test_a_deleted_secret_stays(pod: Pod, seal: Put, cluster: Cluster) -> None:
    name = seal({"a": "PLAIN-1"})
    with sidecar(pod, place(cluster, name)) as it:
        cluster.api.delete_namespaced_secret(name, cluster.namespace)
        it.says("was deleted; waiting for a new one")
        assert pod.shown() == {"a": "PLAIN-1"}
        seal({"a": "PLAIN-2"}, name=name)
        it.says("wrote a", 2)


def test_a_change_while_vault_is_sealed(pod: Pod, seal: Put, cluster: Cluster, vault: PrivateVault) -> None:
    name = seal({"a": "PLAIN-1"})
    before = cluster.kubernetes().get_secret(cluster.namespace, name)["data"]
    with sidecar(pod, place(cluster, name)) as it:
        seal({"a": "PLAIN-2"}, name=name)
        it.says("wrote a", 2)
        vault.seal()
        try:
            cluster.put(name, {"metadata": {"name": name}, "data": before})
            it.says("the files stay as they are")
            assert pod.shown() == {"a": "PLAIN-2"}
        finally:
            vault.unseal()
        it.says("wrote a", 3)
    assert pod.shown() == {"a": "PLAIN-1"}


def test_kubernetes_is_away_for_a_while(pod: Pod, seal: Put, cluster: Cluster, tmp_path: Path) -> None:
    name = seal({"a": "PLAIN-1"})
    proxy = Proxy(int(cluster.api.api_client.configuration.host.rpartition(":")[2]))
    token = cluster.account(f"user-{os.urandom(4).hex()}", RIGHTS)
    kubeconfig = cluster.kubeconfig_of(token, tmp_path, f"https://127.0.0.1:{proxy.port}")
    try:
        with sidecar(pod, place(cluster, name), K8S_AUTH_KUBECONFIG=kubeconfig) as it:
            proxy.refuse = True
            proxy.cut_all()
            it.says("will look again")
            seal({"a": "PLAIN-2"}, name=name)
            assert pod.shown() == {"a": "PLAIN-1"}
            proxy.refuse = False
            it.says("wrote a", 2)
    finally:
        proxy.close()


def test_without_permission_to_watch(pod: Pod, seal: Put, cluster: Cluster, tmp_path: Path) -> None:
    """It says so, and looks again from time to time."""
    name = seal({"a": "PLAIN-1"})
    rules = [{**rule, "verbs": [verb for verb in rule["verbs"] if verb in ("get", "create")]} for rule in RIGHTS]
    kubeconfig = cluster.kubeconfig_of(cluster.account(f"user-{os.urandom(4).hex()}", rules), tmp_path)
    with sidecar(pod, place(cluster, name), K8S_AUTH_KUBECONFIG=kubeconfig) as it:
        it.says("changes are not seen, next attempt in")
        seal({"a": "PLAIN-2"}, name=name)
        it.says("wrote a", 2)


def test_a_program_is_told(pod: Pod, seal: Put, cluster: Cluster) -> None:
    seen: list[tuple[str, dict[str, str]]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append((self.path, pod.shown()))
            self.send_response(503 if len(seen) == 1 else 200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    code = (
        "import os, signal\n"
        "signal.signal(signal.SIGUSR1, lambda *_: (os.write(1, b'got\\n'), os._exit(0)))\n"
        "os.write(1, b'ready\\n')\n"
        "while True: signal.pause()\n"
    )
    name = seal({"a": "PLAIN-1"})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    program = f"program-{os.urandom(4).hex()}"
    told = ["--notify-url", f"http://127.0.0.1:{server.server_port}/-/reload", "--signal", "USR1", "--process", program]
    command = [f"/app/{program}", "-c", code]
    with subprocess.Popen(command, executable=sys.executable, stdout=subprocess.PIPE, text=True) as reader:
        try:
            assert reader.stdout
            assert reader.stdout.readline() == "ready\n"
            with sidecar(pod, place(cluster, name), *told):
                assert not seen
                seal({"a": "PLAIN-2"}, name=name)
                assert reader.stdout.readline() == "got\n"
                wait_until("two requests", lambda: len(seen) == 2)
        finally:
            reader.kill()
            server.shutdown()
            server.server_close()
    assert seen == [("/-/reload", {"a": "PLAIN-2"})] * 2


def test_a_probe_imports_no_clients(pod: Pod) -> None:
    code = (
        "import sys\nfrom secretmanager.commands.main import cli\n"
        "try: cli(['ready', sys.argv[1]])\nexcept SystemExit: pass\n"
        "print(*sorted(name for name in sys.modules if name.startswith('secretmanager.') and 'delivery' not in name))\n"
    )
    run = subprocess.run([sys.executable, "-c", code, pod.volume], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [
        "secretmanager.commands",
        "secretmanager.commands.main",
        "secretmanager.commands.ready",
        "secretmanager.errors",
    ]
