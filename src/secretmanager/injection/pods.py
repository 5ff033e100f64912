"""Manifests of workloads with one of the ways in them, and without it again. Nothing that is given is changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import ConfigError
from ..sealed import SECRETS_ANNOTATION
from . import container as ours
from .container import Object
from .options import Injection
from .references import arguments, references, refusal, restore, rewrite
from .secrets import sealed_keys

INJECTED_ANNOTATION = "kubevault.io/injected"
"""Annotation of a workload: the way, and what of ours cannot be told from the workload's own by its name:

``fsGroup`` if the pod's is ours, ``command/CONTAINER`` if the container's manifest had no command, ``empty/FIELD`` if
it had the field, but nothing in it.
"""

REPLACED_ANNOTATION = "kubevault.io/replaced"
"""Annotation of a workload: the references to Secrets that were rewritten, as JSON."""

_TEMPLATES = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
_GROUPS = {"Pod": "", "Job": "batch", "CronJob": "batch"}

KINDS = tuple(_TEMPLATES)
"""Kinds of workloads."""


def is_workload(manifest: Any) -> bool:
    """Return whether a manifest is that of a workload, of which `KINDS` names the kinds."""
    kind = manifest.get("kind") if isinstance(manifest, Mapping) else None
    group, _, version = str(manifest.get("apiVersion")).rpartition("/") if kind else ("", "", "")
    return isinstance(kind, str) and kind in _TEMPLATES and bool(version) and group == _GROUPS.get(kind, "apps")


def name_of(manifest: Mapping[str, Any]) -> str:
    """Return ``KIND/NAME`` of a manifest."""
    metadata = manifest.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    return f"{manifest.get('kind')}/{metadata.get('name') or metadata.get('generateName') or ''}"


def injected(manifest: Mapping[str, Any], injection: Injection, secrets: Sequence[Mapping[str, Any]] = ()) -> Object:
    """Return the manifest of a workload with a way of delivery in it; one that is there already is replaced.

    Args:
        manifest: as Kubernetes takes it.
        injection: what is to be injected.
        secrets: manifests of Secrets that are at hand, which may be those that are delivered.

    Raises:
        ConfigError: the manifest is not a workload's, or something in it is in the way; or no program could open one of
            the Secrets there; names it.
    """
    before = _Workload(_copied(manifest))
    before.check_free()
    before.restore_references()
    workload = _Workload(removed(manifest))
    workload.add(injection, before, secrets)
    return workload.manifest


def service_account_of(manifest: Mapping[str, Any]) -> str:
    """Return the name of the service account of a workload's pods.

    Raises:
        ConfigError: the manifest is not a workload's.
    """
    pod = _Workload(dict(manifest)).pod
    return str(pod.get("serviceAccountName") or pod.get("serviceAccount") or "default")


def removed(manifest: Mapping[str, Any]) -> Object:
    """Return the manifest of a workload without what `injected` added to it.

    Raises:
        ConfigError: the manifest is not a workload's.
    """
    workload = _Workload(_copied(manifest))
    if workload.words is not None:
        workload.remove(workload.words)
    return workload.manifest


class _Workload:
    """A manifest, and the parts of it that are changed here."""

    def __init__(self, manifest: Object) -> None:
        self.manifest = manifest
        self.name = name_of(manifest)
        if not is_workload(manifest):
            raise ConfigError(f"{self.name}: is not a workload; allowed are {', '.join(KINDS)}")
        template: Any = manifest
        for key in _TEMPLATES[manifest["kind"]]:
            template = template.get(key) if isinstance(template, dict) else None
        self.pod: Object = template.get("spec") if isinstance(template, dict) else None  # type: ignore[assignment]
        if not isinstance(self.pod, dict) or not isinstance(manifest.get("metadata"), dict):
            raise ConfigError(f"{self.name}: has no metadata or no pod's spec")
        for field in ("containers", "initContainers", "volumes"):
            entries = self.pod.get(field) or []
            if not isinstance(entries, list) or not all(
                isinstance(item, dict) and item.get("name") for item in entries
            ):
                raise ConfigError(f"{self.name}: {field} should be a list of objects that have names")
        if not self.pod.get("containers"):
            raise ConfigError(f"{self.name}: has no containers")
        annotations = manifest["metadata"].get("annotations") or {}
        text = annotations.get(INJECTED_ANNOTATION)
        self.words = None if text is None else str(text).split()

    def check_free(self) -> None:
        """Check that nobody else uses our names."""
        if self.words is not None:
            return
        for field, names in (("containers", (ours.NAME,)), ("initContainers", (ours.NAME,)), ("volumes", ours.VOLUMES)):
            for item in self.pod.get(field) or []:
                if item["name"] in names:
                    raise ConfigError(
                        f"{self.name}: {item['name']!r} in {field} was not put there by kubevault inject",
                        remedy="rename or remove it",
                    )

    def add(self, injection: Injection, before: _Workload, secrets: Sequence[Mapping[str, Any]]) -> None:
        """Add a way to a manifest that has none; in lists, at the place where ``before`` has ours."""
        words: list[str] = [injection.way]
        selected = self._selected(injection)
        try:
            sealed = sealed_keys(injection.names, self.manifest["metadata"].get("namespace"), secrets)
            handed_over = [] if injection.references == "keep" else references(self.pod, sealed)
            if handed_over and injection.references == "refuse":
                raise refusal(handed_over)
            file_arguments = arguments(self.pod, handed_over, injection, {item["name"] for item in selected})
            injection = replace(injection, arguments=(*injection.arguments, *file_arguments))
        except ConfigError as error:
            raise ConfigError(f"{self.name}: {error.message}", remedy=error.remedy) from None
        token = self.pod.get("automountServiceAccountToken") is False
        user = None
        if injection.platform != "openshift":
            user = _user(self.pod, selected, injection.user)
            context = self.pod.get("securityContext") or {}
            if user is None and "fsGroup" not in context:
                _filled(self.pod, "securityContext", {}, words)["fsGroup"] = ours.GROUP
                words.append("fsGroup")
            if user is None and context.get("runAsUser") == 0:
                user = ours.USER, ours.USER

        items = _filled(self.pod, "initContainers", [], words)
        _put(items, before.pod.get("initContainers"), ours.container(injection, user, token), default=0)
        items = _filled(self.pod, "volumes", [], words)
        for volume in ours.volumes(injection, token):
            _put(items, before.pod.get("volumes"), volume)
        for item in selected:
            mounts = _filled(item, "volumeMounts", [], words, f"{item['name']}.")
            for each in mounts:
                if each.get("mountPath") == injection.mount_path:
                    raise ConfigError(
                        f"{self.name}: container {item['name']!r} has {injection.mount_path} mounted already",
                        remedy="give another mount_path",
                    )
            previous_mounts = next(
                (each.get("volumeMounts") for each in before.containers() if each["name"] == item["name"]), None
            )
            _put(mounts, previous_mounts, ours.mount(injection))
            if injection.way == "exec":
                self._prefix(item, injection, len(selected), words)

        rewrite(self.pod, handed_over, injection)
        annotations = _filled(self.manifest["metadata"], "annotations", {}, words)
        annotations[SECRETS_ANNOTATION] = ",".join(injection.names)
        annotations[INJECTED_ANNOTATION] = " ".join(words)
        if handed_over:
            facts = [reference.facts() for reference in handed_over]
            annotations[REPLACED_ANNOTATION] = json.dumps(facts, separators=(",", ":"))

    def restore_references(self) -> None:
        """Put back what was rewritten."""
        annotations = self.manifest["metadata"].get("annotations") or {}
        text = annotations.pop(REPLACED_ANNOTATION, None)
        if text is not None:
            try:
                restore(self.pod, json.loads(text))
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
                raise ConfigError(
                    f"{self.name}: annotation {REPLACED_ANNOTATION} was not written by kubevault inject",
                    remedy="remove it, and write the references to Secrets that it stands for by hand",
                ) from None

    def remove(self, words: list[str]) -> None:
        """Remove a way."""
        self.restore_references()
        for field, names in (("initContainers", (ours.NAME,)), ("volumes", ours.VOLUMES)):
            _take(self.pod, field, names, words)
        for item in self.containers():
            _take(item, "volumeMounts", ours.VOLUMES, words, f"{item['name']}.")
            command = item.get("command")
            if isinstance(command, list) and command and str(command[0]).endswith(f"/{ours.EXEC}"):
                item["command"] = command[1:]
                if f"command/{item['name']}" in words:
                    del item["command"]
        if "fsGroup" in words:
            context = self.pod.get("securityContext") or {}
            context.pop("fsGroup", None)
            _prune(self.pod, "securityContext", words)
        metadata = self.manifest["metadata"]
        for annotation in (SECRETS_ANNOTATION, INJECTED_ANNOTATION):
            metadata["annotations"].pop(annotation, None)
        _prune(metadata, "annotations", words)

    def containers(self) -> Iterator[Object]:
        """Yield the workload's containers, and its init containers after them."""
        yield from self.pod["containers"]
        yield from self.pod.get("initContainers") or []

    def _selected(self, injection: Injection) -> list[Object]:
        if not injection.containers:
            return list(self.pod["containers"])
        containers = {item["name"]: item for item in self.containers()}
        for name in injection.containers:
            if name not in containers:
                raise ConfigError(f"{self.name}: there is no container {name!r}; it has {', '.join(containers)}")
        return [containers[name] for name in dict.fromkeys(injection.containers)]

    def _prefix(self, item: Object, injection: Injection, count: int, words: list[str]) -> None:
        name, command = item["name"], item.get("command")
        if not command:
            configured = injection.command.get(name) or (injection.command.get("") if count == 1 else None)
            if not configured:
                raise ConfigError(
                    f"{self.name}: container {name!r} has no command, and its image's entry point is not in here",
                    remedy="name its command with --command (option command), or others with --container (containers)",
                )
            command = list(configured)
            words.append(f"command/{name}")
        item["command"] = [ours.program(injection.mount_path), *command]


def _copied(value: Any) -> Any:
    """Return a copy in which no two places share an object, as they do after an alias of YAML."""
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _user(pod: Object, selected: list[Object], default_user: int | None) -> tuple[int, int | None] | None:
    """Return user and group that own the values; None if a group, the pod's fsGroup, has to read them.

    One user's programs read their own files; programs of different users, or of one that only the image knows, need a
    group that they share.
    """
    context = pod.get("securityContext") or {}
    if "fsGroup" in context:
        return None
    owners = {
        (own.get("runAsUser", context.get("runAsUser", default_user)), own.get("runAsGroup", context.get("runAsGroup")))
        for own in (item.get("securityContext") or {} for item in selected)
    }
    ((user, group), *other_owners) = owners
    return None if other_owners or not user else (user, group)


def _filled(parent: Object, field: str, empty: Any, words: list[str], prefix: str = "") -> Any:
    """Return the collection in a field, which is created if it is missing, and noted if it is empty."""
    if field in parent and not parent[field]:
        words.append(f"empty/{prefix}{field}")
    if not parent.get(field):
        parent[field] = empty
    return parent[field]


def _put(items: list[Object], before: list[Object] | None, item: Object, default: int | None = None) -> None:
    """Put an item into a list: where one of its name was before, else at the default place, else at the end."""
    names = [each.get("name") for each in before or []]
    default = len(items) if default is None else default
    items.insert(names.index(item["name"]) if item["name"] in names else default, item)


def _take(parent: Object, field: str, names: tuple[str, ...], words: list[str], prefix: str = "") -> None:
    """Take the items of these names out of a list."""
    if parent.get(field):
        parent[field] = [item for item in parent[field] if item.get("name") not in names]
        _prune(parent, field, words, prefix)


def _prune(parent: Object, field: str, words: list[str], prefix: str = "") -> None:
    """Remove a field that is empty, unless it was empty before."""
    if not parent[field] and f"empty/{prefix}{field}" not in words:
        del parent[field]
