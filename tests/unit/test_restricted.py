"""All manifests of this project pass the Pod Security Standard "restricted", and the examples are what they say."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from support.ansible import ROOT
from support.restricted import POD, pods, violations

from secretmanager.injection.options import from_options
from secretmanager.injection.text import with_injection

PODS = list(pods())
WAYS = ROOT / "examples/ways"


@pytest.mark.parametrize(("name", "pod"), PODS, ids=[name for name, _ in PODS])
def test_a_pod_of_ours_passes(name: str, pod: dict[str, Any]) -> None:
    assert violations(pod) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hostNetwork": True}, "hostNetwork is set"),
        ({"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}, "volume a: hostPath"),
        ({"securityContext": {"runAsNonRoot": True}}, "container program: seccompProfile"),
        ({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}, "container program: may run as root"),
        ({"securityContext": {**POD["securityContext"], "runAsUser": 0}}, "container program: may run as root"),
    ],
)
def test_a_pod_that_does_not_is_found(change: dict[str, Any], said: str) -> None:
    assert violations(POD) == []
    assert violations({**POD, **change}) == [said]


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ({"allowPrivilegeEscalation": True}, "allowPrivilegeEscalation is not false"),
        ({"capabilities": {"drop": ["NET_RAW"]}}, "capabilities"),
        ({"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}, "capabilities"),
        ({"privileged": True}, "privileged"),
        ({"procMount": "Unmasked"}, "procMount or seLinuxOptions"),
    ],
)
def test_a_container_that_does_not_is_found(context: dict[str, Any], said: str) -> None:
    pod = copy.deepcopy(POD)
    pod["containers"][0]["securityContext"] |= context  # type: ignore[index]
    assert violations(pod) == [f"container program: {said}"]


@pytest.mark.parametrize("way", ["init", "sidecar", "exec"])
def test_an_example_is_the_program_s_manifest_with_the_way_in_it(way: str) -> None:
    injection = from_options(
        {
            "with": way,
            "secrets": ["matrix-secrets/secrets.json"],
            "vault_url": "https://vault.example.org:8200",
            "role": "demo",
            "image": "localhost/kubevault:0.1.0",
        }
    )
    plain = (WAYS / "program.yaml").read_text()
    first, _, _ = plain.partition("\napiVersion")
    expected = with_injection(plain, "program.yaml", injection).replace(
        first, f"---\n# program.yaml after `kubevault inject --with {way}`, by which its program gets the values."
    )
    assert (WAYS / f"{way}.yaml").read_text() == expected


@pytest.mark.parametrize("source", ["kubevault", "kubernetes", "file", "environment"])
def test_an_example_of_a_source_is_of_that_source(source: str) -> None:
    text = (ROOT / f"examples/sources/{source}.yaml").read_text()
    (settings,) = (each["data"] for each in yaml.safe_load_all(text) if each["kind"] == "ConfigMap")
    assert yaml.safe_load(settings["secretcfg.json"])["SOURCE"] == source.upper()
    assert yaml.safe_load(settings["secretdef.json"])
