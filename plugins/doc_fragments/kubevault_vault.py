# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the options by which modules reach Vault and log in."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of ``module_utils.kubevault.VAULT_OPTIONS``, in two parts."""

    CONNECTION = r"""
options:
  vault_url:
    description:
      - Vault's address, as V(https://vault.example.org:8200).
      - Falls back to the environment variable E(VAULT_ADDR).
    type: str
    required: true
    aliases: [url]
  vault_ca_cert:
    description:
      - PEM file of the CA that signed Vault's certificate. Without it the system's own CAs count.
      - Falls back to E(VAULT_CACERT). The certificate is always verified.
    type: path
    aliases: [vault_cacert]
  vault_namespace:
    description: Vault namespace (Enterprise, OpenBao). Falls back to E(VAULT_NAMESPACE).
    type: str
  vault_timeout:
    description: Time that one request may take, in seconds.
    type: float
    default: 30.0
requirements:
  - kubevault (Python package)
notes:
  - The options alone say where requests go. Proxies, CA bundles and passwords that the environment or a
    C(~/.netrc) names for other programs are not used.
"""

    LOGIN = r"""
options:
  vault_auth_method:
    description: How to log in. V(token) uses a token that there is; the others get one.
    type: str
    choices: [token, approle, kubernetes]
    default: token
    aliases: [auth_method]
  vault_auth_mount:
    description: Where the auth method is mounted. Without it, at the method's own name.
    type: str
    aliases: [mount_point]
  vault_token:
    description:
      - Token for O(vault_auth_method=token). Where neither it nor O(vault_token_file) is given, E(VAULT_TOKEN) counts.
    type: str
    aliases: [token]
  vault_token_file:
    description:
      - File that holds the token, where O(vault_token) is not given. Without them and E(VAULT_TOKEN),
        E(VAULT_TOKEN_FILE) counts, then C(~/.vault-token).
    type: path
  vault_role:
    description: Role to log in to, for O(vault_auth_method=kubernetes).
    type: str
  vault_role_id:
    description: Role ID for O(vault_auth_method=approle). Falls back to E(VAULT_ROLE_ID).
    type: str
    aliases: [role_id]
  vault_secret_id:
    description: Secret ID for O(vault_auth_method=approle). Falls back to E(VAULT_SECRET_ID).
    type: str
    aliases: [secret_id]
  vault_jwt:
    description:
      - Service account's token for O(vault_auth_method=kubernetes). Without it, the one that Kubernetes
        mounts into a pod.
    type: str
    aliases: [jwt]
notes:
  - The variables of C(community.hashi_vault) count as well, and before Vault's own, as E(ANSIBLE_HASHI_VAULT_ADDR),
    E(ANSIBLE_HASHI_VAULT_CA_CERT), E(ANSIBLE_HASHI_VAULT_NAMESPACE), E(ANSIBLE_HASHI_VAULT_AUTH_METHOD),
    E(ANSIBLE_HASHI_VAULT_MOUNT_POINT), E(ANSIBLE_HASHI_VAULT_TOKEN), E(ANSIBLE_HASHI_VAULT_TOKEN_FILE),
    E(ANSIBLE_HASHI_VAULT_ROLE_ID), E(ANSIBLE_HASHI_VAULT_SECRET_ID) and E(ANSIBLE_HASHI_VAULT_JWT).
"""
