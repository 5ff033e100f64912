"""Stamps in files for Git: the rest of the file stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from secretmanager.errors import ConfigError
from secretmanager.restarts.finding import find_workloads
from secretmanager.restarts.gitfile import WorkloadFile
from secretmanager.sealing.plan import Action, Outcome
from secretmanager.sealing.spec import SecretSpec

MANIFESTS = """\
# Of the shop.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop   # without a namespace: kustomize gives it
  annotations: {kubevault.io/secrets: "database,token"}
spec:
  replicas: 2
  template:
    metadata:
      labels:
        app: shop
    spec:
      containers:
      - name: "shop"  # a comment
        image: shop
---
apiVersion: v1
kind: Service
metadata: {name: shop}
---
kind: StatefulSet
metadata:
  name: queue
  namespace: shop
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yml"
    path.write_text(MANIFESTS)
    return path


def secret(name: str, *restart: str, namespace: str = "shop") -> SecretSpec:
    return SecretSpec(namespace, name, restart=restart)


def sealed(**digests: str) -> list[Outcome]:
    return [Outcome("shop", name, Action.UPDATED, digest=digest) for name, digest in digests.items()]


def stamped(path: Path, *specs: SecretSpec, check: bool = False, **digests: str) -> dict[str, tuple[str, ...]]:
    """Stamp; return what would be restarted, each with its Secrets."""
    workloads = find_workloads(None, specs, file=str(path), check=check)
    assert isinstance(workloads, WorkloadFile)
    workloads.stamp(sealed(**digests))
    return {str(restart.workload): restart.secrets for restart in workloads.restarted}


def test_the_stamp_alone_changes(path: Path) -> None:
    spec = secret("database", "Deployment/shop")
    assert stamped(path, spec, check=True, database="1") == {"Deployment shop/shop": ("database",)}
    assert path.read_text() == MANIFESTS
    assert stamped(path, spec, database="1") == {"Deployment shop/shop": ("database",)}
    first = path.read_text()
    added = "      annotations:\n        kubevault.io/digest: database=1\n"
    assert first == MANIFESTS.replace("        app: shop\n", f"        app: shop\n{added}")
    assert stamped(path, spec, database="1") == {}
    assert path.read_text() == first
    # Another run with another Secret, and then another value.
    assert stamped(path, secret("token", "Deployment/shop"), token="2") == {"Deployment shop/shop": ("token",)}
    assert stamped(path, spec, database="3") == {"Deployment shop/shop": ("database",)}
    assert path.read_text() == first.replace("database=1", "'database=3,token=2'")


def test_by_annotation(path: Path) -> None:
    specs = [secret("database", "annotated"), secret("token", "annotated"), secret("other", "annotated")]
    expected = {"Deployment shop/shop": ("database", "token")}
    assert stamped(path, *specs, database="1", token="2", other="3") == expected


def test_a_patch_without_a_template_gets_one(path: Path) -> None:
    assert stamped(path, secret("jobs", "StatefulSet/queue"), jobs="1") == {"StatefulSet shop/queue": ("jobs",)}
    content = list(yaml.safe_load_all(path.read_text()))[2]
    assert content["spec"] == {"template": {"metadata": {"annotations": {"kubevault.io/digest": "jobs=1"}}}}
    assert path.read_text().startswith(MANIFESTS.rpartition("---")[0])


def test_what_is_not_in_the_file(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no StatefulSet shop/shop; correct restart"):
        stamped(path, secret("a", "StatefulSet/shop"))
    with pytest.raises(ConfigError, match="there is no StatefulSet other/queue"):
        stamped(path, secret("a", "StatefulSet/queue", namespace="other"))
    with pytest.raises(ConfigError, match="shop has no namespace, and the Secrets are in other, shop; give its"):
        stamped(path, secret("a", "Deployment/shop", namespace="other"), secret("a", "Deployment/shop"))
    with pytest.raises(ConfigError, match="there is no such file; it should have the workloads"):
        stamped(tmp_path / "none.yml", secret("a", "Deployment/shop"))


def test_options_that_do_not_go_together() -> None:
    spec = secret("a", "Deployment/shop")
    assert find_workloads(None, [secret("a")]) is None
    with pytest.raises(ConfigError, match="nothing is written to Kubernetes, so nothing is restarted there"):
        find_workloads(None, [spec])
    with pytest.raises(ConfigError, match="restart_wait waits for workloads in Kubernetes"):
        find_workloads(None, [spec], file="it", waits=True)
    for options in ({"file": "it"}, {"waits": True}):
        with pytest.raises(ConfigError, match="restart is missing"):
            find_workloads(None, [secret("a")], **options)
