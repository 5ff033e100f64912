"""Workloads that read Secrets, and the stamps on their pod templates, as pure functions.

A stamp says for which values the pods were started: by Secret, its `values_digest`, in one annotation of the pod
template: ``kubevault.io/digest: database=5f0c...,token=91ab...``. A change of it has Kubernetes replace the pods, as
``kubectl rollout restart`` does. Each run writes the entries of its own Secrets, so runs with different Secrets of one
workload leave each other's entries alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ..sealed import SECRETS_ANNOTATION, STAMP_ANNOTATION
from ..sealing.plan import Object, Outcome
from ..sealing.spec import ANNOTATED, WORKLOAD_KINDS, SecretSpec, State
from ..servers.kubernetes import FIELD_MANAGER, Resource

TEMPLATE_ANNOTATIONS = ("spec", "template", "metadata", "annotations")
"""Where a workload has the annotations of its pods."""

APPLIERS = ("argocd-controller", "helm", "helm-controller", "kubectl-client-side-apply")
"""Field managers that put back what their manifests say, although Kubernetes notes it as an ``Update``: client-side
apply of Argo CD and kubectl, and Helm's three-way merge.
"""


@dataclass(frozen=True, order=True)
class Workload:
    """A Deployment, StatefulSet or DaemonSet."""

    namespace: str
    kind: str
    name: str

    def __str__(self) -> str:
        """Return it as errors name it."""
        return f"{self.kind} {self.namespace}/{self.name}"

    @property
    def resource(self) -> Resource:
        """What the API calls its kind."""
        return cast("Resource", WORKLOAD_KINDS[self.kind])


@dataclass(frozen=True)
class Restart:
    """A workload that was, or in check mode would be, restarted.

    Attributes:
        workload: the workload.
        secrets: those of its Secrets whose values are others than its pods were started for.
    """

    workload: Workload
    secrets: tuple[str, ...]

    def __str__(self) -> str:
        """Return what the command prints."""
        return f"{self.workload}: restarted for {', '.join(self.secrets)}"

    def diff(self) -> dict[str, Any]:
        """Return what Ansible's ``--diff`` shows: the Secrets whose entries in the stamp change."""
        return {
            "before_header": str(self.workload),
            "after_header": f"{self.workload} (restarted)",
            "before": {},
            "after": {STAMP_ANNOTATION: dict.fromkeys(self.secrets, "another value")},
        }

    def facts(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        workload = self.workload
        return {
            "namespace": workload.namespace,
            "kind": workload.kind,
            "name": workload.name,
            "secrets": list(self.secrets),
        }


Targets = Mapping[Workload, set[str]]
"""By workload, the names of the Secrets that it is restarted for."""


def named(specs: Sequence[SecretSpec]) -> dict[Workload, set[str]]:
    """Return the workloads that Secrets name. A Secret that is to be deleted restarts nothing."""
    secrets_by_workload: dict[Workload, set[str]] = {}
    for spec in specs:
        for text in spec.restart if spec.state is State.PRESENT else ():
            if text != ANNOTATED:
                secrets_by_workload.setdefault(Workload(spec.namespace, *text.split("/")), set()).add(spec.name)
    return secrets_by_workload


def asking(specs: Sequence[SecretSpec]) -> dict[str, set[str]]:
    """Return by namespace the Secrets whose workloads are found by their annotation."""
    names_by_namespace: dict[str, set[str]] = {}
    for spec in specs:
        if ANNOTATED in spec.restart and spec.state is State.PRESENT:
            names_by_namespace.setdefault(spec.namespace, set()).add(spec.name)
    return names_by_namespace


def annotated(definition: Mapping[str, Any]) -> set[str]:
    """Return the Secrets that a workload's annotation names."""
    annotations = definition["metadata"].get("annotations") or {}
    return {name.strip() for name in str(annotations.get(SECRETS_ANNOTATION, "")).split(",")} - {""}


def digests(outcomes: Iterable[Outcome]) -> dict[tuple[str, str], str]:
    """Return the `values_digest` of sealed Secrets, by namespace and name."""
    return {(outcome.namespace, outcome.name): outcome.digest for outcome in outcomes if outcome.digest is not None}


def stamps(definition: Mapping[str, Any]) -> dict[str, str]:
    """Return the entries of a workload's stamp, by Secret."""
    annotations: Any = definition
    for name in TEMPLATE_ANNOTATIONS:
        annotations = annotations.get(name) or {}
    parts = [part.partition("=") for part in str(annotations.get(STAMP_ANNOTATION, "")).split(",")]
    return {name: digest for name, equals, digest in parts if equals}


def outdated(definition: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, str]:
    """Return those of the wanted entries that a workload's stamp lacks or has otherwise."""
    return dict(sorted(digests.items() - stamps(definition).items()))


def stamp(definition: Mapping[str, Any], entries: Mapping[str, str]) -> str:
    """Return the text of a workload's stamp with other entries; those of other Secrets stay."""
    return ",".join(f"{name}={digest}" for name, digest in sorted({**stamps(definition), **entries}.items()))


def patch(text: str) -> Object:
    """Return the fields of a workload that hold its stamp."""
    return {"spec": {"template": {"metadata": {"annotations": {STAMP_ANNOTATION: text}}}}}


def owner(definition: Mapping[str, Any]) -> str | None:
    """Return who applies a manifest with the stamp in it, and would put that back; None if nobody does.

    Who merely wrote it, as ``kubectl rollout undo``, ``edit`` or a restored backup do, leaves a later one alone.

    Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
    """
    for entry in definition["metadata"].get("managedFields") or ():
        manager = str(entry.get("manager"))
        applies = entry.get("operation") == "Apply" or manager in APPLIERS
        fields = entry.get("fieldsV1") or {}
        for name in TEMPLATE_ANNOTATIONS:
            fields = fields.get(f"f:{name}") or {}
        if f"f:{STAMP_ANNOTATION}" in fields and applies and manager != FIELD_MANAGER:
            return manager
    return None


def hold(definition: Mapping[str, Any]) -> str | None:
    """Say why Kubernetes does not replace the pods of a workload, although its template changes; None if it does."""
    spec = definition["spec"]
    if spec.get("paused"):
        return "it is paused, so its pods are replaced when it is resumed (kubectl rollout resume)"
    if (spec.get("updateStrategy") or {}).get("type") == "OnDelete":
        return "its update strategy is OnDelete, so each pod is replaced when somebody deletes it"
    return None
