"""The container that delivers the values, and its volumes. All of it passes the Pod Security Standard "restricted"."""

from __future__ import annotations

from typing import Any

from .options import MOUNT_PATH, RESOURCE_KINDS, Injection, quantity

Object = dict[str, Any]

NAME = "kubevault"
"""Name of the container, and of the volume of the values."""

CA, CONFIG, TOKEN, VAULT_TOKEN = f"{NAME}-ca", f"{NAME}-config", f"{NAME}-token", f"{NAME}-vault-token"
VOLUMES = (NAME, CA, CONFIG, TOKEN, VAULT_TOKEN)
"""Names of our volumes."""

CA_PATH = "/etc/kubevault"
CONFIG_PATH = "/etc/kubevault-config"
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"

VAULT_TOKEN_PATH = "/var/run/secrets/tokens"
"""Where the client finds the token for Vault: `login.methods.TOKEN_FILE`."""

EXEC = "kubevault-exec"

GROUP = 65532
"""fsGroup of a pod that has none."""

USER = 65532
"""User of the image, where the pod's own is root, by which our container would not start."""

SIZE = "16Mi"
"""Size of the volume of the values: a Secret holds up to 1 MiB, kubevault-exec takes 2 MiB."""

RESOURCES = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}
"""Resources of our container, unless the option says others."""


def container(injection: Injection, user: tuple[int, int | None] | None, token: bool) -> Object:
    """Return the container.

    Args:
        injection: what is to be injected.
        user: numbers of the user and the group that it runs as; None for those of its image.
        token: whether it has to mount its service account's token itself.
    """
    sidecar = injection.way == "sidecar"
    return {
        "name": NAME,
        "image": injection.image,
        **({"imagePullPolicy": injection.image_pull_policy} if injection.image_pull_policy else {}),
        **({"restartPolicy": "Always"} if sidecar else {}),
        "args": _arguments(injection),
        "env": _environment(injection),
        **({"startupProbe": _startup_probe(injection)} if sidecar else {}),
        "resources": _resources(injection),
        "securityContext": {
            "runAsNonRoot": True,
            **({"runAsUser": user[0]} if user else {}),
            **({"runAsGroup": user[1]} if user and user[1] is not None else {}),
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": NAME, "mountPath": injection.mount_path},
            *([{"name": CA, "mountPath": CA_PATH, "readOnly": True}] if injection.ca_config_map else []),
            *([{"name": CONFIG, "mountPath": CONFIG_PATH, "readOnly": True}] if injection.config else []),
            {"name": VAULT_TOKEN, "mountPath": VAULT_TOKEN_PATH, "readOnly": True},
            *([{"name": TOKEN, "mountPath": TOKEN_PATH, "readOnly": True}] if token else []),
        ],
    }


def volumes(injection: Injection, token: bool) -> list[Object]:
    """Return the volumes; arguments as of `container`."""
    return [
        {"name": NAME, "emptyDir": {"medium": "Memory", "sizeLimit": SIZE}},
        *([{"name": CA, "configMap": {"name": injection.ca_config_map}}] if injection.ca_config_map else []),
        *([{"name": CONFIG, "configMap": {"name": injection.config}}] if injection.config else []),
        {"name": VAULT_TOKEN, "projected": {"sources": [{"serviceAccountToken": _vault_token(injection)}]}},
        *([_token_volume()] if token else []),
    ]


def mount(injection: Injection) -> Object:
    """Return the mount of the values in a container of the workload's."""
    return {"name": NAME, "mountPath": injection.mount_path, "readOnly": True}


def program(mount_path: str = MOUNT_PATH) -> str:
    """Return the path of the program that a command begins with, for "exec"."""
    return f"{mount_path}/{EXEC}"


def _resources(injection: Injection) -> Object:
    """Return the resources; a default is moved, where it would be a request above its limit."""
    configured = {kind: injection.resources.get(kind, {}) for kind in RESOURCE_KINDS}
    resources = {kind: {**RESOURCES[kind], **configured[kind]} for kind in RESOURCE_KINDS}
    requests, limits = (resources[kind] for kind in RESOURCE_KINDS)
    for name, limit in limits.items():
        request = requests.get(name)
        if request and limit and quantity(request) > quantity(limit):
            if name in configured["limits"]:
                requests[name] = limit
            else:
                limits[name] = request
    for kind, amounts in resources.items():
        resources[kind] = {name: amount for name, amount in amounts.items() if amount}
    return {kind: amounts for kind, amounts in resources.items() if amounts}


def _arguments(injection: Injection) -> list[str]:
    return [
        "files",
        f"--to={injection.mount_path}",
        *(f"--secret=$(POD_NAMESPACE)/{secret}" for secret in injection.secrets),
        *([f"--config={CONFIG_PATH}/files.yaml"] if injection.config else []),
        *{"init": [], "sidecar": ["--watch"], "exec": ["--exec"]}[injection.way],
        *injection.arguments,
    ]


def _environment(injection: Injection) -> list[Object]:
    variables = {
        "VAULT_ADDR": injection.vault_url,
        **({"VAULT_CACERT": f"{CA_PATH}/ca.crt"} if injection.ca_config_map else {}),
        "KUBEVAULT_AUTH_METHOD": "kubernetes",
        "KUBEVAULT_ROLE": injection.role,
        **injection.environment,
    }
    # kubelet knows the pod's namespace, the manifest not always.
    namespace = {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}
    return [namespace, *({"name": name, "value": value} for name, value in variables.items())]


def _startup_probe(injection: Injection) -> Object:
    """Return the probe for which the containers of the workload wait: the values are there.

    It does not limit the time, which ``kubevault files --wait`` does.
    """
    command = ["kubevault", "ready", injection.mount_path]
    return {"exec": {"command": command}, "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 2**31 - 1}


def _vault_token(injection: Injection) -> Object:
    """Return what kubelet renews: a token that serves at Vault alone, bound to the pod, so that it ends with that."""
    audience = injection.argument("--audience") or "vault"
    return {"audience": audience, "expirationSeconds": 600, "path": "vault-token"}


def _token_volume() -> Object:
    """Return what Kubernetes mounts itself unless ``automountServiceAccountToken`` is false."""
    return {
        "name": TOKEN,
        "projected": {
            "sources": [
                {"serviceAccountToken": {"path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ]
        },
    }
