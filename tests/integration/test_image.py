"""The image of `make image`: built twice, taken by containerd, and run as a pod runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import elf
import oci
import pytest
import yaml
from build_image import BUNDLE, EXEC, folder_entries
from reproducible import Entry, File, Folder, Link
from support.servers import PATIENCE, Program, wait_until

from kubevault_lab.cache import target_platform
from secretmanager.servers.kubernetes import KubernetesClient

ROOT = Path(__file__).parents[2]
VERSION = re.findall(r'(?m)^version = "(.+)"', (ROOT / "pyproject.toml").read_text())[0]
REFERENCE = f"localhost/kubevault:{VERSION}"
FS_GROUP = 2000
NATIVE = target_platform()[1]
CONTAINER = f"kubevault-{os.getpid()}"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def require(*programs: str) -> None:
    """Skip a test where the machine cannot run it; CI can, so there it fails."""
    missing = [name for name in programs if not shutil.which(name)] + (["the rights of root"] if os.geteuid() else [])
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"missing: {', '.join(missing)}")


def build(folder: Path, *options: str) -> str:
    command = [sys.executable, ROOT / "tools/build_image.py", *options, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a build, which another one repeated."""
    require("go", "apt-get", "dpkg-deb")
    folders = [tmp_path_factory.mktemp("image") for _ in range(2)]
    said = {build(folder).replace(str(folder), "") for folder in folders}
    assert len(said) == 1, "two builds have different digests"
    one, two = (dict(folder_entries(folder)) for folder in folders)
    assert one == two
    shutil.rmtree(folders[1])
    return folders[0]


@pytest.fixture(scope="module", params=["amd64", "arm64"])
def files(request: pytest.FixtureRequest, built: Path) -> dict[str, Entry]:
    """The files of the image for each platform."""
    return entries(built, request.param)


def entries(built: Path, architecture: str) -> dict[str, Entry]:
    found = oci.read_layout(dict(folder_entries(built / "oci")), architecture)
    assert found
    return dict(found.entries)


def test_every_program_is_of_the_platform(built: Path) -> None:
    for architecture in ("amd64", "arm64"):
        headers = {
            name: elf.parse(entry.content)
            for name, entry in entries(built, architecture).items()
            if isinstance(entry, File)
        }
        found = {name: header.architecture for name, header in headers.items() if header}
        assert {EXEC, "usr/bin/python3.11"} < found.keys()
        assert set(found.values()) == {architecture}


def test_there_is_no_more_than_a_program_needs(files: dict[str, Entry]) -> None:
    programs = {name for name, entry in files.items() if isinstance(entry, File) and re.search(r"(^|/)s?bin/", name)}
    assert programs == {"usr/bin/python3.11", "usr/local/bin/kubevault", EXEC}
    assert not [name for name in files if re.search(r"/(pip|setuptools|ensurepip|pygments|pytest|ansible)/", name)]
    # All modules are byte code already, which a read-only root could not keep.
    assert not [name for name in files if name.endswith(".py")]
    modes = {name: entry.mode for name, entry in files.items() if isinstance(entry, File | Folder)}
    assert {name for name, mode in modes.items() if mode & 0o7022} == {"tmp"}
    for name, entry in files.items():
        if isinstance(entry, Link):
            target = os.path.normpath(os.path.join(os.path.dirname(name), entry.target)).lstrip("/")  # noqa: PTH118, PTH120
            assert target in files, f"{name} leads nowhere"


def test_the_bill_of_materials_is_what_is_there(built: Path) -> None:
    for architecture in ("amd64", "arm64"):
        bill = json.loads((built / f"kubevault-{VERSION}-{architecture}.cdx.json").read_text())
        names = entries(built, architecture)
        listed = {(item["purl"].split("/")[0], item["name"]) for item in bill["components"]}
        debian = {("pkg:deb", name.rpartition("/")[2]) for name in names if name.startswith("var/lib/dpkg/status.d/")}
        python = {
            ("pkg:pypi", match[1].replace("_", "-").lower())
            for name in names
            if (match := re.search(r"/([^/]+)-[^/-]+\.dist-info/METADATA$", name))
        }
        go = {("pkg:golang", "kubevault-exec"), ("pkg:golang", "stdlib")}
        assert listed == debian | python | go
        assert {("pkg:pypi", "kubevault"), ("pkg:deb", "libssl3")} < listed
        assert bill["metadata"]["component"]["version"] == VERSION


def test_it_is_labelled(built: Path) -> None:
    found = oci.read_layout(dict(folder_entries(built / "oci")), "amd64")
    assert found
    assert (found.runtime["User"], found.runtime["Entrypoint"]) == ("65532:65532", ["kubevault"])
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in found.runtime["Labels"].items()}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert labels["revision"].removesuffix("-dirty") == commit.strip()
    assert (labels["title"], labels["version"], labels["licenses"]) == ("kubevault", VERSION, "Apache-2.0")


def test_another_base_keeps_its_layers(built: Path, tmp_path: Path) -> None:
    """The base is an image of our own, as one with Python that a layout holds."""
    build(tmp_path, "--platform=amd64", f"--base={built / 'oci'}", "--reference=registry.example.org/own:1")
    base, found = (oci.read_layout(dict(folder_entries(path / "oci")), "amd64") for path in (built, tmp_path))
    assert base
    assert found
    # What is added is the same files, compiled by the same Python.
    assert list(found.layers) == [*base.layers, base.layers[-1]]
    assert {path.name for path in tmp_path.glob("*.tar")} == {f"kubevault-{VERSION}-amd64.tar"}


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
    assert done.stdout.splitlines()[-1] == "['google', 'pydantic_settings', 'redis']"


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


@pytest.fixture(scope="module")
def ctr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The command `ctr` of a containerd of the tests' own."""
    require("containerd", "ctr", "runc")
    folder = tmp_path_factory.mktemp("containerd")
    config = (
        "version = 2",
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]',
        f'root = "{folder}/root"',
        f'state = "{folder}/state"',
        f'grpc = {{address = "{folder}/grpc"}}',
        f'ttrpc = {{address = "{folder}/ttrpc"}}',
    )
    (folder / "config.toml").write_text("\n".join(config))
    server = Program(["containerd", "--config", f"{folder}/config.toml"], folder / "log")

    def ctr(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = ["ctr", "--address", folder / "grpc", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)

    server.start()
    try:
        wait_until("containerd", lambda: ctr("version").returncode == 0)
        yield ctr
    finally:
        # Only where a test was broken off is it still there; without containerd its process and mount would stay.
        ctr("tasks", "delete", "--force", CONTAINER)
        server.end()


def test_containerd_takes_an_archive_and_a_layout(built: Path, ctr: Run, tmp_path: Path) -> None:
    layout = tmp_path / "layout.tar"
    with tarfile.open(layout, "w") as archive:
        archive.add(built / "oci", arcname=".")
    digests = []
    for path in (layout, built / f"kubevault-{VERSION}-{NATIVE}.tar"):
        done = ctr("images", "import", path)
        assert done.returncode == 0, done.stderr
        (line,) = [line for line in ctr("images", "ls").stdout.splitlines() if line.startswith(f"{REFERENCE} ")]
        digests.append(line.split()[2])
        done = ctr("run", "--rm", "--read-only", REFERENCE, CONTAINER, "kubevault", "--version")
        assert (done.returncode, done.stdout) == (0, f"kubevault, version {VERSION}\n"), done.stderr
    (main,) = json.loads((built / "oci/index.json").read_text())["manifests"]
    index = json.loads((built / "oci/blobs" / main["digest"].replace(":", "/")).read_text())
    natives = [each["digest"] for each in index["manifests"] if each["platform"]["architecture"] == NATIVE]
    assert digests == [main["digest"], *natives]
