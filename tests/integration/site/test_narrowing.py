"""What workload-rbac takes off again, once the inventory says less; on the lab's Kubernetes."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config
from support.ansible import Ansible, Run
from support.lab import Lab
from support.servers import wait_until

from secretmanager.admin.rbac import KINDS, title
from secretmanager.errors import Forbidden

Workload = dict[str, Any]

DELETE = {
    "ClusterRoleBinding": "delete_cluster_role_binding",
    "ClusterRole": "delete_cluster_role",
    "RoleBinding": "delete_namespaced_role_binding",
    "Role": "delete_namespaced_role",
}
"""Methods of the official client."""


@dataclass(frozen=True)
class Inventory:
    """Workloads of a namespace of their own, whose names begin with its name; and the role that sets them up."""

    lab: Lab
    ansible: Ansible
    name: str

    def workload(self, role: str, **more: Any) -> Workload:
        """Return a workload with a service account of its role's name."""
        return {"role": f"{self.name}-{role}", "service_account": role, "namespace": self.name, **more}

    def run(
        self,
        workloads: Sequence[Workload],
        *arguments: str,
        owner: str | None = None,
        tasks_from: str = "main",
        fails: bool = False,
    ) -> Run:
        """Run the role with an inventory of these workloads."""
        variables = {"workload_rbac_workloads": list(workloads), "workload_rbac_owner": owner or self.name}
        role = {"name": "workload-rbac", "tasks_from": tasks_from}
        task = {"ansible.builtin.include_role": role, "vars": variables}
        environment = {"K8S_AUTH_KUBECONFIG": self.lab.env["KUBECONFIG"]}
        return self.ansible.play({"block": [task], "environment": environment}, arguments=arguments, fails=fails)

    @property
    def rbac(self) -> client.RbacAuthorizationV1Api:
        """The official client, as the cluster's administrator."""
        return client.RbacAuthorizationV1Api(config.new_client_from_config(self.lab.env["KUBECONFIG"]))

    def objects(self) -> dict[str, Any]:
        """Return the RBAC objects of this inventory's names, by their titles with NAME for the inventory's."""
        return {
            title({**item, "kind": kind}).replace(self.name, "NAME"): item
            for kind, resource in KINDS.items()
            for item in self.lab.operator().list_objects(resource)
            if item["metadata"]["name"].startswith(f"kubevault:{self.name}")
        }

    def lists_all_secrets(self, account: str) -> bool:
        """Whether a service account may list the Secrets of all namespaces."""
        try:
            list(self.lab.workload(self.name, account).list_secrets())
        except Forbidden:
            return False
        return True

    def removed(self, run: Run) -> set[str]:
        """Return the titles of what a run says that it removes, or would remove."""
        told = re.findall(r"^TASK \[workload-rbac : Remove [^:]+: (.*)\]", run.output, re.MULTILINE)
        return {each.replace(self.name, "NAME") for line in told for each in line.split(", ")}


@pytest.fixture
def inventory(lab: Lab, tmp_path: Path) -> Iterator[Inventory]:
    inventory = Inventory(lab, Ansible(tmp_path), f"narrowing-{uuid.uuid4().hex[:8]}")
    yield inventory
    for kind, item in ((each.split()[0], item) for each, item in inventory.objects().items()):
        delete = getattr(inventory.rbac, DELETE[kind])
        delete(*(item["metadata"][field] for field in ("name", "namespace") if field in item["metadata"]))


def test_a_rotator_that_is_narrowed_to_a_namespace_lists_the_secrets_of_no_other(inventory: Inventory) -> None:
    rotator = inventory.workload("rotator", rotates=["aes256-key"], namespaces=["*"])
    inventory.run([rotator])
    wait_until("the right", lambda: inventory.lists_all_secrets("rotator"))

    narrowed = [{**rotator, "namespaces": [inventory.name]}]
    foretold = inventory.run(narrowed, "--check", "--diff")
    assert inventory.lists_all_secrets("rotator"), "check mode changes nothing"
    done = inventory.run(narrowed, "--diff")
    wait_until("the end of the right", lambda: not inventory.lists_all_secrets("rotator"))
    assert list(inventory.lab.workload(inventory.name, "rotator").list_secrets(inventory.name)) == []

    binding = "ClusterRoleBinding kubevault:NAME-rotator:rotator"
    assert inventory.removed(foretold) == inventory.removed(done) == {binding}
    assert foretold.changed == done.changed == 2
    line = f"-{binding.replace('NAME', inventory.name)}"
    assert line in foretold.output.splitlines()
    assert line in done.output.splitlines()
    assert inventory.run(narrowed).changed == 0


def test_what_the_inventory_no_longer_yields_goes_and_what_others_made_stays(inventory: Inventory) -> None:
    kept = inventory.workload("kept", secrets=["database"], restarts=["Deployment/shop"], restart_wait=True)
    rotator = inventory.workload("rotator", rotates=["aes256-key"], namespaces=[inventory.name, f"{inventory.name}-b"])
    older = inventory.workload("older", rotates=["aes256-key"], retires=["aes256-key"], namespaces=["*"])
    gone = inventory.workload("gone", secrets=["database"])
    inventory.run([kept, rotator, older, gone])
    before = inventory.objects()
    without_labels(inventory, {key: item for key, item in before.items() if "-older" in key})
    foreign = add_foreign(inventory)

    narrowed = [
        inventory.workload("kept"),
        {**rotator, "namespaces": [inventory.name]},
        {**older, "retires": [], "namespaces": [inventory.name]},
    ]
    foretold = inventory.run(narrowed, "--check")
    done = inventory.run(narrowed)
    removed = {
        "ClusterRoleBinding kubevault:NAME-older:retirer",
        "ClusterRoleBinding kubevault:NAME-older:rotator",
        "RoleBinding NAME-b/kubevault:NAME-rotator:rotator",
        "RoleBinding NAME/kubevault:NAME-gone",
        "Role NAME/kubevault:NAME-gone",
    }
    assert inventory.removed(foretold) == inventory.removed(done) == removed
    assert foretold.changed == done.changed == 2
    after = inventory.objects()
    assert before.keys() - after.keys() == removed
    assert after.keys() - before.keys() == {*foreign, "RoleBinding NAME/kubevault:NAME-older:rotator"}
    assert {key: after[key] for key in foreign} == foreign
    owned = {"app.kubernetes.io/managed-by": "kubevault", "kubevault.io/owner": inventory.name}
    assert all(item["metadata"]["labels"] == owned for key, item in after.items() if key not in foreign)
    assert before["Role NAME/kubevault:NAME-kept"]["rules"]
    assert not after["Role NAME/kubevault:NAME-kept"]["rules"]
    assert inventory.run(narrowed).changed == 0

    refused = inventory.run(narrowed[:1], owner="another", fails=True)
    assert f"belongs to the owner {inventory.name}, and this inventory is another" in " ".join(refused.output.split())
    assert "'a b' is not allowed" in inventory.run(narrowed[:1], owner="a b", fails=True).output

    empty = inventory.run([])
    assert empty.changed == 0
    assert "workload_rbac_workloads is empty, which removes nothing" in empty.output
    assert inventory.objects() == after

    foretold = inventory.run(narrowed[:1], "--check", tasks_from="remove")
    assert foretold.changed == inventory.run(narrowed[:1], tasks_from="remove").changed == 1
    assert inventory.objects() == foreign
    assert inventory.run(narrowed[:1], tasks_from="remove").changed == 0


def without_labels(inventory: Inventory, items: Mapping[str, Any]) -> None:
    """Take the labels off, as an older version made these objects."""
    for each, item in items.items():
        item["metadata"]["labels"] = {}
        name, *namespace = (item["metadata"][field] for field in ("name", "namespace") if field in item["metadata"])
        getattr(inventory.rbac, DELETE[each.split()[0]].replace("delete", "replace"))(name, *namespace, item)


def add_foreign(inventory: Inventory) -> dict[str, Any]:
    """Make what is not this inventory's, though its names are: by hand, or of another inventory; return it."""
    space, rbac = inventory.name, inventory.rbac
    of_another = {"app.kubernetes.io/managed-by": "kubevault", "kubevault.io/owner": "another"}
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}
    by_hand: dict[str, dict[str, str]] = {"by-hand": {}, "of-helm": {"app.kubernetes.io/managed-by": "kubevault"}}
    before = inventory.objects()
    for name, labels in {**by_hand, "of-another": of_another}.items():
        metadata = {"name": f"kubevault:{space}-{name}", "labels": labels}
        rbac.create_namespaced_role(space, {"metadata": metadata, "rules": [rule]})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "kubevault:retirer"}
    # A name as ours, for a workload of ours; but somebody else is bound.
    subject = {"kind": "ServiceAccount", "name": "other", "namespace": space}
    metadata = {"name": f"kubevault:{space}-rotator:retirer"}
    rbac.create_namespaced_role_binding(space, {"metadata": metadata, "roleRef": reference, "subjects": [subject]})
    return {key: item for key, item in inventory.objects().items() if key not in before}
