#!/usr/bin/python
# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: a Vault token in a file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_token
short_description: Keep a Vault token in a file
version_added: "0.1.0"
author: KUBEVAULT (@kubevault)
description:
  - Ensures that a file of mode 0600 holds a valid token with the given policies. A token that matches is kept, and renewed once
    half of its lifetime is over.
  - If the token is missing, has expired or does not match, a new one is created with the token of the options O(vault_token) or
    O(vault_token_file), or by another log-in; or, with O(elevate), with one that the module makes. A token that did not match is revoked.
  - With O(state=absent) revokes the token in the file and deletes the file.
options:
  path:
    description: The token's file. Its folder must exist.
    type: path
    required: true
  state:
    description: Whether there should be a token.
    type: str
    choices: [present, absent]
    default: present
  policies:
    description: The token's policies. Required for O(state=present).
    type: list
    elements: str
  period:
    description: How long it is valid without being renewed, as a duration of Vault. With renewals it does not expire.
    type: str
  orphan:
    description: Whether it outlives the token that created it.
    type: bool
    default: true
  display_name:
    description: Its name in audit logs.
    type: str
  default_policy:
    description:
      - Whether Vault adds the policy C(default). Without it, O(policies) must allow the token C(auth/token/lookup-self), C(auth/token/renew-self)
        and C(auth/token/revoke-self).
    type: bool
    default: true
extends_documentation_fragment:
  - kubevault.core.kubevault_elevation
  - kubevault.core.kubevault_vault.connection
  - kubevault.core.kubevault_vault.login
attributes:
  check_mode:
    description: Writes nothing, and reports what a run would change.
    support: full
  diff_mode:
    description: Shows policies, period and mode, never the token.
    support: full
seealso:
  - module: kubevault.core.vault_init
"""

EXAMPLES = r"""
- name: Issue the operator's token, by the root token
  kubevault.core.vault_token:
    vault_token_file: secrets/vault-root-token
    path: secrets/vault-operator-token
    policies: [kubevault-operator]
    period: 768h

- name: Revoke the root token
  kubevault.core.vault_token:
    path: secrets/vault-root-token
    state: absent
"""

RETURN = r"""
token:
  description: The properties of the token, without the token itself.
  returned: success
  type: dict
  sample: {state: present, policies: [default, kubevault-operator], period: 2764800, orphan: true, mode: "0600"}
"""

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from ..module_utils.kubevault import administer_vault, log_in, require
from ..module_utils.kubevault_arguments import Module
from ..module_utils.kubevault_elevation import ELEVATION_OPTIONS, may_elevate, privileged_token
from ..module_utils.kubevault_options import VAULT_OPTIONS
from ..module_utils.kubevault_results import guarded

if TYPE_CHECKING:
    from secretmanager.admin.tokens import TokenSpec


def creating_token(module: Module, spec: TokenSpec, stack: ExitStack) -> str | None:
    """Return the token that creates the wanted one; None in check mode for one that would have to be made.

    Args:
        module: the module.
        spec: the wanted token.
        stack: revokes, at its end, a token that was made.

    Raises:
        secretmanager.errors.SecretManagerError: there is no such token.
    """
    from secretmanager.admin.tokens import REMEDY, may_create
    from secretmanager.errors import ConfigError

    try:
        token = log_in(module, f"{REMEDY[0].upper()}{REMEDY[1:]}.")
    except ConfigError:
        if not may_elevate(module):
            raise
        token = ""
    if not may_elevate(module) or (token and may_create(administer_vault(module, token), spec)):
        return token
    if module.check_mode:
        return None
    reason = f"a token for {module.params['path']}, whose token is missing, has expired or has other policies"
    return stack.enter_context(privileged_token(module, [reason]))


@guarded
def main() -> None:
    module = Module(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "policies": {"type": "list", "elements": "str"},
            "period": {"type": "str"},
            "orphan": {"type": "bool", "default": True},
            "display_name": {"type": "str"},
            "default_policy": {"type": "bool", "default": True},
            **ELEVATION_OPTIONS,
            **VAULT_OPTIONS,
        },
        required_if=[("state", "present", ["policies"])],
        supports_check_mode=True,
    )
    try:
        from secretmanager.admin.tokens import TokenSpec, ensure_token, remove_token
        from secretmanager.errors import SecretManagerError
    except ImportError as error:
        require(module, "kubevault", error)

    params = module.params
    connect = partial(administer_vault, module)
    try:
        if params["state"] == "absent":
            outcome = remove_token(connect, params["path"], check=module.check_mode)
        else:
            fields = ("policies", "period", "orphan", "display_name", "default_policy")
            spec = TokenSpec(**{name: params[name] for name in fields})
            with ExitStack() as stack:
                maker = partial(creating_token, module, spec, stack)
                outcome = ensure_token(connect, params["path"], spec, maker, check=module.check_mode)
    except SecretManagerError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=outcome.changed, token=outcome.after, diff={"before": outcome.before, "after": outcome.after}
    )


if __name__ == "__main__":
    main()
