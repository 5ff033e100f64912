#!/usr/bin/python
# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: whether a service account can log in to Vault."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_kubernetes_login_info
short_description: Report whether a service account can log in to Vault
version_added: "0.1.0"
author: KUBEVAULT (@kubevault)
description:
  - Has Kubernetes issue a token of a service account, and logs in to Vault's Kubernetes auth method with it. The token that
    Vault issues is revoked immediately.
  - This shows whether Vault's token reviewer still works, which Vault does not report otherwise.
  - It changes nothing that lasts, in check mode as without.
  - It fails if this cannot be determined, because Vault or Kubernetes is unreachable, Vault is sealed, or certificate
    verification failed.
options:
  role:
    description: Role of Vault to log in to.
    type: str
    required: true
  mount:
    description: Path at which Vault's Kubernetes auth method is mounted.
    type: str
    default: kubernetes
  service_account:
    description: Service account to log in as.
    type: str
    required: true
  namespace:
    description: Its namespace.
    type: str
    required: true
  audience:
    description: Audience of its token.
    type: str
    default: vault
extends_documentation_fragment:
  - kubevault.core.kubevault_vault.connection
  - kubevault.core.kubevault_kubernetes
attributes:
  check_mode:
    description: It changes nothing.
    support: full
seealso:
  - module: kubevault.core.vault_resource
"""

EXAMPLES = r"""
- name: Check whether Vault's token reviewer still works
  kubevault.core.vault_kubernetes_login_info:
    role: kubevault-token-reviewer
    service_account: vault-auth
    namespace: kube-system
  register: login

- name: Say so
  ansible.builtin.debug:
    msg: "{{ login.reason }}"
  when: not login.allowed
"""

RETURN = r"""
allowed:
  description: Whether the log-in succeeded.
  returned: success
  type: bool
reason:
  description: Why it did not succeed, in the words of Vault or Kubernetes; empty if it succeeded.
  returned: success
  type: str
  sample: "https://127.0.0.1:8200/v1/auth/kubernetes/login: log-in denied for role demo: permission denied; check the role's
    service account, namespace and audience, and Vault's token reviewer"
"""

from ..module_utils.kubevault import connect_to_kubernetes, require, vault_client
from ..module_utils.kubevault_arguments import Module
from ..module_utils.kubevault_options import KUBERNETES_OPTIONS, VAULT_CONNECTION_OPTIONS
from ..module_utils.kubevault_results import guarded, warn


@guarded
def main() -> None:
    module = Module(
        argument_spec={
            "role": {"type": "str", "required": True},
            "mount": {"type": "str", "default": "kubernetes"},
            "service_account": {"type": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "audience": {"type": "str", "default": "vault"},
            **VAULT_CONNECTION_OPTIONS,
            **KUBERNETES_OPTIONS,
        },
        supports_check_mode=True,
    )
    try:
        from secretmanager.errors import (
            PermissionDenied,
            SecretManagerError,
            SecretNotFound,
            VaultError,
            VaultUnavailable,
        )
    except ImportError as error:
        require(module, "kubevault", error)

    params = module.params
    try:
        vault = vault_client(module)
        kubernetes = connect_to_kubernetes(module)
        jwt = kubernetes.create_token(params["namespace"], params["service_account"], params["audience"])
        login = vault.login_kubernetes(params["role"], jwt, params["mount"])
    except VaultUnavailable as error:
        module.fail_json(msg=str(error))
    except (VaultError, SecretNotFound) as error:
        module.exit_json(changed=False, allowed=False, reason=str(error))
    except SecretManagerError as error:
        module.fail_json(msg=str(error))
    if not login.is_batch:
        try:
            vault.revoke_self(token=login.client_token)
        except PermissionDenied:
            warn(module, f"The token may not revoke itself; it ends in {login.lease_duration} s.")
        except SecretManagerError as error:
            module.fail_json(msg=str(error))
    module.exit_json(changed=False, allowed=True, reason="")


if __name__ == "__main__":
    main()
