#!/usr/bin/python
# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: whether a service account can log in to Vault."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_kubernetes_login_info
short_description: Tell whether a service account can log in to Vault
version_added: "0.1.0"
author: KUBEVAULT (@kubevault)
description:
  - Has Kubernetes issue a token of a service account, and logs in to Vault's Kubernetes auth with it. The token that Vault
    gives is revoked at once.
  - So it tells whether Vault's token reviewer still works, which Vault does not show otherwise.
  - It changes nothing that lasts, in check mode as without.
options:
  role:
    description: Role of Vault to log in to.
    type: str
    required: true
  mount:
    description: Where Vault's Kubernetes auth is mounted.
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
  vault_url:
    description: Vault's address. Falls back to E(VAULT_ADDR).
    type: str
    required: true
  vault_ca_cert:
    description:
      - PEM file of the CA that signed Vault's certificate. Without it the system's own CAs count.
      - Falls back to E(VAULT_CACERT). The certificate is always verified.
    type: path
  vault_namespace:
    description: Vault namespace (Enterprise, OpenBao). Falls back to E(VAULT_NAMESPACE).
    type: str
  vault_timeout:
    description: Time that one request may take, in seconds.
    type: float
    default: 30.0
extends_documentation_fragment:
  - kubevault_kubernetes
attributes:
  check_mode:
    description: It changes nothing.
    support: full
seealso:
  - module: vault_resource
"""

EXAMPLES = r"""
- name: Look whether Vault's token reviewer still works
  vault_kubernetes_login_info:
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
  description: Why it did not; empty where it did.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.kubevault import KUBERNETES_OPTIONS, VAULT_OPTIONS, require, vault_ca

CONNECTION = ("vault_url", "vault_ca_cert", "vault_namespace", "vault_timeout")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "role": {"type": "str", "required": True},
            "mount": {"type": "str", "default": "kubernetes"},
            "service_account": {"type": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "audience": {"type": "str", "default": "vault"},
            **{name: VAULT_OPTIONS[name] for name in CONNECTION},
            **KUBERNETES_OPTIONS,
        },
        supports_check_mode=True,
    )
    try:
        from secretmanager.errors import LoginDenied, SecretManagerError, SecretNotFound
        from secretmanager.kubernetes import KubernetesClient
        from secretmanager.vault import VaultClient
    except ImportError as error:
        require(module, "kubevault", error)

    params = module.params
    try:
        vault = VaultClient(
            params["vault_url"],
            ca_cert=vault_ca(module),
            namespace=params["vault_namespace"],
            timeout=params["vault_timeout"],
        )
        kubernetes = KubernetesClient.from_kubeconfig(params["kubeconfig"], params["context"])
        jwt = kubernetes.create_token(params["namespace"], params["service_account"], params["audience"])
        login = vault.login_kubernetes(params["role"], jwt, params["mount"])
        if not login.is_batch:
            vault.revoke_self(token=login.client_token)
    except (LoginDenied, SecretNotFound) as error:
        module.exit_json(changed=False, allowed=False, reason=str(error))
    except SecretManagerError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, allowed=True, reason="")


if __name__ == "__main__":
    main()
