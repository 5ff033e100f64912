# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
# Written by `make options` from src/secretmanager/options.py; do not edit.
"""Documentation of the options of how Vault is reached and who logs in."""

from __future__ import annotations


class ModuleDocFragment:
    """The documentation fragments."""

    CONNECTION = r"""
options:
  vault_url:
    description:
    - Address of Vault, as C(https://vault.example.org:8200).
    - Several addresses, separated by commas, are tried in turn.
    - Falls back to the environment variable E(VAULT_ADDR).
    type: str
    aliases:
    - url
  vault_ca_cert:
    description:
    - PEM file of the CA that signed Vault's certificate; the system's CAs by default.
    - The certificate is always verified.
    - Falls back to the environment variable E(VAULT_CACERT).
    type: path
    aliases:
    - vault_cacert
  vault_ca_path:
    description:
    - Folder of PEM files of CAs, instead of one file.
    - Falls back to the environment variable E(VAULT_CAPATH).
    type: path
  vault_client_cert:
    description:
    - PEM file of a client certificate, for a Vault that requires one.
    - Falls back to the environment variable E(VAULT_CLIENT_CERT).
    type: path
  vault_client_key:
    description:
    - PEM file of that certificate's key.
    - Falls back to the environment variable E(VAULT_CLIENT_KEY).
    type: path
  vault_tls_server_name:
    description:
    - Name that Vault's certificate must hold, if not that of its address.
    - Falls back to the environment variable E(VAULT_TLS_SERVER_NAME).
    type: str
  vault_proxy:
    description:
    - HTTP proxy to Vault, as http://proxy.example.org:3128.
    - With V(environment), E(HTTPS_PROXY) and E(NO_PROXY) are used. Without it there is no proxy.
    - Falls back to the environment variable E(VAULT_PROXY_ADDR).
    type: str
  vault_loopback_http:
    description:
    - Whether vault_url may be http:// for a Vault Agent or Proxy on this machine.
    - Only addresses of loopback are allowed, such as C(http://127.0.0.1:8200) or C(http://localhost:8200).
    - They are reached without a proxy.
    type: bool
    default: false
  vault_namespace:
    description:
    - Vault namespace (Enterprise, OpenBao).
    - Falls back to the environment variable E(VAULT_NAMESPACE).
    type: str
  vault_timeout:
    description:
    - Time that one request may take, in seconds.
    type: float
    default: 30.0
  election_timeout:
    description:
    - How long a request is repeated while Vault or etcd has no leader, in seconds.
    type: float
    default: 20.0
requirements:
- kubevault (Python package)
notes:
- 'An option counts before a variable. The variables of a server belong together: if an option names another
  server than they do, only a CA among them counts. In the roles and playbooks of this collection, variables
  of the shell do not count at all.'
- The options alone say where requests go. Proxies, CA bundles and passwords that the environment or a
  C(~/.netrc) names for other programs are not used, unless an option for a proxy says so.
"""

    LOGIN = r"""
options:
  vault_auth_method:
    description:
    - How to log in to Vault.
    - V(token) uses a token that exists; the others get one, which is revoked in the end.
    - Falls back to the environment variable E(KUBEVAULT_AUTH_METHOD).
    - The default is V(token).
    type: str
    choices:
    - kubernetes
    - approle
    - gcp
    - token
    aliases:
    - auth_method
  vault_auth_mount:
    description:
    - Path at which the auth method is mounted, if not at its own name.
    type: str
    aliases:
    - mount_point
  vault_token:
    description:
    - Token, for auth method token.
    - Falls back to the environment variable E(VAULT_TOKEN).
    type: str
    aliases:
    - token
  vault_token_file:
    description:
    - File that holds the token; without it and E(VAULT_TOKEN), C(~/.vault-token).
    - O(vault_token) is used before it.
    - Falls back to the environment variable E(VAULT_TOKEN_FILE).
    type: path
  vault_role:
    description:
    - Role of Vault, for auth methods kubernetes and gcp.
    - Falls back to the environment variable E(KUBEVAULT_ROLE).
    type: str
  vault_jwt:
    description:
    - Token of a service account, for auth method kubernetes.
    - Without it, the token that Kubernetes mounts into a pod is used.
    type: str
    aliases:
    - jwt
  vault_role_id:
    description:
    - Role ID, for auth method approle.
    - Falls back to the environment variable E(VAULT_ROLE_ID).
    type: str
    aliases:
    - role_id
  vault_role_id_file:
    description:
    - File that holds the role ID.
    type: path
  vault_secret_id:
    description:
    - Secret ID, for auth method approle.
    - A role with C(bind_secret_id=false) needs none.
    - Falls back to the environment variable E(VAULT_SECRET_ID).
    type: str
    aliases:
    - secret_id
  vault_secret_id_file:
    description:
    - File that holds the secret ID; without it E(VAULT_SECRET_ID).
    type: path
  vault_secret_id_wrapped:
    description:
    - Whether the secret ID is a response-wrapping token, which is unwrapped once.
    type: bool
    default: false
  vault_gcp_credentials_file:
    description:
    - JSON key file of a Google service account, for auth method gcp; without it the account that Google's
      metadata server knows.
    type: path
notes:
- 'The variables of C(community.hashi_vault) count as well, after those named here: E(ANSIBLE_HASHI_VAULT_ADDR),
  E(ANSIBLE_HASHI_VAULT_CA_CERT), E(ANSIBLE_HASHI_VAULT_NAMESPACE), E(ANSIBLE_HASHI_VAULT_AUTH_METHOD),
  E(ANSIBLE_HASHI_VAULT_MOUNT_POINT), E(ANSIBLE_HASHI_VAULT_TOKEN), E(ANSIBLE_HASHI_VAULT_TOKEN_FILE),
  E(ANSIBLE_HASHI_VAULT_JWT), E(ANSIBLE_HASHI_VAULT_ROLE_ID), E(ANSIBLE_HASHI_VAULT_SECRET_ID).'
"""

    TRANSIT = r"""
options:
  transit_mount:
    description:
    - Path at which the Transit engine is mounted.
    type: str
    default: transit
"""

    LOOKUP = r"""
options:
  vault_url:
    description:
    - Address of Vault, as C(https://vault.example.org:8200).
    - Several addresses, separated by commas, are tried in turn.
    - Falls back to the environment variable E(VAULT_ADDR).
    type: str
    aliases:
    - url
  vault_ca_cert:
    description:
    - PEM file of the CA that signed Vault's certificate; the system's CAs by default.
    - The certificate is always verified.
    - Falls back to the environment variable E(VAULT_CACERT).
    type: path
    aliases:
    - vault_cacert
  vault_ca_path:
    description:
    - Folder of PEM files of CAs, instead of one file.
    - Falls back to the environment variable E(VAULT_CAPATH).
    type: path
  vault_client_cert:
    description:
    - PEM file of a client certificate, for a Vault that requires one.
    - Falls back to the environment variable E(VAULT_CLIENT_CERT).
    type: path
  vault_client_key:
    description:
    - PEM file of that certificate's key.
    - Falls back to the environment variable E(VAULT_CLIENT_KEY).
    type: path
  vault_tls_server_name:
    description:
    - Name that Vault's certificate must hold, if not that of its address.
    - Falls back to the environment variable E(VAULT_TLS_SERVER_NAME).
    type: str
  vault_proxy:
    description:
    - HTTP proxy to Vault, as http://proxy.example.org:3128.
    - With V(environment), E(HTTPS_PROXY) and E(NO_PROXY) are used. Without it there is no proxy.
    - Falls back to the environment variable E(VAULT_PROXY_ADDR).
    type: str
  vault_loopback_http:
    description:
    - Whether vault_url may be http:// for a Vault Agent or Proxy on this machine.
    - Only addresses of loopback are allowed, such as C(http://127.0.0.1:8200) or C(http://localhost:8200).
    - They are reached without a proxy.
    type: bool
    default: false
  vault_namespace:
    description:
    - Vault namespace (Enterprise, OpenBao).
    - Falls back to the environment variable E(VAULT_NAMESPACE).
    type: str
  vault_timeout:
    description:
    - Time that one request may take, in seconds.
    type: float
    default: 30.0
  election_timeout:
    description:
    - How long a request is repeated while Vault or etcd has no leader, in seconds.
    type: float
    default: 20.0
  vault_auth_method:
    description:
    - How to log in to Vault.
    - V(token) uses a token that exists; the others get one, which is revoked in the end.
    - Falls back to the environment variable E(KUBEVAULT_AUTH_METHOD).
    - The default is V(token).
    type: str
    choices:
    - kubernetes
    - approle
    - gcp
    - token
    aliases:
    - auth_method
  vault_auth_mount:
    description:
    - Path at which the auth method is mounted, if not at its own name.
    type: str
    aliases:
    - mount_point
  vault_token:
    description:
    - Token, for auth method token.
    - Falls back to the environment variable E(VAULT_TOKEN).
    type: str
    aliases:
    - token
  vault_token_file:
    description:
    - File that holds the token; without it and E(VAULT_TOKEN), C(~/.vault-token).
    - O(vault_token) is used before it.
    - Falls back to the environment variable E(VAULT_TOKEN_FILE).
    type: path
  vault_role:
    description:
    - Role of Vault, for auth methods kubernetes and gcp.
    - Falls back to the environment variable E(KUBEVAULT_ROLE).
    type: str
  vault_jwt:
    description:
    - Token of a service account, for auth method kubernetes.
    - Without it, the token that Kubernetes mounts into a pod is used.
    type: str
    aliases:
    - jwt
  service_account:
    description:
    - Service account that Kubernetes issues a token of, for auth method kubernetes; without it the pod's
      own.
    type: str
  audience:
    description:
    - Audience of that token.
    type: str
    default: vault
  vault_role_id:
    description:
    - Role ID, for auth method approle.
    - Falls back to the environment variable E(VAULT_ROLE_ID).
    type: str
    aliases:
    - role_id
  vault_role_id_file:
    description:
    - File that holds the role ID.
    type: path
  vault_secret_id:
    description:
    - Secret ID, for auth method approle.
    - A role with C(bind_secret_id=false) needs none.
    - Falls back to the environment variable E(VAULT_SECRET_ID).
    type: str
    aliases:
    - secret_id
  vault_secret_id_file:
    description:
    - File that holds the secret ID; without it E(VAULT_SECRET_ID).
    type: path
  vault_secret_id_wrapped:
    description:
    - Whether the secret ID is a response-wrapping token, which is unwrapped once.
    type: bool
    default: false
  vault_gcp_credentials_file:
    description:
    - JSON key file of a Google service account, for auth method gcp; without it the account that Google's
      metadata server knows.
    type: path
notes:
- 'An option counts before a variable. The variables of a server belong together: if an option names another
  server than they do, only a CA among them counts. In the roles and playbooks of this collection, variables
  of the shell do not count at all.'
- The options alone say where requests go. Proxies, CA bundles and passwords that the environment or a
  C(~/.netrc) names for other programs are not used, unless an option for a proxy says so.
"""
