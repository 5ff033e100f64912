"""The image of `make image` for this machine, run as a pod runs it. (For other machines: tests/release.)"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from build_image import BUNDLE
from support.image_build import NATIVE, VERSION, base, build, check, require

from secretmanager.servers.kubernetes import KubernetesClient

FS_GROUP = 2000
CONTAINER = f"kubevault-{os.getpid()}"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    build(folder, f"--platform={NATIVE}")
    return folder


def test_what_is_in_it(built: Path) -> None:
    check(built, NATIVE)


def test_another_base_keeps_its_layers(built: Path, tmp_path: Path) -> None:
    """The base is an image of our own, as one with Python that a layout holds."""
    build(tmp_path, f"--platform={NATIVE}", f"--base={built / 'oci'}", "--reference=registry.example.org/own:1")
    image, own = (base(folder, NATIVE) for folder in (built, tmp_path))
    # What is added is the same files, compiled by the same Python.
    assert list(own.layers) == [*image.layers, image.layers[-1]]
    assert {path.name for path in tmp_path.glob("*.tar")} == {f"kubevault-{VERSION}-{NATIVE}.tar"}


# In containers


@pytest.fixture(scope="module")
def root(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root folder of the image for this machine."""
    folder = tmp_path_factory.mktemp("root")
    archive = built / f"kubevault-{VERSION}-{NATIVE}.tar"
    with tarfile.open(archive) as outer:
        (manifest,) = json.load(outer.extractfile("manifest.json"))
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=outer.extractfile(layer)) as inner:
                inner.extractall(folder, filter="tar")
    folder.chmod(0o755)
    return folder


@pytest.fixture
def run(root: Path, tmp_path: Path) -> Run:
    """Run a command in a container with the restrictions of the Pod Security Standard `restricted`."""
    require("runc")

    def run(
        *command: str,
        given: str = "",
        mounts: dict[Path, str] | None = None,
        volume: Path | None = None,
        **variables: str,
    ) -> subprocess.CompletedProcess[str]:
        (tmp_path / "config.json").unlink(missing_ok=True)
        subprocess.run(["runc", "spec"], cwd=tmp_path, check=True)
        spec = json.loads((tmp_path / "config.json").read_text())
        environment = [f"{name}={value}" for name, value in variables.items()]
        spec["process"] |= {
            "terminal": False,
            "user": {"uid": 65532, "gid": 65532, "additionalGids": [FS_GROUP]},
            "args": list(command),
            "env": ["PATH=/usr/local/bin:/usr/bin", f"SSL_CERT_FILE=/{BUNDLE}", *environment],
            "capabilities": {},
            "noNewPrivileges": True,
        }
        spec["root"] = {"path": str(root), "readonly": True}
        spec["mounts"] += [
            {"type": "bind", "source": str(source), "destination": target, "options": ["bind", "ro"]}
            for source, target in (mounts or {}).items()
        ]
        if volume:
            volumes = {"type": "bind", "source": str(volume), "destination": "/kubevault", "options": ["bind", "rw"]}
            spec["mounts"].append(volumes)
        # The lab listens on loopback.
        spec["linux"]["namespaces"] = [item for item in spec["linux"]["namespaces"] if item["type"] != "network"]
        (tmp_path / "config.json").write_text(json.dumps(spec))
        return subprocess.run(
            ["runc", "--root", tmp_path / "state", "run", "--bundle", tmp_path, CONTAINER],
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_command_runs(run: Run) -> None:
    done = run("kubevault", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"kubevault, version {VERSION}\n", "")


def test_every_module_can_be_imported(run: Run) -> None:
    """All that is left out of the image is what belongs to extras that it does not have."""
    code = """
import importlib, os, pkgutil, ssl, secretmanager
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
assert (os.getuid(), status["CapEff"].strip(), status["CapBnd"].strip()) == (65532, "0" * 16, "0" * 16)
assert os.statvfs("/").f_flag & os.ST_RDONLY and "HOME" not in os.environ or os.environ["HOME"] == "/nonexistent"
assert len(ssl.create_default_context().get_ca_certs()) > 100
from rich.console import Console
from rich.progress import Progress
with Progress(console=Console(force_terminal=True)) as progress:
    progress.add_task("sealing", total=1)
missing = set()
for module in pkgutil.walk_packages(secretmanager.__path__, "secretmanager."):
    try:
        importlib.import_module(module.name)
    except Exception as error:
        while error.__cause__:
            error = error.__cause__
        missing.add(error.name.partition(".")[0])  # of a ModuleNotFoundError
print()
print(sorted(missing))
"""
    done = run("python3", "-I", "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['google', 'pydantic', 'redis']"


def test_a_container_is_a_krm_function(run: Run) -> None:
    """kustomize and kpt run an image by its entry point, and give it the resources on standard input."""
    spec = {
        "with": "init",
        "secrets": ["shop-keys"],
        "vaultUrl": "https://vault:8200",
        "role": "shop",
        "image": "registry.example.org/kubevault:0.1.0",
    }
    pod = {"metadata": {"name": "shop"}, "spec": {"containers": [{"name": "shop", "image": "shop:1"}]}}
    resources = {
        "apiVersion": "config.kubernetes.io/v1",
        "kind": "ResourceList",
        "items": [{"apiVersion": "v1", "kind": "Pod", **pod}],
        "functionConfig": {"apiVersion": "kubevault.io/v1", "kind": "KubevaultInject", "spec": spec},
    }
    done = run("kubevault", given=yaml.safe_dump(resources))
    assert (done.returncode, done.stderr) == (0, "")
    (injected,) = yaml.safe_load(done.stdout)["items"]
    assert [container["image"] for container in injected["spec"]["initContainers"]] == [spec["image"]]


def test_a_workload_reads_its_secret(run: Run, tmp_path: Path) -> None:
    """By its service account's token, and passes it to a program."""
    content = yaml.safe_load(Path(os.environ["KUBEVAULT_WORKLOAD_KUBECONFIG"]).read_text())
    admin = KubernetesClient.from_kubeconfig(os.environ["KUBECONFIG"])
    cluster = content["clusters"][0]["cluster"]
    given = tmp_path / "given"
    given.mkdir(mode=0o755)
    shutil.copy(cluster["certificate-authority"], given / "kubernetes-ca.crt")
    shutil.copy(os.environ["VAULT_CACERT"], given / "vault-ca.crt")
    cluster["certificate-authority"] = "kubernetes-ca.crt"
    content["users"][0]["user"] = {"token": admin.create_token("default", "default", None)}
    (given / "kubeconfig").write_text(yaml.safe_dump(content))
    for path in given.iterdir():
        path.chmod(0o444)
    code = "import os; print(sorted(name for name in os.environ if name.startswith('MATRIX_') and os.environ[name]))"
    done = run(
        *("kubevault", "exec", "--secret", "default/matrix-secrets/secrets.json", "--env-prefix", "MATRIX_"),
        *(
            "--auth-method",
            "kubernetes",
            "--role",
            os.environ["KUBEVAULT_ROLE"],
            "--service-account",
            "default/default",
        ),
        *("--", "python3", "-I", "-c", code),
        mounts={given: "/etc/kubevault"},
        VAULT_ADDR=os.environ["VAULT_ADDR"],
        VAULT_CACERT="/etc/kubevault/vault-ca.crt",
        K8S_AUTH_KUBECONFIG="/etc/kubevault/kubeconfig",
    )
    assert done.returncode == 0, done.stderr
    assert "MATRIX_username" in done.stdout


@pytest.fixture
def volume() -> Iterator[Path]:
    """An emptyDir in memory, as kubelet makes it for an fsGroup."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        os.chown(folder, 0, FS_GROUP)
        Path(folder).chmod(0o2777)
        yield Path(folder)


def test_files_as_in_a_pod(run: Run, tmp_path: Path, volume: Path) -> None:
    """With what kubelet gives a container: its service account's files, the address of the API, a volume in memory."""
    admin = KubernetesClient.from_kubeconfig(os.environ["KUBECONFIG"])
    kubeconfig = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    cluster = kubeconfig["clusters"][0]["cluster"]
    account, given = tmp_path / "account", tmp_path / "given"
    for folder in (account, given):
        folder.mkdir(mode=0o755)
    shutil.copy(Path(os.environ["KUBECONFIG"]).parent / cluster["certificate-authority"], account / "ca.crt")
    (account / "namespace").write_text("default")
    (account / "token").write_text(admin.create_token("default", "default", None))
    shutil.copy(os.environ["VAULT_CACERT"], given / "ca.crt")
    for path in (*account.iterdir(), *given.iterdir()):
        path.chmod(0o444)
    address = urlsplit(cluster["server"])
    pod = {
        "mounts": {account: "/var/run/secrets/kubernetes.io/serviceaccount", given: "/etc/kubevault"},
        "volume": volume,
        "VAULT_ADDR": os.environ["VAULT_ADDR"],
        "VAULT_CACERT": "/etc/kubevault/ca.crt",
        "KUBEVAULT_AUTH_METHOD": "kubernetes",
        "KUBEVAULT_ROLE": os.environ["KUBEVAULT_ROLE"],
        "KUBERNETES_SERVICE_HOST": str(address.hostname),
        "KUBERNETES_SERVICE_PORT": str(address.port),
    }
    what = ("--secret", "default/matrix-secrets/secrets.json", "--to", "/kubevault", "--wait", "0")
    assert run("kubevault", "ready", "/kubevault", volume=volume).returncode == 1
    done = run("kubevault", "files", *what, **pod)
    assert (done.returncode, done.stderr) == (0, "kubevault: /kubevault: wrote password, username\n")
    assert run("kubevault", "ready", "/kubevault", volume=volume).returncode == 0
    found = (volume / "password").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (65532, FS_GROUP, 0o440)
    done = run("kubevault", "files", "--exec", "--env-prefix", "MATRIX_", *what, **pod)
    assert (done.returncode, done.stderr) == (0, "kubevault: /kubevault: wrote .env; removed password, username\n")
    code = "import os; print(*sorted(name for name in os.environ if name.startswith('MATRIX_') and os.environ[name]))"
    done = run("/kubevault/kubevault-exec", "python3", "-I", "-c", code, volume=volume)
    assert (done.returncode, done.stdout) == (0, "MATRIX_password MATRIX_username\n"), done.stderr
