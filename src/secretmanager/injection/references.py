"""Where a pod gets a Secret from Kubernetes itself, which hands its programs ciphertext; and the way in place of that.

Sources: https://kubernetes.io/docs/concepts/configuration/secret/#using-a-secret,
https://kubernetes.io/docs/concepts/storage/projected-volumes/
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from ..names import VARIABLE, variable_of
from . import container as ours
from .container import Object
from .options import Injection

_HOOKS = ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle")
"""Fields of a container that may run programs beside its own."""


@dataclass(frozen=True)
class Reference:
    """An item in a list of a pod's spec.

    Attributes:
        field: the list: ``volumes``, ``containers/NAME/env`` and so on.
        index: where it is in the list.
        item: the item.
        secret: name of the Secret.
        keys: the data keys that are handed over; None for all.
        what: what it is, for errors.
    """

    field: str
    index: int
    item: Object
    secret: str
    keys: frozenset[str] | None
    what: str

    @property
    def container(self) -> str | None:
        """Name of its container; None if it is the whole pod's."""
        return self.field.split("/")[1] if "/" in self.field else None

    def facts(self) -> dict[str, Any]:
        """Return what `restore` needs, as a JSON object."""
        return {"field": self.field, "index": self.index, "item": self.item}


def references(pod: Object, sealed: Mapping[str, Collection[str] | None]) -> list[Reference]:
    """Return the references to sealed Secrets in a pod's spec without our container.

    Args:
        pod: the spec.
        sealed: by the name of each Secret its sealed data keys; None if they are not known, so that all count.
    """
    return [
        reference for reference in _all_references(pod) if reference.secret in sealed and _counts(reference, sealed)
    ]


def refusal(secret_references: Sequence[Reference]) -> ConfigError:
    """Return the error for references that are to be refused."""
    texts = [reference.what for reference in secret_references if not reference.field.endswith("/volumeMounts")]
    return ConfigError(
        f"{'; '.join(texts)}: Kubernetes would hand over ciphertext",
        remedy="take that out, or have it rewritten (option references, --references: rewrite; or keep, where the data"
        " keys are not sealed)",
    )


def arguments(
    pod: Object, secret_references: Sequence[Reference], injection: Injection, containers: Collection[str]
) -> tuple[str, ...]:
    """Return the arguments that ``kubevault files`` needs if the way is to stand in the place of references.

    Args:
        pod: the spec.
        secret_references: its references.
        injection: the way.
        containers: names of the containers that get the values.

    Raises:
        ConfigError: the way cannot do what a reference does.
    """
    if problems := [
        f"{each.what} ({why})" for each in secret_references if (why := _obstacle(each, pod, injection, containers))
    ]:
        raise ConfigError(
            f"cannot be rewritten: {'; '.join(problems)}", remedy="take that out, and change the program or the way"
        )
    variables: dict[str, str] = {}
    for reference in secret_references:
        if reference.field.endswith("/env"):
            name, (key,) = reference.item["name"], reference.keys or ("",)
            if variables.setdefault(name, key) != key:
                raise ConfigError(
                    f"cannot be rewritten: variable {name} is {variables[name]} in one container, {key} in another",
                    remedy="inject into one of them alone (--container)",
                )
    prefix = injection.argument("--env-prefix") or ""
    delivered = {key: variable_of(prefix + key) for key in variables.values()}
    return tuple(f"--variable={name}={key}" for name, key in variables.items() if name != delivered[key])


def rewrite(pod: Object, secret_references: Sequence[Reference], injection: Injection) -> None:
    """Put the way in the place of references.

    Args:
        pod: the spec, in which our container is already; it is changed.
        secret_references: its references, as they were before.
        injection: the way, with the `arguments` for them.
    """
    for reference in reversed(secret_references):
        field = reference.field.rpartition("/")[2]
        parent = _parent(pod, reference.field)
        items = parent[field]
        at = items.index(reference.item)
        if field == "volumeMounts":
            location = {name: value for name, value in reference.item.items() if name in ("mountPath", "subPath")}
            items[at] = {**ours.mount(injection), **location}
        else:
            del items[at]
            if not items:
                del parent[field]


def restore(pod: Object, facts: Sequence[Mapping[str, Any]]) -> None:
    """Put references back, in a pod's spec in which our container still is.

    Args:
        pod: the spec, which is changed.
        facts: `Reference.facts` of each.
    """
    for reference in facts:
        field, item = reference["field"], reference["item"]
        items = _parent(pod, field).setdefault(field.rpartition("/")[2], [])
        mounts = [
            each for each in items if each.get("name") == ours.NAME and each.get("mountPath") == item.get("mountPath")
        ]
        if field.endswith("/volumeMounts") and mounts:
            items[items.index(mounts[0])] = item
        else:
            items.insert(_position(items, reference["index"]), item)


def _position(items: Sequence[Object], index: int) -> int:
    """Return where in a list an item belongs that was at an index before our items were there."""
    foreign = [at for at, item in enumerate(items) if item.get("name") not in ours.VOLUMES]
    if index < len(foreign):
        return foreign[index]
    return foreign[-1] + 1 if foreign else 0


def _parent(pod: Object, field: str) -> Object:
    """Return what has a list that `Reference.field` names: the pod, or a container; an empty object if it is gone."""
    if "/" not in field:
        return pod
    kind, name, _ = field.split("/")
    return next((each for each in pod.get(kind) or [] if each["name"] == name), {})


def _counts(reference: Reference, sealed: Mapping[str, Collection[str] | None]) -> bool:
    keys = sealed[reference.secret]
    return keys is None or reference.keys is None or not reference.keys.isdisjoint(keys)


def _all_references(pod: Object) -> Iterator[Reference]:
    name: Any
    volumes: dict[str, tuple[str, frozenset[str] | None]] = {}
    for index, volume in enumerate(pod.get("volumes") or []):
        for name, source in _secrets_of(volume):
            keys = frozenset(str(item.get("key")) for item in source.get("items") or []) or None
            volumes[volume["name"]] = name, keys
            yield Reference("volumes", index, volume, name, keys, f"volume {volume['name']!r} of Secret {name}")
    for index, entry in enumerate(pod.get("imagePullSecrets") or []):
        if name := entry.get("name"):
            yield Reference("imagePullSecrets", index, entry, name, None, f"imagePullSecrets with Secret {name}")
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in pod.get(kind) or []:
            yield from _references_of_container(f"{kind}/{container['name']}", container, volumes)


def _references_of_container(
    field: str, container: Object, volumes: Mapping[str, tuple[str, frozenset[str] | None]]
) -> Iterator[Reference]:
    """Yield the references of a container.

    Args:
        field: where it is in the pod.
        container: its definition.
        volumes: name and data keys of the Secrets that are volumes of the pod, by the names of the volumes.
    """
    name: Any
    description = f"container {container['name']!r}"
    for index, variable in enumerate(container.get("env") or []):
        source = (variable.get("valueFrom") or {}).get("secretKeyRef") or {}
        if name := source.get("name"):
            what = f"{description}: variable {variable.get('name')} of Secret {name} (secretKeyRef)"
            yield Reference(f"{field}/env", index, variable, name, frozenset({str(source.get("key"))}), what)
    for index, entry in enumerate(container.get("envFrom") or []):
        if name := (entry.get("secretRef") or {}).get("name"):
            what = f"{description}: variables of Secret {name} (envFrom)"
            yield Reference(f"{field}/envFrom", index, entry, name, None, what)
    for index, mount in enumerate(container.get("volumeMounts") or []):
        if mount.get("name") in volumes:
            name, keys = volumes[mount["name"]]
            what = f"{description}: {mount.get('mountPath')} of Secret {name}"
            yield Reference(f"{field}/volumeMounts", index, mount, name, keys, what)


def _secrets_of(volume: Object) -> Iterator[tuple[str, Object]]:
    """Yield the Secrets of a volume by name, with what the volume says of them; drivers have them by other fields."""
    for source in filter(lambda value: isinstance(value, dict), volume.values()):
        references = (source.get(field) or {} for field in ("secretRef", "nodePublishSecretRef"))
        for name in (source.get("secretName"), *(reference.get("name") for reference in references)):
            if name:
                yield name, source
    for source in (volume.get("projected") or {}).get("sources") or []:
        if name := (source.get("secret") or {}).get("name"):
            yield name, source["secret"]


def _obstacle(reference: Reference, pod: Object, injection: Injection, containers: Collection[str]) -> str | None:
    """Say why a way cannot stand in the place of a reference; None if it can."""
    kind = reference.field.rpartition("/")[2]
    if reference.container is not None and reference.container not in containers:
        return "this container does not get the values"
    if reference.secret not in injection.secrets:
        return "only a data key of that Secret is delivered"
    if kind == "imagePullSecrets":
        return "kubelet reads it"
    if kind in ("env", "envFrom"):
        return _obstacle_of_variables(reference, _parent(pod, reference.field), injection, whole=kind == "envFrom")
    return _obstacle_of_files(reference, injection, kind)


def _obstacle_of_variables(reference: Reference, container: Object, injection: Injection, *, whole: bool) -> str | None:
    """As `_obstacle`, for one variable, or for a whole Secret as variables."""
    if injection.way != "exec":
        return "variables are delivered with exec"
    if whole and (reference.item.get("prefix") or "") != (injection.argument("--env-prefix") or ""):
        return "its prefix is not that of --env-prefix"
    if not whole and not VARIABLE.fullmatch(reference.item["name"]):
        return "its name has other characters than letters, digits and '_'"
    text = json.dumps(container)
    if whole and "$(" in text:
        return "the manifest uses $(...), which Kubernetes replaces before the program starts"
    if any("exec" in json.dumps(container.get(hook)) for hook in _HOOKS):
        return "its probes or hooks run programs, which would not get it"
    if not whole and f"$({reference.item['name']})" in text:
        return f"the manifest uses $({reference.item['name']}), which Kubernetes replaces before the program starts"
    return None


def _obstacle_of_files(reference: Reference, injection: Injection, kind: str) -> str | None:
    """As `_obstacle`, for a volume or its mount."""
    if injection.config:
        return "files.yaml names the files"
    if injection.way == "exec":
        return "files are delivered with init and sidecar"
    if kind == "volumes" and "projected" in reference.item:
        return "a projected volume has other sources too"
    if kind == "volumes" and "secret" not in reference.item:
        return "its driver reads it"
    if kind == "volumes" and reference.item["secret"].get("items"):
        return "it renames data keys (items)"
    if kind == "volumeMounts" and reference.item.get("subPathExpr"):
        return "subPathExpr"
    return None
