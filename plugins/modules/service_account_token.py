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

import base64
import json
from datetime import UTC, datetime

from ..module_utils.kubevault import connect_to_kubernetes, require
from ..module_utils.kubevault_arguments import Module
from ..module_utils.kubevault_options import KUBERNETES_OPTIONS
from ..module_utils.kubevault_results import guarded, warn

LEAST = 600
"""Seconds for which Kubernetes issues tokens at least."""


def life_of(token: str) -> tuple[int, int]:
    """Return when a token was issued and when it ends, in seconds since 1970."""
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims["iat"], claims["exp"]


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
        from secretmanager.errors import SecretManagerError, SecretNotFound
        from secretmanager.rotation.keys import duration
    except ImportError as error:
        require(module, "kubevault", error)

    params = module.params
    try:
        lifetime = int(duration(params["lifetime"], "lifetime"))
        if lifetime < LEAST:
            module.fail_json(msg=f"lifetime: found {params['lifetime']}; allowed is 10m or more, as Kubernetes has it")
        kubernetes = connect_to_kubernetes(module)
        token = kubernetes.create_token(params["namespace"], params["service_account"], params["audience"], lifetime)
    except SecretNotFound as error:
        if not module.check_mode:
            module.fail_json(msg=str(error))
        module.exit_json(changed=False, token="", renew_after="")
    except SecretManagerError as error:
        module.fail_json(msg=str(error))
    issued, end = life_of(token)
    if end - issued < lifetime:
        warn(module, f"lifetime: found {params['lifetime']}, and Kubernetes issued a token for {end - issued} s.")
    half = datetime.fromtimestamp((issued + end) // 2, UTC)
    module.exit_json(changed=False, token=token, renew_after=half.strftime("%Y-%m-%dT%H:%M:%SZ"))


if __name__ == "__main__":
    main()
