"""Releases of `make dist`: reproducible, complete, and usable with each installed Python."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.intermediary import Intermediary
from support.servers import Authority

from secretmanager.servers.kubernetes import KubernetesClient

ROOT = Path(__file__).parents[2]
PUBLISHED = "dekeyrej-secretmanager==1.1.6"
EARLIER = "dekeyrej-secretmanager==1.0.2"  # with other files
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--progress-bar", "off")


def interpreters() -> Iterator[str]:
    """Yield each installed Python from 3.11 to 3.14, on PATH or from pyenv; the running one is always included."""
    found = {".".join(map(str, sys.version_info[:2])): sys.executable}
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    folders += sorted(pyenv.glob("*/bin"))
    for version in ("3.11", "3.12", "3.13", "3.14"):
        for folder in folders:
            path = folder / f"python{version}"
            if (
                version not in found
                and path.exists()
                and subprocess.run([path, "--version"], check=False).returncode == 0
            ):
                found[version] = str(path)
    yield from sorted(found.values())


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the output of `make dist`, without the collection (see test_collection.py)."""
    folders = [tmp_path_factory.mktemp("dist") for _ in range(2)]
    for folder in folders:
        subprocess.run([sys.executable, ROOT / "tools/build_dist.py", folder], cwd=folder, check=True)
    one, two = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert one == two, "two builds differ"
    return folders[0]


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = (ROOT / "src/secretmanager").rglob("*")
    expected = {str(path.relative_to(ROOT / "src")) for path in sources if path.suffix in (".py", ".typed")}
    assert names == expected


def test_the_bill_of_materials_says_what_is_needed(dist: Path) -> None:
    (path,) = dist.glob("*.cdx.json")
    bill = json.loads(path.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "kubevault"
    found = {item["name"]: item["version"] for item in bill["components"]}
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert found.items() <= locked.items()
    assert {"pyyaml", "click", "redis", "google-auth", "pydantic-settings"} <= found.keys()
    assert not {"pytest", "kubernetes"} & found.keys()  # which Ansible and the tests need, not the package


@pytest.fixture(scope="module", params=list(interpreters()))
def python(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and its dependencies only."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([request.param, "-m", "venv", folder], check=True)
    path = folder / "bin/python"
    subprocess.run([path, *PIP, wheel], check=True)
    return path


CODE = """
import json, os, sys
from secretmanager import SecretManager
print(json.dumps(SecretManager({"SOURCE": "FILE"}).read_secrets(sys.argv[1])))
manager = SecretManager({"SOURCE": "KUBEVAULT", "role": os.environ["KUBEVAULT_ROLE"],
                         "kube_config": os.environ["KUBEVAULT_WORKLOAD_KUBECONFIG"]})
with manager:
    print(json.dumps(manager.read_secrets("matrix-secrets", "default", "SECRET", "secrets.json")))
"""


def test_the_wheel_reads_with_each_python(python: Path, tmp_path: Path) -> None:
    """From a file, and through Kubernetes and Vault of the lab by its workload's service account."""
    assert "KUBEVAULT_ROLE" in os.environ, "KUBEVAULT_ROLE is not set: source .lab/env, or run `make test`"
    (tmp_path / "secrets.json").write_text('{"a": "b"}')
    (tmp_path / "secrets.json").chmod(0o600)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(
        [python, "-I", "-c", CODE, tmp_path / "secrets.json"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    filed, sealed = map(json.loads, run.stdout.splitlines())
    assert filed == {"a": "b"}
    assert sealed.keys() == {"username", "password"}


STRICT = """
import os, sys
from secretmanager import SecretManager
from secretmanager.errors import TLSError
vault, kube_config, ca = sys.argv[1:]
print(sys.version_info >= (3, 13))
for changes in {"vault_url": vault, "ca_cert": ca}, {"kube_config": kube_config}:
    options = {"kube_config": os.environ["KUBEVAULT_WORKLOAD_KUBECONFIG"], **changes}
    with SecretManager({"SOURCE": "KUBEVAULT", "role": os.environ["KUBEVAULT_ROLE"], **options}) as manager:
        try:
            print(*sorted(manager.read_secrets("matrix-secrets", "default", "SECRET", "secrets.json")))
        except TLSError as error:
            print(error.reason, "|", error)
"""


def test_a_ca_without_key_usage_with_each_python(python: Path, tmp_path: Path) -> None:
    """As of MicroK8s before 1.34, in front of Vault and of Kubernetes: Python 3.13 and newer refuse it and say why."""
    authority = Authority(tmp_path, without="keyUsage")
    certificate = authority.issue("relay")
    vault = Intermediary(os.environ["VAULT_ADDR"], os.environ["VAULT_CACERT"], certificate)
    # What ends TLS cannot pass on a client certificate, so the workload has a token.
    content = yaml.safe_load(Path(os.environ["KUBEVAULT_WORKLOAD_KUBECONFIG"]).read_text())
    cluster = content["clusters"][0]["cluster"]
    kubernetes = Intermediary(cluster["server"], cluster["certificate-authority"], certificate)
    cluster |= {"server": kubernetes.url, "certificate-authority": str(authority.file)}
    admin = KubernetesClient.from_kubeconfig(os.environ["KUBECONFIG"])
    content["users"][0]["user"] = {"token": admin.create_token("default", "default", None)}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(content))
    run = subprocess.run(
        [python, "-I", "-c", STRICT, vault.url, tmp_path / "kubeconfig", authority.file],
        capture_output=True,
        text=True,
        check=False,
    )
    vault.close()
    kubernetes.close()
    assert run.returncode == 0, run.stderr
    strict, *found = run.stdout.splitlines()
    if strict == "True":
        for line, server in zip(found, (vault, kubernetes), strict=True):
            assert line.startswith(f"extensions | {server.url}: certificate verification failed: ")
            assert "CA cert does not include key usage extension" in line
            assert "microk8s refresh-certs --cert ca.crt" in line
    else:
        assert found == ["password username"] * 2


@pytest.mark.parametrize(("ours_first", "published"), [(True, PUBLISHED), (False, PUBLISHED), (False, EARLIER)])
def test_the_published_client_beside_it_is_an_error(
    wheel: Path, tmp_path: Path, ours_first: bool, published: str
) -> None:
    """Both packages install the folder `secretmanager`, and the later one overwrites files of the earlier one."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path], check=True)
    python = tmp_path / "bin/python"
    for package in (str(wheel), published)[:: 1 if ours_first else -1]:
        subprocess.run([python, *PIP, "--no-deps", package], check=True)
    subprocess.run([python, *PIP, "pyyaml", "click"], check=True)
    # A module, the command and a service. If the other package is the later one, no code of ours runs in a service.
    ways = ["import secretmanager.errors", "from secretmanager.commands.main import main; main()"]
    ways += [] if ours_first else ["from secretmanager import SecretManager"]
    for code in ways:
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        run = subprocess.run([python, "-I", "-c", code], env=env, capture_output=True, text=True, check=False)
        assert run.returncode == 1
        assert "pip uninstall dekeyrej-secretmanager kubevault && pip install kubevault" in run.stderr
