"""How far the rollout of a workload is, as ``kubectl rollout status`` says it, and what hangs.

Source: ``polymorphichelpers/rollout_status.go`` of k8s.io/kubectl.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..errors import Forbidden
from ..sealed import STAMP_ANNOTATION
from ..sealing.plan import Object
from ..servers.kubernetes import KubernetesClient
from .workloads import Workload

TOLD = 5
"""How many pods or events are quoted."""


class Rollout(NamedTuple):
    """How far a rollout is: whether it is ``done``, whether Kubernetes gave it up (``failed``), and in words."""

    done: bool
    failed: bool
    text: str


def rollout(kind: str, definition: Mapping[str, Any]) -> Rollout:
    """Return how far the rollout of a workload is."""
    status, spec = definition.get("status") or {}, definition["spec"]
    if status.get("observedGeneration", 0) < definition["metadata"]["generation"]:
        return Rollout(done=False, failed=False, text="its controller has not seen the change yet")
    if (condition := _condition(definition, "Progressing")) and condition.get("reason") == "ProgressDeadlineExceeded":
        return Rollout(done=False, failed=True, text=str(condition.get("message") or "its progress deadline is over"))
    if kind == "DaemonSet":
        replicas = status.get("desiredNumberScheduled", 0)
        updated, available = status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0)
        old = 0
    else:
        replicas = spec.get("replicas", 1)
        updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
        old = max(status.get("replicas", 0) - updated, 0) if kind == "Deployment" else 0
    if kind == "StatefulSet":
        new_replicas = max(replicas - _partition(spec), 0)
        is_new = bool(_partition(spec)) or status.get("updateRevision") == status.get("currentRevision")
        complete = updated >= new_replicas and available >= replicas and (is_new or updated >= replicas)
    else:
        new_replicas = replicas
        complete = updated >= replicas and available >= replicas and not old
    parts = [f"{updated} of {new_replicas} pods updated", f"{available} of {replicas} available"]
    parts += [f"{old} old still running"] if old else []
    return Rollout(done=complete, failed=False, text=", ".join(parts))


def hanging(kubernetes: KubernetesClient, workload: Workload, definition: Object) -> Iterator[str]:
    """Yield what keeps a rollout: conditions, containers that wait, pods that nobody schedules or creates.

    Args:
        kubernetes: client that may list pods and events of the namespace; if not, that is said.
        workload: the workload.
        definition: as the API returns it.
    """
    if (condition := _condition(definition, "ReplicaFailure")) and condition.get("status") == "True":
        yield f"{condition.get('reason')}: {condition.get('message')}"
    try:
        pods = list(kubernetes.list_objects("pods", workload.namespace, selector(definition["spec"]["selector"])))
        ours = [pod for pod in pods if _stamp(pod["metadata"]) == _stamp(definition["spec"]["template"]["metadata"])]
        for pod in ours[:TOLD]:
            yield from (f"pod {pod['metadata']['name']}: {text}" for text in waiting(pod))
        if not ours and not condition:
            yield from _failed_creations(kubernetes, workload)
    except Forbidden as error:
        yield f"the reason is not known, since RBAC does not grant to list pods and events ({error.message})"


def waiting(pod: Mapping[str, Any]) -> Iterator[str]:
    """Yield why a pod is not ready."""
    status = pod.get("status") or {}
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    explained = False
    for container in statuses:
        state = (container.get("state") or {}).get("waiting") or {}
        if state.get("reason") in (None, "PodInitializing", "ContainerCreating"):
            continue
        explained = True
        last = (container.get("lastState") or {}).get("terminated") or {}
        message = last.get("message") or state.get("message")
        yield f"container {container['name']}: {state['reason']}" + (f": {message}" if message else "")
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    if not explained and conditions.get("Ready", {}).get("status") != "True":
        scheduled = conditions.get("PodScheduled") or {}
        why = scheduled if scheduled.get("status") == "False" else conditions.get("Ready") or {}
        text = ": ".join(filter(None, (why.get("reason"), why.get("message"))))
        yield text or f"{status.get('phase', 'Pending')}, and no node has taken it"


def selector(rules: Mapping[str, Any]) -> str:
    """Return a label selector as text.

    Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
    """
    parts = [f"{key}={value}" for key, value in (rules.get("matchLabels") or {}).items()]
    for rule in rules.get("matchExpressions") or ():
        key, values = rule["key"], ",".join(rule.get("values") or ())
        parts.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": key,
                "DoesNotExist": f"!{key}",
            }[rule["operator"]]
        )
    return ",".join(parts)


def _failed_creations(kubernetes: KubernetesClient, workload: Workload) -> Iterator[str]:
    """Yield what kept the pods from being created; a Deployment's are created by its ReplicaSets."""
    events = kubernetes.list_objects("events", workload.namespace, field_selector="reason=FailedCreate")
    creators = {"Deployment": "ReplicaSet"}
    messages: dict[str, None] = {}
    for event in events:
        involved = event["involvedObject"]
        kind = creators.get(workload.kind, workload.kind)
        if involved.get("kind") == kind and str(involved.get("name", "")).startswith(workload.name):
            messages[f"FailedCreate: {event.get('message')}"] = None
    yield from list(messages)[-TOLD:]


def _condition(definition: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition["type"] == kind), None)


def _partition(spec: Mapping[str, Any]) -> int:
    return int(((spec.get("updateStrategy") or {}).get("rollingUpdate") or {}).get("partition") or 0)


def _stamp(metadata: Mapping[str, Any]) -> str | None:
    return (metadata.get("annotations") or {}).get(STAMP_ANNOTATION)
