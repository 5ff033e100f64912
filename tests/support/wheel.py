"""Build what `make dist` builds, and check that the wheel works in a Python of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from secretmanager.servers.kubernetes import KubernetesClient
from support.ansible import ROOT
from support.intermediary import Intermediary
from support.servers import Authority


def build(folder: Path) -> Path:
    """Build wheel, source distribution and bill of materials into a folder; return the path of the wheel."""
    subprocess.run([sys.executable, ROOT / "tools/build_dist.py", folder], cwd=folder, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def environment(interpreter: str, folder: Path, *installations: Sequence[str | Path]) -> Path:
    """Make a virtual environment and install packages into it, one call of pip after the other; return its Python."""
    # By the pip that is there: to install another one would take longer than the packages.
    subprocess.run([interpreter, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin/python"
    for arguments in installations:
        options = ("--quiet", "--disable-pip-version-check", "--progress-bar=off", *arguments)
        subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", *options], check=True)
    return python


READS = """
import json, os, sys
from secretmanager import SecretManager
print(json.dumps(SecretManager({"SOURCE": "FILE"}).read_secrets(sys.argv[1])))
manager = SecretManager({"SOURCE": "KUBEVAULT", "role": os.environ["KUBEVAULT_ROLE"],
                         "kube_config": os.environ["KUBEVAULT_WORKLOAD_KUBECONFIG"]})
with manager:
    print(json.dumps(manager.read_secrets("matrix-secrets", "default", "SECRET", "secrets.json")))
"""


def check_reading(python: Path, folder: Path) -> None:
    """It reads from a file, and through Kubernetes and Vault of the lab by its workload's service account."""
    assert "KUBEVAULT_ROLE" in os.environ, "KUBEVAULT_ROLE is not set: source .lab/env, or run `make test`"
    (folder / "secrets.json").write_text('{"a": "b"}')
    (folder / "secrets.json").chmod(0o600)
    process = run(python, READS, folder / "secrets.json")
    assert process.returncode == 0, process.stderr
    filed, sealed = map(json.loads, process.stdout.splitlines())
    assert filed == {"a": "b"}
    assert sealed.keys() == {"username", "password"}


READS_STRICTLY = """
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


def check_a_ca_without_key_usage(python: Path, folder: Path) -> None:
    """As of MicroK8s before 1.34, in front of Vault and of Kubernetes: Python 3.13 and newer refuse it and say why."""
    authority = Authority(folder, without="keyUsage")
    certificate = authority.issue("relay")
    vault = Intermediary(os.environ["VAULT_ADDR"], os.environ["VAULT_CACERT"], certificate)
    # What ends TLS cannot pass on a client certificate, so the workload has a token.
    content = yaml.safe_load(Path(os.environ["KUBEVAULT_WORKLOAD_KUBECONFIG"]).read_text())
    cluster = content["clusters"][0]["cluster"]
    kubernetes = Intermediary(cluster["server"], cluster["certificate-authority"], certificate)
    cluster |= {"server": kubernetes.url, "certificate-authority": str(authority.file)}
    admin = KubernetesClient.from_kubeconfig(os.environ["KUBECONFIG"])
    content["users"][0]["user"] = {"token": admin.create_token("default", "default", None)}
    (folder / "kubeconfig").write_text(yaml.safe_dump(content))
    process = run(python, READS_STRICTLY, vault.url, folder / "kubeconfig", authority.file)
    vault.close()
    kubernetes.close()
    assert process.returncode == 0, process.stderr
    strict, *lines = process.stdout.splitlines()
    if strict == "True":
        for line, server in zip(lines, (vault, kubernetes), strict=True):
            assert line.startswith(f"extensions | {server.url}: certificate verification failed: ")
            assert "CA cert does not include key usage extension" in line
            assert "microk8s refresh-certs --cert ca.crt" in line
    else:
        assert lines == ["password username"] * 2


def run(python: Path, code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run code in a Python that finds no package but those of its own environment."""
    return subprocess.run([python, "-I", "-c", code, *arguments], capture_output=True, text=True, check=False)
