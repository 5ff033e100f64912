#!/usr/bin/python
# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: what Vault has sealed in which Kubernetes Secrets."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubevault_secret_info
short_description: Report what is sealed in Kubernetes Secrets
version_added: "0.1.0"
author: KUBEVAULT (@kubevault)
description:
  - Reports which data keys of which Secrets are sealed, with which version of which Transit key, how old that version is,
    whether the key has a newer one, and whether it no longer decrypts it.
  - It decrypts nothing and shows no value.
options:
  name:
    description: Name of one Secret, in O(namespace). Without it, all Secrets that O(label_selectors) select.
    type: str
  namespace:
    description: Namespace to look at. Without it, all. One that does not exist is an error, but in check mode.
    type: str
  label_selectors:
    description:
      - Labels of the Secrets to look at. M(kubevault.core.kubevault_secret) sets the label that is the default.
      - With an empty list, all Secrets; Secrets that an older tool sealed do not have the label. Secrets that hold nothing sealed
        are left out.
    type: list
    elements: str
    default: [kubevault.io/sealed=true]
  transit_key:
    description: The Transit key of values that an older tool sealed, whose Secrets do not name it.
    type: str
  fail_if:
    description:
      - Fail if a Secret is so, or if that is not known, and name what is.
      - V(behind) - a value is sealed with an older version of its Transit key.
      - V(damaged) - a ciphertext is not the one that was written, or is gone, or the manifest is damaged.
      - V(plain) - a value is not sealed, or an annotation holds it.
      - V(unreadable) - the Transit key no longer decrypts the version of a value.
    type: list
    elements: str
    choices: [behind, damaged, plain, unreadable]
    default: []
  vault_url:
    description:
      - Vault's address, as V(https://vault.example.org:8200).
      - Falls back to the environment variable E(VAULT_ADDR). Without both, newest versions are not reported.
    type: str
    required: false
    aliases: [url]
extends_documentation_fragment:
  - kubevault.core.kubevault_vault.connection
  - kubevault.core.kubevault_vault.transit
  - kubevault.core.kubevault_vault.login
  - kubevault.core.kubevault_kubernetes
attributes:
  check_mode:
    description: It changes nothing.
    support: full
notes:
  - To know the newest version of a Transit key, the token needs C(read) of C(transit/keys/KEY), or C(update) of
    C(transit/encrypt/KEY). With neither, it is not reported. Ages, and which versions still decrypt, need the former.
seealso:
  - module: kubevault.core.kubevault_secret
"""

EXAMPLES = r"""
- name: All sealed Secrets
  kubevault.core.kubevault_secret_info:
  register: sealed

- name: Those to be rewrapped
  ansible.builtin.debug:
    msg: "{{ sealed.secrets | selectattr('behind', 'eq', true) | map(attribute='name') }}"

- name: Everything is sealed with the newest version, and can be read
  kubevault.core.kubevault_secret_info:
    fail_if: [behind, damaged, unreadable]
"""

RETURN = r"""
secrets:
  description: The Secrets that hold something sealed. It holds no value.
  returned: success
  type: list
  elements: dict
  contains:
    namespace:
      description: The Secret's namespace.
      type: str
      sample: default
    name:
      description: The Secret's name.
      type: str
      sample: matrix-secrets
    transit_key:
      description: The Transit key that its values are sealed with; null where an older tool sealed them.
      type: str
      sample: aes256-key
    scope:
      description: Where its values can be decrypted; null if an older tool sealed them.
      type: str
      sample: cluster-wide
    newest_version:
      description: Newest version of the Transit key; null where that is not known.
      type: int
      sample: 2
    behind:
      description: Whether a value is sealed with an older version; null where that is not known.
      type: bool
    keys:
      description:
        - The sealed values by data key, each with C(version) of the Transit key, C(behind), C(managed) (whether
          M(kubevault.core.kubevault_secret) sealed it) and C(damaged) (whether its ciphertext is not the one that was written).
        - C(unreadable) is whether the Transit key no longer decrypts this version, C(created) when the version was made, and
          C(age_days) how many days ago that is; null where that is not known.
        - C(oldest_version) is the oldest version that sealed the same value, before it was rewrapped. If that version was
          compromised, the value is to be changed at its source; null where an older tool sealed it.
      type: dict
      sample:
        secrets.json:
          version: 2
          behind: false
          managed: true
          damaged: false
          unreadable: false
          created: "2026-11-25T22:45:00+00:00"
          age_days: 12
          oldest_version: 1
    plain_keys:
      description: Data keys whose values are not sealed.
      type: list
      elements: str
    missing_keys:
      description: Data keys that were sealed and are gone.
      type: list
      elements: str
    exposing_annotations:
      description:
        - Annotations that hold plaintext of sealed data keys, as C(kubectl apply) of a plaintext manifest leaves it. A run of
          M(kubevault.core.kubevault_secret) removes them.
      type: list
      elements: str
    sealed_for:
      description: The Secret, as C(NAMESPACE/NAME), that the values were sealed for, where this one is a copy that nobody can open; null
        otherwise.
      type: str
    key_missing:
      description: Whether Vault has no Transit key of that name.
      type: bool
    error:
      description: Why the Secret's manifest cannot be read; null where it can.
      type: str
"""

from contextlib import nullcontext

from ..module_utils.kubevault import connect_to_kubernetes, connection_options, logged_in_vault, require
from ..module_utils.kubevault_arguments import Module
from ..module_utils.kubevault_options import KUBERNETES_OPTIONS, TRANSIT_OPTIONS, VAULT_OPTIONS
from ..module_utils.kubevault_results import guarded

FAULTS = ["behind", "damaged", "plain", "unreadable"]


@guarded
def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec={
            "name": {"type": "str"},
            "namespace": {"type": "str"},
            "label_selectors": {"type": "list", "elements": "str", "default": ["kubevault.io/sealed=true"]},
            # no_log false: name of a key, not a key. Ansible would otherwise warn.
            "transit_key": {"type": "str", "no_log": False},
            "fail_if": {"type": "list", "elements": "str", "choices": FAULTS, "default": []},
            **TRANSIT_OPTIONS,
            **VAULT_OPTIONS,
            **KUBERNETES_OPTIONS,
        },
        required_by={"name": ["namespace"]},
        supports_check_mode=True,
    )
    try:
        from secretmanager.errors import SecretManagerError, SecretNotFound
        from secretmanager.sealing.inspection import KeyStates, facts, faults, inspect
    except ImportError as error:
        require(module, "kubevault", error)

    params = module.params
    try:
        kubernetes = connect_to_kubernetes(module)
        if params["name"]:
            try:
                secrets = [kubernetes.get_secret(params["namespace"], params["name"])]
            except SecretNotFound:
                secrets = []
        else:
            secrets = kubernetes.list_secrets(params["namespace"], ",".join(params["label_selectors"]))
        with logged_in_vault(module) if connection_options(module)["vault_url"] else nullcontext() as vault:
            infos = list(inspect(secrets, KeyStates(vault), params["transit_key"]))
        if params["namespace"] and not infos and not module.check_mode:  # where it may be created before a run
            kubernetes.require_namespace(params["namespace"])
    except SecretManagerError as error:
        module.fail_json(msg=str(error))
    infos = [info for info in infos if info.values or info.transit_key or info.error]
    sealed = [facts(info) for info in infos]
    if problems := [line for info in infos for line in faults(info, params["fail_if"])]:
        module.fail_json(msg="\n".join(problems), secrets=sealed)
    module.exit_json(changed=False, secrets=sealed)


if __name__ == "__main__":
    main()
