"""The Pod Security Standard "restricted": its rules on the spec of a pod, and the pods of all manifests of ours.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import yaml

from secretmanager.injection.options import Injection
from secretmanager.injection.pods import injected, is_workload

from .ansible import ROOT

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}

BARE = {"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}

POD = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [{"name": "program", "image": "program:1", "command": ["program"], **BARE}],
}
"""The spec of a pod that just fits."""


def violations(pod: dict[str, Any]) -> list[str]:
    """Return what in a pod's spec the standard does not permit."""
    found = [f"{field} is set" for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field)]
    for volume in pod.get("volumes") or []:
        found += [f"volume {volume['name']}: {kind}" for kind in sorted(volume.keys() - VOLUMES - {"name"})]
    context = pod.get("securityContext") or {}
    if context.get("sysctls"):
        found.append("sysctls are set")
    for container in [*(pod.get("initContainers") or []), *pod["containers"]]:
        found += [f"container {container['name']}: {problem}" for problem in _of_container(container, context)]
    return found


def _of_container(container: dict[str, Any], pod: dict[str, Any]) -> Iterator[str]:
    own = container.get("securityContext") or {}
    context = {**pod, **own}
    capabilities = own.get("capabilities") or {}
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities"
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        yield "may run as root"
    if (context.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile"
    if own.get("procMount", "Default") != "Default" or context.get("seLinuxOptions"):
        yield "procMount or seLinuxOptions"
    if any(port.get("hostPort") for port in container.get("ports") or []):
        yield "hostPort"


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the pods of all manifests of this project, each with a name."""
    for path in sorted((ROOT / "examples").glob("*/*.yaml")):
        for manifest in yaml.safe_load_all(path.read_text()):
            if is_workload(manifest):
                yield str(path.relative_to(ROOT)), pod_of(manifest)
    yield "the rotation's CronJob", pod_of(rotation())
    for injection in injections():
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": POD}
        yield f"inject --with {injection.way}", injected(manifest, injection)["spec"]
        no_token = {**manifest, "spec": {**POD, "automountServiceAccountToken": False}}
        yield f"inject --with {injection.way}, without a token", injected(no_token, injection)["spec"]


def injections() -> Iterator[Injection]:
    """Yield each way, with all that adds to a pod."""
    for way in ("init", "sidecar", "exec"):
        yield Injection(way, ["a"], "https://vault:8200", "a", "kubevault:1", config="a", user=5)  # type: ignore[arg-type]
        yield Injection(way, ["a"], "https://vault:8200", "a", "kubevault:1")  # type: ignore[arg-type]


def rotation() -> dict[str, Any]:
    """Return the rotation's CronJob, as the role makes it by default."""
    role = ROOT / "roles/kubevault-rotation"
    given = yaml.safe_load((role / "defaults/main.yml").read_text())
    given |= {
        "kubevault_rotation_name": "rotation",
        "kubevault_rotation_image": "kubevault:1",
        "kubevault_rotation_vault_url": "https://vault:8200",
        "kubevault_rotation_vault_ca_pem": "PEM",
        "kubevault_rotation_pod_arguments": ["rotate"],
        "workload_ca_config_map": "kubevault-ca",
    }
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    environment.filters["to_json"] = json.dumps
    text = environment.from_string(Path(role / "templates/cronjob.yml.j2").read_text()).render(given)
    (cronjob,) = (each for each in yaml.safe_load_all(text) if is_workload(each))
    return dict(cronjob)


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the spec of a workload's pods."""
    spec: dict[str, Any] = manifest["spec"]
    if manifest["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec if manifest["kind"] == "Pod" else dict(spec["template"]["spec"])
