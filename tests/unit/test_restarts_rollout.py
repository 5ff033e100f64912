"""How far a rollout is, by what the API says, and what keeps a pod."""

from __future__ import annotations

from typing import Any

import pytest

from secretmanager.restarts.rollout import Rollout, rollout, selector, waiting


def found(spec: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {"metadata": {"generation": 2}, "spec": spec, "status": {"observedGeneration": 2, **status}}


THREE = {"replicas": 3}
DONE = {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}
REVISIONS = {"currentRevision": "a", "updateRevision": "b"}


@pytest.mark.parametrize(
    ("kind", "workload", "done", "text"),
    [
        ("Deployment", found(THREE, **DONE), True, "3 of 3 pods updated, 3 of 3 available"),
        (
            "Deployment",
            found(THREE, **DONE | {"observedGeneration": 1}),
            False,
            "its controller has not seen the change yet",
        ),
        ("Deployment", found(THREE), False, "0 of 3 pods updated, 0 of 3 available"),
        (
            "Deployment",
            found(THREE, **DONE | {"replicas": 4}),
            False,
            "3 of 3 pods updated, 3 of 3 available, 1 old still running",
        ),
        ("Deployment", found(THREE, **DONE | {"availableReplicas": 2}), False, "3 of 3 pods updated, 2 of 3 available"),
        ("Deployment", found({"replicas": 0}), True, "0 of 0 pods updated, 0 of 0 available"),
        (
            "StatefulSet",
            found(THREE, **DONE, currentRevision="b", updateRevision="b"),
            True,
            "3 of 3 pods updated, 3 of 3 available",
        ),
        (
            "StatefulSet",
            found(THREE, **DONE | {"updatedReplicas": 1}, **REVISIONS),
            False,
            "1 of 3 pods updated, 3 of 3 available",
        ),
        (
            "StatefulSet",
            found(
                THREE | {"updateStrategy": {"rollingUpdate": {"partition": 2}}},
                **DONE | {"updatedReplicas": 1},
                **REVISIONS,
            ),
            True,
            "1 of 1 pods updated, 3 of 3 available",
        ),
        (
            "DaemonSet",
            found({}, desiredNumberScheduled=2, updatedNumberScheduled=1, numberAvailable=2),
            False,
            "1 of 2 pods updated, 2 of 2 available",
        ),
        (
            "DaemonSet",
            found({}, desiredNumberScheduled=2, updatedNumberScheduled=2, numberAvailable=2),
            True,
            "2 of 2 pods updated, 2 of 2 available",
        ),
        ("DaemonSet", found({}, desiredNumberScheduled=0), True, "0 of 0 pods updated, 0 of 0 available"),
    ],
)
def test_how_far(kind: str, workload: dict[str, Any], done: bool, text: str) -> None:
    assert rollout(kind, workload) == Rollout(done=done, failed=False, text=text)


def test_a_rollout_that_kubernetes_gave_up() -> None:
    condition = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
    workload = found(THREE, conditions=[condition])
    assert rollout("Deployment", workload) == Rollout(done=False, failed=True, text="timed out")


NOT_READY = {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "unready: [app]"}


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (
            {"containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "ErrImagePull", "message": "x"}}}]},
            ["container app: ErrImagePull: x"],
        ),
        (
            {
                "initContainerStatuses": [
                    {
                        "name": "kubevault",
                        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
                        "lastState": {"terminated": {"message": "Vault is sealed"}},
                    }
                ],
                "containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "PodInitializing"}}}],
            },
            ["container kubevault: CrashLoopBackOff: Vault is sealed"],
        ),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1"}]},
            ["Unschedulable: 0/1"],
        ),
        (
            {"containerStatuses": [{"name": "app", "state": {"running": {}}}], "conditions": [NOT_READY]},
            ["ContainersNotReady: unready: [app]"],
        ),
        ({"phase": "Pending"}, ["Pending, and no node has taken it"]),
        ({"conditions": [{"type": "Ready", "status": "True"}]}, []),
    ],
)
def test_what_keeps_a_pod(status: dict[str, Any], told: list[str]) -> None:
    assert list(waiting({"metadata": {"name": "it"}, "status": status})) == told


def test_selectors() -> None:
    rules = [
        {"key": "a", "operator": "In", "values": ["x", "y"]},
        {"key": "b", "operator": "NotIn", "values": ["z"]},
        {"key": "c", "operator": "Exists"},
        {"key": "d", "operator": "DoesNotExist"},
    ]
    text = selector({"matchLabels": {"app": "shop"}, "matchExpressions": rules})
    assert text == "app=shop,a in (x,y),b notin (z),c,!d"
