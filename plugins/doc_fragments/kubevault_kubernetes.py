# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
# Written by `make options` from src/secretmanager/options.py; do not edit.
"""Documentation of the options of how Kubernetes is reached."""

from __future__ import annotations


class ModuleDocFragment:
    """The documentation fragments."""

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
    - Kubeconfig file; without it E(KUBECONFIG), a pod's own service account, C(~/.kube/config).
    - Its content, as a dict, is allowed too.
    - Falls back to the environment variable E(K8S_AUTH_KUBECONFIG).
    type: raw
  context:
    description:
    - Context of the kubeconfig file, if not its current one.
    - Falls back to the environment variable E(K8S_AUTH_CONTEXT).
    type: str
  host:
    description:
    - Address of the Kubernetes API, as C(https://k8s.example.org:6443), instead of a kubeconfig file.
    - It needs O(api_key), or O(client_cert) and O(client_key).
    - Falls back to the environment variable E(K8S_AUTH_HOST).
    type: str
  api_key:
    description:
    - Bearer token for the Kubernetes API.
    - Without O(host), it is used instead of the kubeconfig file's user.
    - Falls back to the environment variable E(K8S_AUTH_API_KEY).
    type: str
  ca_cert:
    description:
    - PEM file of the CA that signed the Kubernetes API's certificate, for a host.
    - By default the system's CAs. The certificate is always verified. Vault's is C(vault_ca_cert).
    - Falls back to the environment variable E(K8S_AUTH_SSL_CA_CERT).
    type: path
    aliases:
    - ssl_ca_cert
  client_cert:
    description:
    - PEM file of a client certificate, for a host.
    - Falls back to the environment variable E(K8S_AUTH_CERT_FILE).
    type: path
  client_key:
    description:
    - PEM file of the client certificate's key.
    - Falls back to the environment variable E(K8S_AUTH_KEY_FILE).
    type: path
  proxy:
    description:
    - HTTP proxy to the Kubernetes API, as http://proxy.example.org:3128.
    - With V(environment), E(HTTPS_PROXY) and E(NO_PROXY) are used. It counts before the kubeconfig file's
      C(proxy-url). Without both there is no proxy.
    - Falls back to the environment variable E(K8S_AUTH_PROXY).
    type: str
"""

    LOOKUP = r"""
options:
  kubeconfig:
    description:
    - Kubeconfig file; without it E(KUBECONFIG), a pod's own service account, C(~/.kube/config).
    - Its content, as a dict, is allowed too.
    - Falls back to the environment variable E(K8S_AUTH_KUBECONFIG).
    type: raw
  context:
    description:
    - Context of the kubeconfig file, if not its current one.
    - Falls back to the environment variable E(K8S_AUTH_CONTEXT).
    type: str
  host:
    description:
    - Address of the Kubernetes API, as C(https://k8s.example.org:6443), instead of a kubeconfig file.
    - It needs O(api_key), or O(client_cert) and O(client_key).
    - Falls back to the environment variable E(K8S_AUTH_HOST).
    type: str
  api_key:
    description:
    - Bearer token for the Kubernetes API.
    - Without O(host), it is used instead of the kubeconfig file's user.
    - Falls back to the environment variable E(K8S_AUTH_API_KEY).
    type: str
  ca_cert:
    description:
    - PEM file of the CA that signed the Kubernetes API's certificate, for a host.
    - By default the system's CAs. The certificate is always verified. Vault's is C(vault_ca_cert).
    - Falls back to the environment variable E(K8S_AUTH_SSL_CA_CERT).
    type: path
    aliases:
    - ssl_ca_cert
  client_cert:
    description:
    - PEM file of a client certificate, for a host.
    - Falls back to the environment variable E(K8S_AUTH_CERT_FILE).
    type: path
  client_key:
    description:
    - PEM file of the client certificate's key.
    - Falls back to the environment variable E(K8S_AUTH_KEY_FILE).
    type: path
  proxy:
    description:
    - HTTP proxy to the Kubernetes API, as http://proxy.example.org:3128.
    - With V(environment), E(HTTPS_PROXY) and E(NO_PROXY) are used. It counts before the kubeconfig file's
      C(proxy-url). Without both there is no proxy.
    - Falls back to the environment variable E(K8S_AUTH_PROXY).
    type: str
"""
