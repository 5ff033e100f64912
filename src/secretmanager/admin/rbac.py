"""Which RBAC objects of a cluster an inventory made and no longer wants, for the role workload-rbac.

An object is an inventory's if it has the labels `MANAGED_LABEL` and `OWNER_LABEL`, the latter with the inventory's own
value. Two inventories in one cluster leave each other's alone by that.

Sources: https://kubernetes.io/docs/reference/access-authn-authz/rbac/ and
https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import ConfigError
from ..names import QUALIFIED
from ..servers.kubernetes import KubernetesClient, Object, Resource

MANAGED_LABEL = "app.kubernetes.io/managed-by"
MANAGER = "kubevault"
OWNER_LABEL = "kubevault.io/owner"

KINDS: Mapping[str, Resource] = {
    "ClusterRoleBinding": "clusterrolebindings",
    "RoleBinding": "rolebindings",
    "Role": "roles",
    "ClusterRole": "clusterroles",
}
"""The kinds of RBAC, and their resources; in the order of removal, so that a right ends with the first of them."""

SHARED = ("kubevault:rotator", "kubevault:retirer")
"""ClusterRoles that all inventories of a cluster bind. They grant nothing but where they are bound."""

Key = tuple[str, str, str]
"""Kind, namespace and name of an object; of one of the cluster, the namespace is empty."""


def rbac_objects(kubernetes: KubernetesClient) -> list[Object]:
    """Return all RBAC objects of a cluster, each with its kind.

    Raises:
        Forbidden: RBAC lacks ``list`` of one of the kinds, in all namespaces.
        KubernetesUnavailable: the API cannot be reached.
    """
    return [{**item, "kind": kind} for kind, resource in KINDS.items() for item in kubernetes.list_objects(resource)]


def removable(
    live: Iterable[Mapping[str, Any]],
    wanted: Sequence[Mapping[str, Any]],
    workloads: Sequence[Mapping[str, Any]],
    owner: str,
    *,
    everything: bool = False,
) -> list[Object]:
    """Return what of an inventory is to be removed, in the order of `KINDS`.

    That is what has its labels and is not wanted. A binding without labels, which an older version made, counts as the
    inventory's if it is exactly as that version wrote it for a workload of the inventory (see `_is_former`). One of the
    `SHARED` ClusterRoles is removed if nobody of any inventory is bound to it.

    Args:
        live: the RBAC objects of the cluster, as `rbac_objects` returns them.
        wanted: what the inventory yields; objects of other kinds are left out.
        workloads: the inventory's workloads, each with ``role``, ``namespace`` and ``service_account``.
        owner: the inventory's value of the label `OWNER_LABEL`.
        everything: whether what it yields is to be removed too.

    Returns:
        ``apiVersion``, ``kind``, and ``metadata`` with name and namespace of each.

    Raises:
        ConfigError: the owner is no value of a label, or something that is wanted belongs to another owner.
    """
    if not QUALIFIED.allows(owner):
        raise ConfigError(QUALIFIED.refusal("owner", owner), remedy="set workload_rbac_owner, or kubevault_owner")
    objects = {_key(each): each for each in live}
    owners = {key: _owner(each) for key, each in objects.items()}
    yielded = {_key(each) for each in wanted if each["kind"] in KINDS}
    _check_owners({key: owners.get(key) for key in sorted(yielded)}, owner)
    kept = set() if everything else yielded
    removed = {
        key
        for key in objects.keys() - kept
        if key[0] != "ClusterRole"
        if owners[key] == owner or (owners[key] is None and (key in yielded or _is_former(objects[key], workloads)))
    }
    bound = {_cluster_role(each) for key, each in objects.items() if key not in removed}
    removed |= {
        key
        for key in (("ClusterRole", "", name) for name in SHARED if name not in bound)
        if key in objects and key not in kept and (_is_managed(objects[key]) or key in yielded)
    }
    return [_named(objects[key]) for key in sorted(removed, key=lambda key: (list(KINDS).index(key[0]), key))]


def title(item: Mapping[str, Any]) -> str:
    """Return how an object is named to people: its kind, its namespace if it is in one, and its name."""
    kind, namespace, name = _key(item)
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


def _check_owners(owners: Mapping[Key, str | None], owner: str) -> None:
    for (kind, namespace, name), other in owners.items():
        if other not in (None, owner):
            raise ConfigError(
                f"{kind} {name} belongs to the owner {other}, and this inventory is {owner}",
                place=namespace or None,
                remedy=f"give the workload another role; or, if it is the same inventory, set kubevault_owner: {other}",
            )


def _is_managed(item: Mapping[str, Any]) -> bool:
    return (item["metadata"].get("labels") or {}).get(MANAGED_LABEL) == MANAGER


def _owner(item: Mapping[str, Any]) -> str | None:
    """Return the inventory that an object is of; None if it is of none, as a copy under another name."""
    ours = _is_managed(item) and item["metadata"]["name"].startswith(f"{MANAGER}:")
    return item["metadata"]["labels"].get(OWNER_LABEL) if ours else None


def _is_former(item: Mapping[str, Any], workloads: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an object is a binding as an older version wrote it, of a workload to one of the shared ClusterRoles.

    Its name is of the workload's role, it grants our role to the workload's service account, and to nobody else.
    """
    name = item["metadata"]["name"]
    subjects = [(each["kind"], each.get("namespace"), each["name"]) for each in item.get("subjects") or ()]
    return not item["metadata"].get("labels") and any(
        name == f"{MANAGER}:{workload['role']}:{shared.partition(':')[2]}"
        and _cluster_role(item) == shared
        and subjects == [("ServiceAccount", workload["namespace"], workload["service_account"])]
        for workload in workloads
        for shared in SHARED
    )


def _cluster_role(item: Mapping[str, Any]) -> str | None:
    """Return the name of the ClusterRole that a binding grants; None if it grants none, or is no binding."""
    reference = item.get("roleRef") or {}
    return reference.get("name") if reference.get("kind") == "ClusterRole" else None


def _key(item: Mapping[str, Any]) -> Key:
    metadata = item["metadata"]
    return str(item["kind"]), str(metadata.get("namespace") or ""), str(metadata["name"])


def _named(item: Mapping[str, Any]) -> Object:
    kind, namespace, name = _key(item)
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata}
