#!/usr/bin/python
# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: which RBAC objects an inventory made and no longer wants."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubevault_rbac_info
short_description: Report which RBAC objects of an inventory are to be removed
version_added: "0.1.0"
author: KUBEVAULT (@kubevault)
description:
  - Compares the Roles, ClusterRoles and their bindings in the cluster that have the labels of an inventory with those that it
    yields, and returns the others. The role workload-rbac removes them.
  - An object is the inventory's if it has the labels C(app.kubernetes.io/managed-by=kubevault) and C(kubevault.io/owner) with the
    value of O(owner).
  - A binding without any label, which an older version made, counts as the inventory's if its name, its role and its only subject
    are those of one of the O(workloads) that rotates or retires.
  - The ClusterRoles C(kubevault:rotator) and C(kubevault:retirer) serve all inventories of a cluster. They are returned if nobody is
    bound to them.
  - It changes nothing.
options:
  owner:
    description: Value of the inventory's label C(kubevault.io/owner).
    type: str
    required: true
  workloads:
    description: The inventory's workloads, each with C(role), C(namespace) and C(service_account).
    type: list
    elements: dict
    required: true
  definitions:
    description:
      - What the inventory yields. Objects of other kinds are left out.
      - It is an error if one of them has the label of another owner.
    type: list
    elements: dict
    required: true
  everything:
    description: Whether what the inventory yields is to be removed too.
    type: bool
    default: false
extends_documentation_fragment:
  - kubevault.core.kubevault_kubernetes
attributes:
  check_mode:
    description: It changes nothing.
    support: full
notes:
  - The caller needs C(list) of these four kinds in all namespaces.
"""

EXAMPLES = r"""
- name: What nobody in the inventory is granted any more
  kubevault.core.kubevault_rbac_info:
    owner: kubevault
    workloads: "{{ workload_rbac_workloads }}"
    definitions: "{{ lookup('ansible.builtin.template', 'workloads.yml.j2') | from_yaml_all }}"
  register: rbac
"""

RETURN = r"""
removable:
  description: What is to be removed, each as M(kubernetes.core.k8s) takes it.
  returned: success
  type: list
  elements: dict
  sample:
    - apiVersion: rbac.authorization.k8s.io/v1
      kind: RoleBinding
      metadata:
        name: kubevault:shop
        namespace: shop
titles:
  description: The same for people.
  returned: success
  type: list
  elements: str
  sample: [RoleBinding shop/kubevault:shop]
"""

from ..module_utils.kubevault import connect_to_kubernetes, require
from ..module_utils.kubevault_arguments import Module
from ..module_utils.kubevault_options import KUBERNETES_OPTIONS
from ..module_utils.kubevault_results import guarded


@guarded
def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec={
            "owner": {"type": "str", "required": True},
            "workloads": {"type": "list", "elements": "dict", "required": True},
            "definitions": {"type": "list", "elements": "dict", "required": True},
            "everything": {"type": "bool", "default": False},
            **KUBERNETES_OPTIONS,
        },
        supports_check_mode=True,
    )
    try:
        from secretmanager.admin.rbac import rbac_objects, removable, title
        from secretmanager.errors import SecretManagerError
    except ImportError as error:
        require(module, "kubevault", error)

    params = module.params
    try:
        live = rbac_objects(connect_to_kubernetes(module))
        superfluous = removable(
            live, params["definitions"], params["workloads"], params["owner"], everything=params["everything"]
        )
    except SecretManagerError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, removable=superfluous, titles=[title(each) for each in superfluous])


if __name__ == "__main__":
    main()
