#!/usr/bin/python
# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: a token of a service account that ends."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_account_token
short_description: Have Kubernetes issue a token of a service account that ends
version_added: "0.1.0"
author: KUBEVAULT (@kubevault)
description:
  - Has Kubernetes issue a token by the TokenRequest API. Kubernetes stores nothing for it, so a run changes nothing, in check mode
    as without.
  - Its result is hidden, as if the task had C(no_log), unless it fails.
options:
  service_account:
    description: The service account.
    type: str
    required: true
  namespace:
    description: Its namespace.
    type: str
    required: true
  lifetime:
    description: How long the token is valid, such as V(720h) or V(30d); at least ten minutes. Kubernetes may issue one that ends earlier.
    type: str
    required: true
  audience:
    description: Audience of the token; without one, it is for the Kubernetes API.
    type: str
extends_documentation_fragment:
  - kubevault.core.kubevault_kubernetes
attributes:
  check_mode:
    description: The same. A service account that does not exist is no error there, because an earlier task of a run may create it.
    support: full
seealso:
  - module: kubevault.core.vault_kubernetes_login_info
"""

EXAMPLES = r"""
- name: A token with which Vault reviews others for a month
  kubevault.core.service_account_token:
    service_account: vault-auth
    namespace: kube-system
    lifetime: 30d
  register: reviewer
"""

RETURN = r"""
token:
  description: The token; empty in check mode if there is no such service account yet.
  returned: success
  type: str
renew_after:
  description: When half of its life is over, in UTC; empty if there is no token.
  returned: success
  type: str
  sample: "2026-12-16T04:00:00Z"
"""

from ..module_utils.kubevault import connect_to_kubernetes, require
from ..module_utils.kubevault_arguments import Module
from ..module_utils.kubevault_options import KUBERNETES_OPTIONS
from ..module_utils.kubevault_results import guarded, warn


@guarded
def main() -> None:
    module = Module(
        argument_spec={
            "service_account": {"type": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "lifetime": {"type": "str", "required": True},
            "audience": {"type": "str"},
            **KUBERNETES_OPTIONS,
        },
        supports_check_mode=True,
    )
    try:
        from secretmanager.admin.reviewer import issue
        from secretmanager.errors import SecretManagerError, SecretNotFound
        from secretmanager.rotation.keys import duration
    except ImportError as error:
        require(module, "kubevault", error)

    params = module.params
    try:
        lifetime = int(duration(params["lifetime"], "lifetime"))
        kubernetes = connect_to_kubernetes(module)
        issued = issue(kubernetes, params["namespace"], params["service_account"], params["audience"], lifetime)
    except SecretNotFound as error:
        if not module.check_mode:
            module.fail_json(msg=str(error))
        module.exit_json(changed=False, token="", renew_after="")
    except SecretManagerError as error:
        module.fail_json(msg=str(error))
    if issued.lifetime < lifetime:
        warn(module, f"lifetime: found {params['lifetime']}, and Kubernetes issued a token for {issued.lifetime} s.")
    module.exit_json(changed=False, token=issued.token, renew_after=issued.renew_after)


if __name__ == "__main__":
    main()
