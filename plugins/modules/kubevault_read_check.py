#!/usr/bin/python
# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: whether a workload can read its sealed Secrets."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubevault_read_check
short_description: Read sealed Secrets as a workload, and report which keys they hold
version_added: "0.1.0"
author: KUBEVAULT (@kubevault)
description:
  - Has tokens issued for the workload's service account. With nothing but these, it logs in to Vault, gets the Secrets and
    decrypts them. The values are discarded; the module returns names of keys.
options:
  role:
    description: The workload's role in Vault.
    type: str
    required: true
  namespace:
    description: Namespace of the service account and the Secrets.
    type: str
    required: true
  service_account:
    description: The workload's service account.
    type: str
    required: true
  audience:
    description: Audience of the token for Vault.
    type: str
    default: vault
  secrets:
    description: Names of the Secrets to read.
    type: list
    elements: str
    required: true
  transit_key:
    description: Transit key of values that an older tool sealed, which do not name their key.
    type: str
  auth_mount:
    description: Path at which Vault's Kubernetes auth method is mounted.
    type: str
    default: kubernetes
extends_documentation_fragment:
  - kubevault.core.kubevault_vault.connection
  - kubevault.core.kubevault_vault.transit
  - kubevault.core.kubevault_kubernetes
attributes:
  check_mode:
    description:
      - It changes nothing. In check mode a missing or denied Secret, service account or role is a warning, because an earlier
        task of a run may create it.
    support: full
"""

EXAMPLES = r"""
- name: Read as the workload "demo"
  kubevault.core.kubevault_read_check:
    role: demo
    namespace: default
    service_account: default
    secrets: [matrix-secrets]
"""

RETURN = r"""
secrets:
  description: The sealed data keys of each Secret; empty in check mode if they cannot be read yet.
  returned: success
  type: dict
  sample: {matrix-secrets: [secrets.json]}
"""

from ..module_utils.kubevault import connect_to_kubernetes, kubernetes_options, require, vault_client
from ..module_utils.kubevault_arguments import Module
from ..module_utils.kubevault_options import KUBERNETES_OPTIONS, TRANSIT_OPTIONS, VAULT_CONNECTION_OPTIONS
from ..module_utils.kubevault_results import guarded, warn


@guarded
def main() -> None:
    module = Module(
        argument_spec={
            "role": {"type": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "service_account": {"type": "str", "required": True},
            "audience": {"type": "str", "default": "vault"},
            # no_log false: names. Ansible would otherwise warn.
            "secrets": {"type": "list", "elements": "str", "required": True, "no_log": False},
            "transit_key": {"type": "str", "no_log": False},
            "auth_mount": {"type": "str", "default": "kubernetes"},
            **TRANSIT_OPTIONS,
            **VAULT_CONNECTION_OPTIONS,
            **KUBERNETES_OPTIONS,
        },
        supports_check_mode=True,
    )
    try:
        from secretmanager.errors import (
            Forbidden,
            LoginDenied,
            PermissionDenied,
            SealedDataError,
            SecretManagerError,
            SecretNotFound,
        )
        from secretmanager.reading.verification import Workload, connecting, read_as
    except ImportError as error:
        require(module, "kubevault", error)

    params = module.params
    fields = ("role", "namespace", "service_account", "audience", "secrets", "transit_key")
    try:
        secrets = read_as(
            Workload(**{name: params[name] for name in fields}),
            connect_to_kubernetes(module),
            connecting(kubernetes_options(module)),
            vault_client(module),
            params["auth_mount"],
        )
    except SecretManagerError as error:
        not_yet = (Forbidden, LoginDenied, PermissionDenied, SealedDataError, SecretNotFound)
        if not (module.check_mode and isinstance(error, not_yet)):
            module.fail_json(msg=str(error))
        warn(module, f"{error}. A run fails unless an earlier task of it puts this right.")
        secrets = {}
    module.exit_json(changed=False, secrets=secrets)


if __name__ == "__main__":
    main()
