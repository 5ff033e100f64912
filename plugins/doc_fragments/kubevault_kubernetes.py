# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the options by which modules reach Kubernetes."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of ``module_utils.kubevault.KUBERNETES_OPTIONS``."""

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - Kubeconfig file. Falls back to E(K8S_AUTH_KUBECONFIG), then E(KUBECONFIG), then a pod's own service
        account, then C(~/.kube/config).
    type: path
  context:
    description:
      - Context of the kubeconfig file; its current one if not given. Falls back to E(K8S_AUTH_CONTEXT).
    type: str
  host:
    description:
      - Address of the Kubernetes API, as V(https://kubernetes.example.org:6443), instead of a kubeconfig file.
      - It needs O(api_key), or O(client_cert) and O(client_key). Falls back to E(K8S_AUTH_HOST).
    type: str
  api_key:
    description:
      - Bearer token to authenticate to Kubernetes with. Without O(host), instead of the kubeconfig file's user.
      - Falls back to E(K8S_AUTH_API_KEY).
    type: str
  ca_cert:
    description:
      - PEM file of the CA that signed the Kubernetes API's certificate, for O(host). Without it the system's own CAs
        count. The certificate is always verified. For Vault there is O(vault_ca_cert).
      - Falls back to E(K8S_AUTH_SSL_CA_CERT).
    type: path
    aliases: [ssl_ca_cert]
  client_cert:
    description: PEM file of a client certificate, for O(host). Falls back to E(K8S_AUTH_CERT_FILE).
    type: path
  client_key:
    description: PEM file of its key. Falls back to E(K8S_AUTH_KEY_FILE).
    type: path
"""
