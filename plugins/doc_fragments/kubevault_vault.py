# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the options by which modules reach Vault and log in."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of ``module_utils.kubevault.VAULT_OPTIONS``."""

    DOCUMENTATION = r"""
options:
  vault_url:
    description:
      - Vault's address, as V(https://vault.example.org:8200).
      - Falls back to the environment variable E(VAULT_ADDR).
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
  vault_auth_method:
    description: How to log in. V(token) uses a token that there is; the others get one.
    type: str
    choices: [token, approle, kubernetes]
    default: token
  vault_auth_mount:
    description: Where the auth method is mounted. Without it, at the method's own name.
    type: str
  vault_token:
    description: Token for O(vault_auth_method=token). Falls back to E(VAULT_TOKEN).
    type: str
  vault_token_file:
    description:
      - File that holds the token, where O(vault_token) is not given. Falls back to E(VAULT_TOKEN_FILE), then
        to C(~/.vault-token).
    type: path
  vault_role:
    description: Role to log in to, for O(vault_auth_method=kubernetes).
    type: str
  vault_role_id:
    description: Role ID for O(vault_auth_method=approle). Falls back to E(VAULT_ROLE_ID).
    type: str
  vault_secret_id:
    description: Secret ID for O(vault_auth_method=approle). Falls back to E(VAULT_SECRET_ID).
    type: str
  vault_jwt:
    description:
      - Service account's token for O(vault_auth_method=kubernetes). Without it, the one that Kubernetes
        mounts into a pod.
    type: str
"""
