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
"""
