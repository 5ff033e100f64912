"""Which RBAC objects an inventory no longer wants; on a cluster: tests/integration/site/test_narrowing.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from secretmanager.admin.rbac import removable, title
from secretmanager.errors import ConfigError

OWNER = "shop"
OURS = {"app.kubernetes.io/managed-by": "kubevault", "kubevault.io/owner": OWNER}
OTHERS = {**OURS, "kubevault.io/owner": "another"}
SHARED = {"app.kubernetes.io/managed-by": "kubevault"}
WORKLOAD = {"role": "rotator", "namespace": "kubevault", "service_account": "rotator"}
SUBJECT = {"kind": "ServiceAccount", "namespace": "kubevault", "name": "rotator"}

Object = dict[str, Any]


def item(kind: str, name: str, labels: dict[str, str] | None = None, **more: Any) -> Object:
    namespace = {} if kind.startswith("Cluster") else {"namespace": "kubevault"}
    return {"kind": kind, "metadata": {"name": name, **namespace, "labels": labels}, **more}


def binding(
    name: str, labels: dict[str, str] | None, role: str = "ClusterRole kubevault:rotator", *subjects: Object
) -> Object:
    kind, _, granted = role.partition(" ")
    return item(
        "ClusterRoleBinding", name, labels, roleRef={"kind": kind, "name": granted}, subjects=subjects or [SUBJECT]
    )


def titles(live: Sequence[Object], wanted: Sequence[Object] = (), *, everything: bool = False) -> list[str]:
    found = removable(live, wanted, [WORKLOAD], OWNER, everything=everything)
    assert all(each["apiVersion"] == "rbac.authorization.k8s.io/v1" for each in found)
    return [title(each) for each in found]


def test_what_is_labelled_and_not_wanted_goes_and_bindings_go_first() -> None:
    live = [item(kind, "kubevault:a", OURS) for kind in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")]
    expected = ["ClusterRoleBinding kubevault:a", "RoleBinding kubevault/kubevault:a", "Role kubevault/kubevault:a"]
    assert titles(live) == expected, "and no ClusterRole but the shared ones"
    assert titles(live, live) == []
    assert titles(live, live, everything=True) == expected


@pytest.mark.parametrize(
    "live",
    [
        item("Role", "kubevault:a"),
        item("Role", "kubevault:a", {}),
        item("Role", "kubevault:a", SHARED),
        item("Role", "kubevault:a", {"kubevault.io/owner": OWNER}),
        item("Role", "kubevault:a", OTHERS),
        item("Role", "a-copy", OURS),
        item("Role", "kubevault:rotator"),
        item("ClusterRole", "kubevault:rotator"),
        item("ClusterRole", "kubevault:other", SHARED),
    ],
    ids=str,
)
def test_what_others_made_stays(live: Object) -> None:
    assert titles([live]) == []
    assert titles([live], everything=True) == []


@pytest.mark.parametrize(
    ("live", "ours"),
    [
        (binding("kubevault:rotator:rotator", None), True),
        (binding("kubevault:rotator:rotator", {}), True),
        (binding("kubevault:rotator:retirer", None, "ClusterRole kubevault:retirer"), True),
        (binding("kubevault:rotator:rotator", {"app": "theirs"}), False),
        (binding("kubevault:other:rotator", None), False),
        (binding("kubevault:rotator:rotator", None, "ClusterRole kubevault:retirer"), False),
        (binding("kubevault:rotator:rotator", None, "ClusterRole cluster-admin"), False),
        (binding("kubevault:rotator:rotator", None, "Role kubevault:rotator"), False),
        (binding("kubevault:rotator:rotator", None, "ClusterRole kubevault:rotator", SUBJECT, SUBJECT), False),
        (
            binding(
                "kubevault:rotator:rotator", None, "ClusterRole kubevault:rotator", {**SUBJECT, "namespace": "other"}
            ),
            False,
        ),
        (
            binding("kubevault:rotator:rotator", None, "ClusterRole kubevault:rotator", {**SUBJECT, "kind": "User"}),
            False,
        ),
    ],
)
def test_a_binding_of_an_older_version_goes_if_it_is_exactly_as_that_wrote_it(live: Object, ours: bool) -> None:
    assert titles([live]) == [title(live)] * ours
    assert titles([live], [live]) == []


def test_a_shared_role_goes_with_the_last_binding_of_anybody() -> None:
    role = item("ClusterRole", "kubevault:rotator", SHARED)
    last = binding("kubevault:gone:rotator", OURS)
    assert titles([role]) == ["ClusterRole kubevault:rotator"]
    assert titles([role, last]) == [title(last), "ClusterRole kubevault:rotator"]
    assert titles([role, last], [role]) == [title(last)]
    for other in (binding("kubevault:x:rotator", OTHERS), binding("theirs", None)):
        assert titles([role, last, other]) == [title(last)]
        assert titles([role, last, other], [role], everything=True) == [title(last)]
    namesake = binding("kubevault:x", OTHERS, "Role kubevault:rotator")
    assert titles([role, namesake]) == ["ClusterRole kubevault:rotator"], "a Role of a workload that is named rotator"


def test_what_belongs_to_another_owner_is_an_error() -> None:
    wanted = item("Role", "kubevault:rotator", OURS)
    live = item("Role", "kubevault:rotator", OTHERS)
    said = "kubevault: Role kubevault:rotator belongs to the owner another, and this inventory is shop; .* another$"
    for everything in (False, True):
        with pytest.raises(ConfigError, match=said):
            titles([live], [wanted], everything=everything)


@pytest.mark.parametrize("owner", ["", "a b", "a/b", "-a", "a" * 64, "a,b=c", "a\n"])
def test_an_owner_is_a_value_of_a_label(owner: str) -> None:
    with pytest.raises(ConfigError, match=r"owner .* is not allowed"):
        removable([], [], [], owner)
