#!/usr/bin/python
# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the nodes of a Vault cluster with Raft storage."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_raft_peers
short_description: Remove nodes from a Vault cluster that do not belong to it any more
version_added: "0.1.0"
author: KUBEVAULT (@kubevault)
description:
  - Removes each node of a cluster with Raft storage that is not in O(nodes), if autopilot does not call it healthy. A healthy one is
    kept, with a warning. Stop it first.
  - Nothing is removed if the healthy nodes of O(nodes) would not be a majority of those that are left.
options:
  nodes:
    description: Names (C(node_id)) of the nodes that belong to the cluster, whether they are healthy or not.
    type: list
    elements: str
    required: true
extends_documentation_fragment:
  - kubevault.core.kubevault_vault.connection
  - kubevault.core.kubevault_vault.login
attributes:
  check_mode:
    description: Writes nothing, and reports what a run would change.
    support: full
  diff_mode:
    description: Shows the names of the nodes.
    support: full
seealso:
  - module: kubevault.core.vault_node
"""

EXAMPLES = r"""
- name: Remove the nodes that left the inventory
  kubevault.core.vault_raft_peers:
    vault_url: https://vault-1.example.org:8200,https://vault-2.example.org:8200
    vault_ca_cert: pki/ca.crt
    vault_token_file: secrets/vault-operator-token
    nodes: "{{ groups['vault'] }}"
"""

RETURN = r"""
removed:
  description: Nodes that were removed, or in check mode would be.
  returned: success
  type: list
  elements: str
alive:
  description: Nodes that are not in O(nodes), but are healthy.
  returned: success
  type: list
  elements: str
"""

from ..module_utils.kubevault import logged_in_vault, require
from ..module_utils.kubevault_arguments import Module
from ..module_utils.kubevault_options import VAULT_OPTIONS
from ..module_utils.kubevault_results import guarded, warn


@guarded
def main() -> None:
    module = Module(
        argument_spec={"nodes": {"type": "list", "elements": "str", "required": True}, **VAULT_OPTIONS},
        supports_check_mode=True,
    )
    try:
        from secretmanager.admin.cluster import remove_peers
        from secretmanager.admin.connection import Vault
        from secretmanager.errors import SecretManagerError
    except ImportError as error:
        require(module, "kubevault", error)

    try:
        with logged_in_vault(module) as client:
            removal = remove_peers(Vault(client), module.params["nodes"], check=module.check_mode)
    except SecretManagerError as error:
        module.fail_json(msg=str(error))
    for name in removal.alive:
        warn(module, f"{name} is not in nodes, but it is a healthy node of the cluster: stop it, and run this again")
    diff = {"before": {"nodes": removal.before}, "after": {"nodes": removal.after}}
    module.exit_json(changed=bool(removal.removed), removed=removal.removed, alive=removal.alive, diff=diff)


if __name__ == "__main__":
    main()
