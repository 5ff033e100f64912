"""MicroK8s on its host, by the whole chain of site.yml; the stand-in for it, unless the hosts are a user's."""

from __future__ import annotations

import json
import ssl
import urllib.request
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from testinfra.host import Host

COMMAND = "/snap/bin/microk8s"


@pytest.fixture(scope="module")
def microk8s(inventory: Path) -> Host:
    return testinfra.get_hosts(["ansible://microk8s"], ansible_inventory=str(inventory), sudo=True)[0]


def kubectl(host: Host, arguments: str) -> Any:
    return json.loads(host.check_output(f"{COMMAND} kubectl {arguments} --output=json"))


def test_the_services_run_and_the_node_is_ready(microk8s: Host) -> None:
    assert microk8s.service("snap.microk8s.daemon-kubelite").is_running
    (node,) = kubectl(microk8s, "get nodes")["items"]
    assert {"type": "Ready", "status": "True"}.items() <= node["status"]["conditions"][-1].items()


def test_the_api_is_verified_strictly_by_its_name(inventory: Path, groups: dict[str, list[str]]) -> None:
    kubeconfig = inventory / "secrets/microk8s.conf"
    assert kubeconfig.stat().st_mode & 0o777 == 0o600
    cluster = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
    context = ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with urllib.request.urlopen(f"https://{groups['microk8s'][0]}:16443/readyz", context=context) as answer:
        assert answer.read() == b"ok"


def test_a_workload_may_read_its_own_secret_alone(microk8s: Host) -> None:
    ask = f"{COMMAND} kubectl auth can-i get --namespace=shop --as=system:serviceaccount:shop:shop"
    assert microk8s.check_output(f"{ask} secret/shop-database") == "yes"
    assert microk8s.run(f"{ask} secret/another").stdout.strip() == "no"


def test_only_ciphertext_is_stored(microk8s: Host) -> None:
    stored = kubectl(microk8s, "get secret shop-database --namespace=shop")["data"]
    assert b64decode(stored["dsn"]).startswith(b"vault:v1:")


def test_a_user_of_the_group_may_use_it(microk8s: Host) -> None:
    assert microk8s.check_output(f"runuser --user=admin -- {COMMAND} kubectl get namespace shop --output=name")
