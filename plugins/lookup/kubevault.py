# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Lookup plugin: a value that Vault sealed and Kubernetes keeps."""

from __future__ import annotations

DOCUMENTATION = r"""
name: kubevault
short_description: Read what Vault has sealed in a Kubernetes Secret
version_added: "0.1.0"
author: KUBEVAULT (@kubevault)
description:
  - Gets a Secret from Kubernetes and has Vault decrypt its values, where the policy of the token and RBAC permit it. A sealer's
    policy does not.
  - Ansible does not know what is secret of what a lookup gives. Use C(no_log) where it could be shown.
options:
  _terms:
    description:
      - Secrets, each C(NAMESPACE/NAME) for all its sealed values, or C(NAMESPACE/NAME/KEY) for one.
    type: list
    elements: str
    required: true
  transit_key:
    description: The Transit key of values that an older tool sealed. Others say it themselves.
    type: str
  transit_mount:
    description: Where the Transit engine is mounted.
    type: str
    default: transit
  base64:
    description: Whether to give values in base64, as for those that are no text.
    type: bool
    default: false
  vault_url:
    description: Vault's address, as V(https://vault.example.org:8200).
    type: str
    required: true
    aliases: [url]
    env: [{name: ANSIBLE_HASHI_VAULT_ADDR}, {name: VAULT_ADDR}]
  vault_ca_cert:
    description: PEM file of the CA that signed Vault's certificate. Without it the system's own CAs count.
    type: path
    aliases: [vault_cacert]
    env: [{name: ANSIBLE_HASHI_VAULT_CA_CERT}, {name: VAULT_CACERT}]
  vault_namespace:
    description: Vault namespace (Enterprise, OpenBao).
    type: str
    env: [{name: ANSIBLE_HASHI_VAULT_NAMESPACE}, {name: VAULT_NAMESPACE}]
  vault_timeout:
    description: Time that one request may take, in seconds.
    type: float
    default: 30.0
  vault_auth_method:
    description: How to log in. V(token) uses a token that there is; the others get one, and revoke it in the end.
    type: str
    choices: [token, approle, kubernetes]
    default: token
    aliases: [auth_method]
    env: [{name: ANSIBLE_HASHI_VAULT_AUTH_METHOD}]
  vault_auth_mount:
    description: Where the auth method is mounted. Without it, at the method's own name.
    type: str
    aliases: [mount_point]
    env: [{name: ANSIBLE_HASHI_VAULT_MOUNT_POINT}]
  vault_token:
    description: Token for O(vault_auth_method=token).
    type: str
    aliases: [token]
    env: [{name: ANSIBLE_HASHI_VAULT_TOKEN}, {name: VAULT_TOKEN}]
  vault_token_file:
    description: File that holds the token. Without it and O(vault_token), C(~/.vault-token).
    type: path
    env: [{name: ANSIBLE_HASHI_VAULT_TOKEN_FILE}, {name: VAULT_TOKEN_FILE}]
  vault_role:
    description: Role to log in to, for O(vault_auth_method=kubernetes).
    type: str
  vault_jwt:
    description: Service account's token for O(vault_auth_method=kubernetes).
    type: str
    aliases: [jwt]
    env: [{name: ANSIBLE_HASHI_VAULT_JWT}]
  service_account:
    description:
      - Service account, as C(NAMESPACE/NAME), that Kubernetes is asked to issue a token of, for
        O(vault_auth_method=kubernetes). Without it and O(vault_jwt), the token that Kubernetes mounts into a pod.
    type: str
  audience:
    description: Whom that token is for.
    type: str
    default: vault
  vault_role_id:
    description: Role ID for O(vault_auth_method=approle).
    type: str
    aliases: [role_id]
    env: [{name: ANSIBLE_HASHI_VAULT_ROLE_ID}, {name: VAULT_ROLE_ID}]
  vault_secret_id:
    description: Secret ID for O(vault_auth_method=approle).
    type: str
    aliases: [secret_id]
    env: [{name: ANSIBLE_HASHI_VAULT_SECRET_ID}, {name: VAULT_SECRET_ID}]
  kubeconfig:
    description: Kubeconfig file. Without it E(KUBECONFIG), then a pod's own service account, then C(~/.kube/config).
    type: path
    env: [{name: K8S_AUTH_KUBECONFIG}]
  context:
    description: Context of the kubeconfig file; its current one if not given.
    type: str
    env: [{name: K8S_AUTH_CONTEXT}]
  host:
    description: Address of the Kubernetes API instead of a kubeconfig file.
    type: str
    env: [{name: K8S_AUTH_HOST}]
  api_key:
    description: Bearer token to authenticate to Kubernetes with.
    type: str
    env: [{name: K8S_AUTH_API_KEY}]
  ca_cert:
    description: PEM file of the CA that signed the Kubernetes API's certificate, for O(host).
    type: path
    aliases: [ssl_ca_cert]
    env: [{name: K8S_AUTH_SSL_CA_CERT}]
  client_cert:
    description: PEM file of a client certificate, for O(host).
    type: path
    env: [{name: K8S_AUTH_CERT_FILE}]
  client_key:
    description: PEM file of its key.
    type: path
    env: [{name: K8S_AUTH_KEY_FILE}]
requirements:
  - kubevault (Python package)
seealso:
  - module: kubevault.core.kubevault_secret
"""

EXAMPLES = r"""
- name: Use one value
  ansible.builtin.template:
    src: application.conf.j2
    dest: /etc/application.conf
    mode: "0600"
  no_log: true
  vars:
    matrix: "{{ lookup('kubevault.core.kubevault', 'default/matrix-secrets/secrets.json') | from_json }}"
"""

RETURN = r"""
_raw:
  description: Of C(NAMESPACE/NAME/KEY) the text that was sealed; of C(NAMESPACE/NAME) a dict of the texts by data key.
  type: list
  elements: raw
"""

from base64 import b64encode
from contextlib import closing
from typing import Any

from ansible.errors import AnsibleError, AnsibleOptionsError
from ansible.plugins.lookup import LookupBase

KUBERNETES = ("kubeconfig", "context", "host", "api_key", "ca_cert", "client_cert", "client_key")
VAULT = ("url", "ca_cert", "namespace", "timeout", "auth_method", "auth_mount", "token", "token_file", "role", "jwt")
VAULT += ("role_id", "secret_id")
OTHERS = ("service_account", "audience", "transit_mount")


class LookupModule(LookupBase):
    """Reads sealed values."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """Give one result for each term.

        Raises:
            AnsibleError: an option is missing or wrong, or a server refused; says which and why.
        """
        self.set_options(var_options=variables, direct=kwargs)
        try:
            from secretmanager.errors import SecretManagerError
            from secretmanager.login.access import KubernetesAccess, VaultAccess
            from secretmanager.reading.opening import open_secret
        except ImportError as error:
            raise AnsibleError("The lookup kubevault needs the Python package kubevault") from error
        places = [self._place(term) for term in terms]
        vault_options = {name: self.get_option(f"vault_{name}") for name in VAULT}
        vault_options |= {name: self.get_option(name) for name in OTHERS}
        transit_key = self.get_option("transit_key")
        try:
            with (
                closing(
                    KubernetesAccess(**{name: self.get_option(name) for name in KUBERNETES}).connect()
                ) as kubernetes,
                VaultAccess(**vault_options).connect(lambda: kubernetes) as vault,
            ):
                found = [open_secret(kubernetes, vault, *place, transit_key) for place in places]
        except SecretManagerError as error:
            raise AnsibleError(str(error)) from error
        return [
            {key: self._text(value, term, key) for key, value in values.items()}
            if place[2] is None
            else self._text(values[place[2]], term, place[2])
            for term, place, values in zip(terms, places, found, strict=True)
        ]

    @staticmethod
    def _place(term: str) -> tuple[str, str, str | None]:
        parts = str(term).split("/", 2)
        if len(parts) < 2 or not all(parts):
            raise AnsibleOptionsError(f"found {term!r}; allowed is NAMESPACE/NAME or NAMESPACE/NAME/KEY")
        return parts[0], parts[1], parts[2] if len(parts) == 3 else None

    def _text(self, value: bytes, term: str, key: str) -> str:
        if self.get_option("base64"):
            return b64encode(value).decode("ascii")
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
        # Outside of "except": the original holds the value.
        raise AnsibleError(f"{term}: data key {key} is no UTF-8 text; set base64")
