#!/usr/bin/python
# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: Vault as it was in a snapshot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_restore
short_description: Restore Vault from a snapshot
version_added: "0.1.0"
author: KUBEVAULT (@kubevault)
description:
  - Brings Vault with Raft storage back as it was in a snapshot, and unseals it. All that Vault holds is overwritten.
  - A Vault that is not initialised is initialised with temporary keys first. If the module was interrupted, run it again.
  - The plaintext of the snapshot goes to Vault through a pipe, and to no file.
options:
  snapshot:
    description: File of the snapshot.
    type: path
    required: true
  decrypt:
    description: Program and arguments that decrypt their standard input, such as C([age, --decrypt, --identity, FILE]).
    type: list
    elements: str
    default: []
  keys_file:
    description: File with the unseal keys of the Vault in the snapshot, as M(kubevault.core.vault_init) writes it.
    type: path
    required: true
  nodes:
    description:
      - Addresses of all nodes of the cluster. The first one is restored; the others join it later, and must not be initialised.
      - If Vault is initialised, the one that leads is restored, and the others follow it.
    type: list
    elements: str
    required: true
  temporary_file:
    description: Path with which the names of the files begin that hold the temporary keys and token, until the end. Its folder must exist.
    type: path
    required: true
  note_file:
    description:
      - File to which the module writes which snapshot it restores. Its folder must exist.
      - While it is there, and O(privileged_token_file) is not, this snapshot is not restored again. So what follows this module can be
        interrupted, and all be run again. Delete it in the end.
    type: path
    required: true
  privileged_token_file:
    description:
      - File with a token of C(vault operator generate-root), with which a Vault that is initialised is overwritten.
      - It is deleted in the end if the snapshot does not have this token.
    type: path
    required: true
  timeout:
    description: How long to wait for each step, in seconds.
    type: float
    default: 300.0
notes:
  - Restart Vault on all nodes afterwards, and unseal it. Where its seal opens by itself, it goes on with the certificates for Raft that it had
    before, and other nodes cannot join (U(https://github.com/hashicorp/vault/issues/31742)).
extends_documentation_fragment:
  - kubevault.core.kubevault_vault.connection
attributes:
  check_mode:
    description: Writes nothing; checks the files and the nodes.
    support: full
  diff_mode:
    description: Shows nothing.
    support: none
seealso:
  - module: kubevault.core.vault_init
"""

EXAMPLES = r"""
- name: Restore Vault
  kubevault.core.vault_restore:
    vault_ca_cert: pki/ca.crt
    nodes: [https://vault-1.example.org:8200, https://vault-2.example.org:8200, https://vault-3.example.org:8200]
    snapshot: vault-20260101T024300Z.snap.age
    decrypt: [age, --decrypt, --identity, backup.key]
    keys_file: secrets/vault-unseal-keys.json
    temporary_file: secrets/vault-restore
    note_file: secrets/vault-restore-snapshot
    privileged_token_file: secrets/vault-root-token
"""

RETURN = r"""
"""

from pathlib import Path

from ..module_utils.kubevault import administer_vault, require
from ..module_utils.kubevault_arguments import Module
from ..module_utils.kubevault_options import VAULT_CONNECTION_OPTIONS
from ..module_utils.kubevault_results import guarded, warn


@guarded
def main() -> None:
    module = Module(
        argument_spec={
            "snapshot": {"type": "path", "required": True},
            "decrypt": {"type": "list", "elements": "str", "default": []},
            # no_log false: paths. Ansible would otherwise warn of their names.
            "keys_file": {"type": "path", "required": True, "no_log": False},
            "nodes": {"type": "list", "elements": "str", "required": True},
            "temporary_file": {"type": "path", "required": True},
            "note_file": {"type": "path", "required": True},
            "privileged_token_file": {"type": "path", "required": True, "no_log": False},
            "timeout": {"type": "float", "default": 300.0},
            **VAULT_CONNECTION_OPTIONS,
        },
        supports_check_mode=True,
    )
    try:
        from secretmanager.admin.restoration import Snapshot, restore
        from secretmanager.errors import SecretManagerError
    except ImportError as error:
        require(module, "kubevault", error)

    params = module.params
    try:
        changed = restore(
            lambda url, token: administer_vault(module, token=token, retries=0, url=url),
            params["nodes"],
            Snapshot(Path(params["snapshot"]), params["decrypt"]),
            params["keys_file"],
            temporary_file=params["temporary_file"],
            note_file=params["note_file"],
            privileged_token_file=params["privileged_token_file"],
            timeout=params["timeout"],
            check=module.check_mode,
        )
    except SecretManagerError as error:
        module.fail_json(msg=str(error))
    if not changed:
        warn(
            module,
            f"Vault is not overwritten again: {params['note_file']} says that this snapshot was restored. To lose what Vault"
            f" got since, put a privileged token into {params['privileged_token_file']}.",
        )
    module.exit_json(changed=changed)


if __name__ == "__main__":
    main()
