#!/usr/bin/python
# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: one node of a Vault cluster, before and after its restart."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_node
short_description: Wait for a node of a Vault cluster, or take leadership from it
version_added: "0.1.0"
author: KUBEVAULT (@kubevault)
description:
  - What a restart of one node after the other needs, so that the cluster serves all the time.
options:
  state:
    description:
      - With V(healthy), waits until the node serves and has all that the leader has, and autopilot calls all nodes of the cluster healthy.
      - With V(standby), the node steps down if it leads, and another one leads afterwards. The only node of a cluster goes on.
    type: str
    choices: [healthy, standby]
    required: true
  timeout:
    description: How long to wait for each step, in seconds. Check mode does not wait.
    type: float
    default: 60.0
extends_documentation_fragment:
  - kubevault.core.kubevault_vault.connection
  - kubevault.core.kubevault_vault.login
attributes:
  check_mode:
    description: Writes nothing, and reports what a run would change.
    support: full
  diff_mode:
    description: Shows nothing.
    support: none
seealso:
  - module: kubevault.core.vault_init
  - module: kubevault.core.vault_raft_peers
"""

EXAMPLES = r"""
- name: Have another node lead
  kubevault.core.vault_node:
    vault_url: https://vault-1.example.org:8200
    vault_ca_cert: pki/ca.crt
    vault_token_file: secrets/vault-operator-token
    state: standby
"""

RETURN = r"""
leads:
  description: Whether the node leads, or in check mode would.
  returned: success
  type: bool
"""

from ..module_utils.kubevault import logged_in_vault, require
from ..module_utils.kubevault_arguments import Module
from ..module_utils.kubevault_options import VAULT_OPTIONS
from ..module_utils.kubevault_results import guarded


@guarded
def main() -> None:
    module = Module(
        argument_spec={
            "state": {"type": "str", "choices": ["healthy", "standby"], "required": True},
            "timeout": {"type": "float", "default": 60.0},
            **VAULT_OPTIONS,
        },
        supports_check_mode=True,
    )
    try:
        from secretmanager.admin.cluster import await_healthy, ensure_standby, leads
        from secretmanager.admin.connection import Vault
        from secretmanager.errors import SecretManagerError
    except ImportError as error:
        require(module, "kubevault", error)

    timeout = 0.0 if module.check_mode else module.params["timeout"]
    changed = False
    try:
        with logged_in_vault(module) as client:
            vault = Vault(client)
            if module.params["state"] == "healthy":
                await_healthy(vault, timeout)
            else:
                changed = ensure_standby(vault, timeout, check=module.check_mode)
            leading = leads(vault) and not changed
    except SecretManagerError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, leads=leading)


if __name__ == "__main__":
    main()
