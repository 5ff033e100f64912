#!/usr/bin/python
# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: a Kubernetes Secret whose values Vault has sealed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubevault_secret
short_description: Keep a Kubernetes Secret sealed by Vault
version_added: "0.1.0"
author: KUBEVAULT (@kubevault)
description:
  - Encrypts values with a key of Vault's Transit engine and keeps the ciphertext in a Kubernetes Secret.
  - A second run with the same values writes nothing. It compares digests (Transit HMACs) and needs no leave
    to decrypt.
  - Data keys that are not given are left alone.
options:
  name:
    description: Name of the Secret.
    type: str
    required: true
  namespace:
    description: Namespace of the Secret. It must exist.
    type: str
    required: true
  data:
    description:
      - The values, by data key. Text is sealed as UTF-8, a dict or list as JSON.
      - Quote numbers and booleans; they are refused, since their text is not certain.
    type: dict
    required: true
  transit_key:
    description: The Transit key that encrypts. It must exist.
    type: str
    required: true
  digest_key:
    description:
      - The Transit key of the digests, which is never rotated. Without it, O(transit_key) followed by
        C(-digest).
    type: str
  transit_mount:
    description: Where the Transit engine is mounted.
    type: str
    default: transit
  scope:
    description:
      - V(strict) binds each ciphertext to its namespace, Secret and data key; elsewhere it does not decrypt.
        The Transit key must be C(derived).
      - V(cluster-wide) does not bind it. The Transit key must not be C(derived).
    type: str
    choices: [strict, cluster-wide]
    default: strict
  force:
    description:
      - Take over a Secret, or data keys, that this module did not seal. Their values are replaced by those
        given.
    type: bool
    default: false
extends_documentation_fragment:
  - kubevault_vault
  - kubevault_kubernetes
attributes:
  check_mode:
    description: Compares, writes nothing, and says what a run would change.
    support: full
  diff_mode:
    description: Shows which data keys are added or changed, never a value.
    support: full
requirements:
  - kubevault (Python package)
"""

EXAMPLES = r"""
- name: A JSON text, bound to its place
  kubevault_secret:
    name: matrix-secrets
    namespace: default
    transit_key: matrix
    data:
      secrets.json: "{{ matrix }}"

- name: A key that is not derived
  kubevault_secret:
    name: matrix-secrets
    namespace: default
    transit_key: aes256-key
    scope: cluster-wide
    data:
      secrets.json: "{{ matrix }}"
"""

RETURN = r"""
secret:
  description: What was done, or in check mode would be. It holds no value.
  returned: success
  type: dict
  contains:
    namespace:
      description: The Secret's namespace.
      type: str
      sample: default
    name:
      description: The Secret's name.
      type: str
      sample: matrix-secrets
    created:
      description: Whether the Secret is new.
      type: bool
    added:
      description: Data keys that are new.
      type: list
      elements: str
      sample: [secrets.json]
    updated:
      description: Data keys whose value changed.
      type: list
      elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.kubevault import (
    KUBERNETES_OPTIONS,
    VAULT_OPTIONS,
    VAULT_REQUIRED_IF,
    connect_to_vault,
    require,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "data": {"type": "dict", "required": True, "no_log": True},
            # no_log false: names of keys, not keys. Ansible would otherwise warn.
            "transit_key": {"type": "str", "required": True, "no_log": False},
            "digest_key": {"type": "str", "no_log": False},
            "transit_mount": {"type": "str", "default": "transit"},
            "scope": {"type": "str", "choices": ["strict", "cluster-wide"], "default": "strict"},
            "force": {"type": "bool", "default": False},
            **VAULT_OPTIONS,
            **KUBERNETES_OPTIONS,
        },
        required_if=VAULT_REQUIRED_IF,
        supports_check_mode=True,
    )
    try:
        from secretmanager.errors import SecretManagerError
        from secretmanager.kubernetes import KubernetesClient
        from secretmanager.sealed import Scope
        from secretmanager.sealing import Sealer, Wanted, plaintext
    except ImportError as error:
        require(module, "kubevault", error)

    params = module.params
    try:
        wanted = Wanted(
            params["namespace"],
            params["name"],
            {key: plaintext(value, f"data[{key}]") for key, value in params["data"].items()},
        )
        sealer = Sealer(
            connect_to_vault(module, params["transit_mount"]),
            KubernetesClient.from_kubeconfig(params["kubeconfig"], params["context"]),
            params["transit_key"],
            scope=Scope(params["scope"]),
            digest_key=params["digest_key"],
        )
        outcome = sealer.seal(wanted, force=params["force"], check=module.check_mode)
    except SecretManagerError as error:
        module.fail_json(msg=str(error))

    secret = {
        "namespace": outcome.namespace,
        "name": outcome.name,
        "created": outcome.created,
        "added": list(outcome.added),
        "updated": list(outcome.updated),
    }
    result = {"changed": outcome.changed, "secret": secret}
    if module._diff:
        # A data key that stays is the same on both sides; what changes is told by a word.
        result["diff"] = {
            "before": dict.fromkeys(outcome.updated, "sealed"),
            "after": dict.fromkeys(outcome.updated, "sealed anew") | dict.fromkeys(outcome.added, "sealed"),
        }
    module.exit_json(**result)


if __name__ == "__main__":
    main()
