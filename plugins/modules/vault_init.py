#!/usr/bin/python
# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: Vault initialised once, and unsealed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_init
short_description: Initialise Vault once, and unseal it
version_added: "0.1.0"
author: KUBEVAULT (@kubevault)
description:
  - Initialises Vault if it is not initialised, and writes its unseal keys and its root token to files of mode 0600. They do not
    appear anywhere else, at any verbosity.
  - Unseals Vault if it is sealed, with the keys in that file, and waits until it serves requests.
  - A Vault that is initialised and unsealed is not changed.
  - Of a cluster, run it for each node at the same time, with O(cluster).
  - A Vault with a seal that opens by itself, such as C(transit), gets recovery keys instead of unseal keys, with the same options.
options:
  key_shares:
    description: Number of unseal keys, or of recovery keys, into which the root key is split.
    type: int
    default: 1
  key_threshold:
    description: Number of unseal keys that are needed to unseal Vault.
    type: int
    default: 1
  keys_file:
    description: File for the unseal keys. Its folder must exist.
    type: path
    required: true
  root_token_file:
    description: File for the root token. Its folder must exist.
    type: path
    required: true
  cluster:
    description:
      - Addresses of all nodes of a cluster with Raft storage that join each other by C(retry_join). The first one is initialised, and only if
        no node is. The others wait until they have joined.
    type: list
    elements: str
    default: []
  migrate:
    description: Unseal so that Vault changes its seal to the one of its configuration. Without it, such a Vault is an error.
    type: bool
    default: false
  pgp_keys:
    description: Public keys in base64, one for each share, that encrypt the unseal keys. Vault then stays sealed after it was initialised.
    type: list
    elements: str
    default: []
  timeout:
    description: How long to wait for Vault's listener, and then for each further step, in seconds. Check mode does not wait.
    type: float
    default: 60.0
extends_documentation_fragment:
  - kubevault.core.kubevault_vault.connection
attributes:
  check_mode:
    description: Writes nothing, and reports what a run would change.
    support: full
  diff_mode:
    description: Shows whether Vault is initialised and sealed, and the type of its seal.
    support: full
seealso:
  - module: kubevault.core.vault_token
"""

EXAMPLES = r"""
- name: Initialise Vault once, and unseal it
  kubevault.core.vault_init:
    vault_url: https://vault.example.org:8200
    vault_ca_cert: pki/ca.crt
    key_shares: 5
    key_threshold: 3
    keys_file: secrets/vault-unseal-keys.json
    root_token_file: secrets/vault-root-token
"""

RETURN = r"""
initialized:
  description: Whether Vault is initialised, or in check mode would be.
  returned: success
  type: bool
sealed:
  description: Whether Vault is sealed.
  returned: success
  type: bool
seal:
  description: Type of its seal.
  returned: success
  type: str
  sample: shamir
"""

from dataclasses import asdict

from ..module_utils.kubevault import administer_vault, require
from ..module_utils.kubevault_arguments import Module
from ..module_utils.kubevault_options import VAULT_CONNECTION_OPTIONS
from ..module_utils.kubevault_results import guarded


@guarded
def main() -> None:
    module = Module(
        argument_spec={
            # no_log false: counts, paths and public keys. Ansible would otherwise warn of their names.
            "key_shares": {"type": "int", "default": 1, "no_log": False},
            "key_threshold": {"type": "int", "default": 1, "no_log": False},
            "keys_file": {"type": "path", "required": True, "no_log": False},
            "root_token_file": {"type": "path", "required": True, "no_log": False},
            "pgp_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "cluster": {"type": "list", "elements": "str", "default": []},
            "migrate": {"type": "bool", "default": False},
            "timeout": {"type": "float", "default": 60.0},
            **VAULT_CONNECTION_OPTIONS,
        },
        supports_check_mode=True,
    )
    try:
        from secretmanager.admin.initialisation import Initialisation, ensure_unsealed
        from secretmanager.errors import SecretManagerError
    except ImportError as error:
        require(module, "kubevault", error)

    params = module.params
    fields = ("key_shares", "key_threshold", "keys_file", "root_token_file", "pgp_keys", "migrate")
    try:
        before, after = ensure_unsealed(
            # Without retries: it looks again by itself, and sooner.
            administer_vault(module, token="", retries=0),
            Initialisation(**{name: params[name] for name in fields}),
            cluster=[administer_vault(module, token="", retries=0, url=url) for url in params["cluster"]],
            timeout=params["timeout"],
            check=module.check_mode,
        )
    except SecretManagerError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=before != after, **asdict(after), diff={"before": asdict(before), "after": asdict(after)})


if __name__ == "__main__":
    main()
