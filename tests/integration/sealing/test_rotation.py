"""Rotate, rewrap and retire on real servers, by the command and with the rights of a rotator and a retirer alone."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import BIN
from support.sealing import Chain, environment

from secretmanager.sealed import sealed_values
from secretmanager.sealing.manifestfile import ManifestFile
from secretmanager.sealing.sealer import Sealer, seal_into
from secretmanager.sealing.spec import SecretSpec
from secretmanager.sealing.stores import KubernetesStore
from secretmanager.servers.vault import TransitItem, VaultClient

VALUES = {"a": b"PLAIN-a", "b.json": b'{"x": "PLAIN-b"}'}


@dataclass(frozen=True)
class Life:
    """A Transit key of its own, and the command with the token of its rotator or its retirer."""

    chain: Chain
    key: str
    folder: Path

    def run(self, command: str, *options: str, status: int = 0, who: str | None = None) -> dict[str, Any]:
        """Run a subcommand; return what it prints as JSON, or with another status the text of its errors."""
        token = self.folder / (who or ("retirer" if command == "retire" else "rotator"))
        done = subprocess.run(
            [BIN / "kubevault", command, "--transit-key", self.key, "--output", "json", *options],
            env=environment(self.chain, token),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "PLAIN-" not in done.stdout + done.stderr
        facts: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        return {**facts, "said": done.stderr}

    def spec(self, name: str, values: dict[str, bytes] | None = None, **options: Any) -> SecretSpec:
        return SecretSpec(self.chain.namespace, name, values or VALUES, **{"transit_key": self.key, **options})

    @property
    def root(self) -> VaultClient:
        return self.chain.client(self.chain.vault.root.token)

    def seal(self, *specs: SecretSpec) -> None:
        Sealer(self.root, KubernetesStore(self.chain.kubernetes())).seal(specs)

    def versions(self, name: str) -> set[int]:
        return {value.version for value in sealed_values(self.chain.secret(name)).values()}

    def place(self, name: str) -> str:
        return f"{self.chain.namespace}/{name}"


ROTATOR = ("rotator", {"keys/{}": ["read"], "keys/{}/rotate": ["update"], "rewrap/{}": ["update"]})
RETIRER = ("retirer", {"keys/{}": ["read"], "keys/{}/config": ["update"], "keys/{}/trim": ["update"]})


@pytest.fixture(params=[True, False], ids=["derived", "plain"])
def life(chain: Chain, name: str, tmp_path: Path, request: pytest.FixtureRequest) -> Life:
    return make(chain, name, tmp_path, derived=request.param)


@pytest.fixture
def one_life(chain: Chain, name: str, tmp_path: Path) -> Life:
    return make(chain, name, tmp_path, derived=True)


def make(chain: Chain, name: str, folder: Path, *, derived: bool) -> Life:
    key = f"key-{name}"
    chain.vault.write(f"transit/keys/{key}", derived=derived)
    chain.vault.write(f"transit/keys/{key}-digest", type="hmac", key_size=32)
    (folder / "all").write_text(chain.vault.root.token or "")
    for who, rules in (ROTATOR, RETIRER):
        policy = {f"transit/{path.format(key)}": rights for path, rights in rules.items()}
        (folder / who).write_text(chain.token_for(policy))
    return Life(chain, key, folder)


def test_the_whole_life_of_a_key(life: Life, name: str) -> None:
    chain, names = life.chain, [f"{name}-{number}" for number in range(3)]
    life.seal(*(life.spec(each) for each in names))
    plain = chain.opened(names[0])
    assert life.run("rotate", "--older-than", "1h")["rotated"] is False
    assert life.run("rotate", "--older-than", "0", "--check") | {"said": ""} == {
        "changed": True,
        "rotated": True,
        "newest_version": 1,
        "current": 0,
        "rewrapped": [],
        "skipped": {},
        "failed": {},
        "retired": False,
        "min_decryption_version": 1,
        "said": "",
    }
    assert life.run("rotate", "--older-than", "0")["newest_version"] == 2
    refused = life.run("retire", status=1)["said"]
    assert f"3 Secrets are behind: {life.place(names[0])} (version 1)" in refused
    checked, done = life.run("rewrap", "--check"), life.run("rewrap")
    assert checked["rewrapped"] == done["rewrapped"] == [life.place(each) for each in names]
    assert [life.versions(each) for each in names] == [{2}] * 3
    assert chain.opened(names[0]) == plain == VALUES
    again = life.run("rewrap")
    assert (again["changed"], again["current"], again["rewrapped"]) == (False, 3, [])
    assert life.run("retire", "--check")["retired"] is True
    retired = life.run("retire", "--trim")
    assert (retired["retired"], retired["min_decryption_version"]) == (True, 2)
    assert life.run("retire", "--trim")["changed"] is False
    assert chain.opened(names[0]) == VALUES


def test_a_sealing_run_after_it_changes_nothing(life: Life, name: str) -> None:
    life.seal(life.spec(name))
    life.run("rotate", "--older-than", "0", "--rewrap")
    before = life.chain.secret(name)
    life.seal(life.spec(name))
    assert life.chain.secret(name) == before


def test_one_command_does_all_three(one_life: Life, name: str) -> None:
    one_life.seal(one_life.spec(name))
    done = one_life.run("rotate", "--older-than", "0", "--rewrap", "--retire", "--trim", who="all")
    assert (done["rotated"], done["rewrapped"], done["retired"]) == (True, [one_life.place(name)], True)


def test_what_is_left_behind_is_told_and_not_retired(one_life: Life, name: str) -> None:
    chain = one_life.chain
    labels = {"kustomize.toolkit.fluxcd.io/name": "x"}
    names = {kind: f"{name}-{kind}" for kind in ("immutable", "flux", "argo", "damaged", "fine")}
    one_life.seal(
        one_life.spec(names["immutable"], immutable=True),
        one_life.spec(names["flux"], labels=labels),
        one_life.spec(names["argo"], annotations={"argocd.argoproj.io/tracking-id": "x"}),
        one_life.spec(names["damaged"]),
        one_life.spec(names["fine"]),
    )
    other = chain.secret(names["fine"])["data"]["a"]
    chain.api.patch_namespaced_secret(names["damaged"], chain.namespace, {"data": {"a": other}})
    done = one_life.run("rotate", "--older-than", "0", "--rewrap")
    assert done["rewrapped"] == [one_life.place(names["fine"])]
    assert {place.rpartition("-")[2]: why.partition(":")[0] for place, why in done["skipped"].items()} == {
        "immutable": "it is immutable",
        "flux": "Argo CD or Flux owns it",
        "argo": "Argo CD or Flux owns it",
        "damaged": "its manifest, or a value, is damaged",
    }
    assert "4 Secrets are behind" in one_life.run("retire", status=1)["said"]
    more = one_life.run("rewrap", "--gitops")
    assert len(more["rewrapped"]) == 2
    chain.api.delete_namespaced_secret(names["damaged"], chain.namespace)
    assert "1 Secrets are behind" in one_life.run("retire", status=1)["said"]


def test_values_of_an_older_tool(chain: Chain, name: str, tmp_path: Path) -> None:
    life, root = make(chain, name, tmp_path, derived=False), chain.vault.root
    (ours,) = root.encrypt(life.key, [TransitItem(b"PLAIN-old")])
    (foreign,) = root.encrypt("plain", [TransitItem(b"PLAIN-foreign")])
    chain.put(name, {"value": ours.encode()})
    chain.put(f"{name}-foreign", {"value": foreign.encode()})
    done = life.run("rotate", "--older-than", "0", "--rewrap")
    assert (done["rewrapped"], done["skipped"]) == ([], {})
    assert f"1 Secrets are behind: {life.place(name)}" in life.run("retire", status=1, who="all")["said"]
    done = life.run("rewrap", "--unmanaged", "--namespace", chain.namespace)
    assert done["rewrapped"] == [life.place(name)]
    assert set(done["skipped"]) == {life.place(f"{name}-foreign")}


def test_files_of_git(life: Life, name: str, tmp_path: Path) -> None:
    chain, folder = life.chain, tmp_path / "manifests"
    (folder / "deep").mkdir(parents=True)
    path = folder / "deep" / "secret.yaml"
    seal_into(life.root, [life.spec(name)], file=ManifestFile(path))
    path.write_text(f"# of the team\n{path.read_text()}---\nkind: ConfigMap # stays\n")
    (folder / "helm.yaml").write_text("{{ no: yaml")
    before = path.read_text().splitlines()
    done = life.run("rotate", "--older-than", "0", "--rewrap", "--no-kubernetes", "--manifest", str(folder))
    assert done["rewrapped"] == [f"{path}: {life.place(name)}"]
    after = path.read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == len(VALUES) + 1  # the values, and the manifest with their checksums
    secret = next(yaml.safe_load_all(path.read_text()))
    assert {value.version for value in sealed_values(secret).values()} == {2}
    assert life.run("rewrap", "--no-kubernetes", "--manifest", str(path))["changed"] is False
    chain.vault.write(f"transit/keys/{life.key}/rotate")
    assert f"{path}: {life.place(name)} (version 2)" in life.run("retire", "--manifest", str(folder), status=1)["said"]
