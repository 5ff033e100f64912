#!/usr/bin/python
# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: what Vault's API shall hold at some paths."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_resource
short_description: Keep resources of Vault's API as declared
version_added: "0.1.0"
author: KUBEVAULT (@kubevault)
description:
  - Reads a path of Vault's API, compares it with the declaration, and writes only if they differ. A second run
    changes nothing.
  - It works for every path whose read returns what a write sets, among them policies (C(sys/policies/acl/NAME)), mounts
    (C(sys/mounts/PATH), C(sys/auth/PATH)), keys (C(transit/keys/NAME)), and the configuration and roles of auth methods
    (C(auth/kubernetes/config), C(auth/kubernetes/role/NAME)).
  - Many resources can be declared in one task. They are processed in the order given, over one connection.
  - Values are compared as Vault understands them. Durations such as V(10s), V(1h30m), V(90) or V(30d) are compared in
    seconds. Lists that mean a set to Vault (as C(token_policies)) are compared without order. Policies
    and PEM texts are compared without the white space around them. A dict is compared for the keys given.
  - After a write the path is read back. A field that Vault ignored, as it does silently with many that it does not know,
    is an error.
options:
  resources:
    description: The resources, processed one after the other. A path may occur only once.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: The path in Vault's API, without C(/v1/).
        type: str
        required: true
      data:
        description:
          - The fields, by their names in Vault's API. Fields that are not given are left as they are.
          - Declared and existing values appear in the diff and in errors. Values that must not appear belong in
            O(resources[].secret_data).
        type: dict
        default: {}
      secret_data:
        description:
          - Fields that Vault never shows, as C(token_reviewer_jwt). They are sent with each write, but never compared and
            never shown.
          - If Vault reports C(FIELD_set) as false, they are written. Otherwise O(resources[].refresh) says that they are out of
            date.
        type: dict
        default: {}
      refresh:
        description: Write even though the readable fields match, because Vault's copy of O(resources[].secret_data) is out of date.
        type: bool
        default: false
      state:
        description:
          - V(present) sets the fields. V(absent) deletes the path.
          - Deleting a mount deletes everything in it. A Transit key is deleted only if its C(deletion_allowed) is true.
        type: str
        choices: [present, absent]
        default: present
  prune:
    description:
      - Lists of Vault, in which each entry of ours that is not among O(resources) is deleted, as if it were there with V(absent). So what a
        declaration no longer has does not stay. Paths are compared without case, as Vault takes the names of policies and roles.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The list, such as C(auth/kubernetes/role) or C(sys/policies/acl). One that does not exist has no entries.
        type: str
        required: true
      names:
        description: Patterns, with C(*), of the names that are looked at. The others are not even read.
        type: list
        elements: str
        default: ["*"]
      field:
        description: The field that says whose an entry is, such as C(token_policies) of a role or C(policy) of a policy.
        type: str
        required: true
      contains:
        description: An item of the field, or a line of a text, that only entries of ours have.
        type: str
        required: true
extends_documentation_fragment:
  - kubevault.core.kubevault_elevation
  - kubevault.core.kubevault_vault.connection
  - kubevault.core.kubevault_vault.login
attributes:
  check_mode:
    description: Reads, compares, and writes nothing. It says what a run would change.
    support: full
  diff_mode:
    description: Shows the fields that differ, a path after the other; of write-only fields that they are written, never a value.
    support: full
notes:
  - "Mounts: C(type), C(local) and C(seal_wrap) cannot change. C(description), C(options), C(plugin_version) and the fields of
    C(config) can, and are written to C(PATH/tune). The token needs C(sudo) on C(sys/auth/*), even to read."
  - "A path C(MOUNT/keys/NAME) is taken for a Transit key. C(type), C(derived), C(convergent_encryption) and C(key_size) are
    fixed when it is made. C(exportable) and C(allow_plaintext_backup) can be turned on, never off. Such a difference is an
    error that names the field."
  - "Audit devices (C(sys/audit/NAME)) cannot change. The token needs C(sudo) on C(sys/audit), to read, and on C(sys/audit/NAME)."
  - C(auth/PATH/config) of the Kubernetes method is written as a whole by Vault. So a write says again what was found, and
    it is an error to change it without the C(token_reviewer_jwt) that Vault holds, since that would remove it.
  - The notes of M(kubevault.core.kubevault_secret) on pipelining and loops hold for O(resources[].secret_data) and tokens too.
  - It is not for values of a KV engine, which it would show. The module M(kubevault.core.kubevault_secret) keeps secrets.
seealso:
  - module: kubevault.core.vault_init
  - module: kubevault.core.vault_token
  - name: Vault's HTTP API
    description: Paths and fields.
    link: https://developer.hashicorp.com/vault/api-docs
"""

EXAMPLES = r"""
- name: The Transit engine and its keys
  kubevault.core.vault_resource:
    vault_url: https://vault.example.org:8200
    vault_ca_cert: /etc/vault.d/ca.pem
    vault_token_file: /root/.vault-operator
    resources:
      - path: sys/mounts/transit
        data:
          type: transit
          description: Keys of sealed secrets
      - path: transit/keys/aes256-key
        data:
          type: aes256-gcm96
          derived: true
          exportable: false
          deletion_allowed: false
          auto_rotate_period: 30d

- name: A policy, and the role that grants it for ten seconds
  kubevault.core.vault_resource:
    resources:
      - path: sys/policies/acl/kubevault-reader
        data:
          policy: |
            path "transit/decrypt/aes256-key" {
              capabilities = ["update"]
            }
      - path: auth/kubernetes/role/demo
        data:
          bound_service_account_names: [default]
          bound_service_account_namespaces: [default]
          audience: vault
          token_policies: [kubevault-reader]
          token_ttl: 10s

- name: The Kubernetes API that checks service accounts' tokens
  kubevault.core.vault_resource:
    resources:
      - path: auth/kubernetes/config
        data:
          kubernetes_host: https://127.0.0.1:6443
          kubernetes_ca_cert: "{{ cluster_ca }}"
          disable_local_ca_jwt: true
        secret_data:
          token_reviewer_jwt: "{{ reviewer_jwt }}"
        refresh: "{{ not login.allowed }}"

- name: A role whose deletion, or creation, needs a privileged token; all other roles that we made are deleted
  kubevault.core.vault_resource:
    vault_token_file: secrets/vault-operator-token
    elevate: false  # asks
    keys_file: secrets/vault-unseal-keys.json
    resources:
      - path: auth/kubernetes/role/demo
        data:
          bound_service_account_names: [default]
          bound_service_account_namespaces: [default]
          audience: vault
          token_policies: [kubevault-reader, made-by-us]
    prune:
      - path: auth/kubernetes/role
        field: token_policies
        contains: made-by-us

- name: A role that is not wanted any more
  kubevault.core.vault_resource:
    resources:
      - path: auth/kubernetes/role/old
        state: absent
"""

RETURN = r"""
resources:
  description:
    - What was done, in the order of the option O(resources). Where the module fails, what it had done before; the message
      says so too.
  returned: success, or failure at one of the resources
  type: list
  elements: dict
  contains:
    path:
      description: The resource's path.
      type: str
      sample: auth/kubernetes/role/demo
    changed:
      description: Whether it was written or deleted, or in check mode would be.
      type: bool
    fields:
      description: The fields that differed; C(state) if the path was created or deleted.
      type: list
      elements: str
      sample: [token_ttl]
"""

from contextlib import ExitStack

from ..module_utils.kubevault import administer_vault, logged_in_vault, require
from ..module_utils.kubevault_arguments import Module
from ..module_utils.kubevault_elevation import ELEVATION_OPTIONS, may_elevate, privileged_token
from ..module_utils.kubevault_options import VAULT_OPTIONS
from ..module_utils.kubevault_results import conceal, guarded, warn


@guarded
def main() -> None:
    module = Module(
        argument_spec={
            "resources": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "str", "required": True},
                    "data": {"type": "dict", "default": {}},
                    "secret_data": {"type": "dict", "default": {}, "no_log": True},
                    "refresh": {"type": "bool", "default": False},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
            },
            "prune": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "names": {"type": "list", "elements": "str", "default": ["*"]},
                    "field": {"type": "str", "required": True},
                    "contains": {"type": "str", "required": True},
                },
            },
            **ELEVATION_OPTIONS,
            **VAULT_OPTIONS,
        },
        supports_check_mode=True,
    )
    entries = module.params["resources"]
    secrets = [conceal(module, entry, "secret_data") for entry in entries]
    try:
        from secretmanager.admin.connection import Vault
        from secretmanager.admin.resources import Outcome, Owned, Resource, apply, check_batch, foretell, superfluous
        from secretmanager.errors import SecretManagerError
    except ImportError as error:
        require(module, "kubevault", error)

    outcomes: list[Outcome] = []
    resources: list[Resource] = []

    def result() -> dict[str, object]:
        return {
            "changed": any(outcome.changed for outcome in outcomes),
            "resources": [
                {"path": outcome.path, "changed": outcome.changed, "fields": outcome.fields} for outcome in outcomes
            ],
            "diff": [outcome.diff() for outcome in outcomes if outcome.changed],
        }

    try:
        resources += [
            Resource(**{**entry, "secret_data": secret}) for entry, secret in zip(entries, secrets, strict=True)
        ]
        check_batch(resources)
        with logged_in_vault(module) as client, ExitStack() as stack:
            vault = Vault(client)
            for owned in module.params["prune"]:
                resources += superfluous(vault, Owned(**owned), resources)
            foretold = {each.path: foretell(vault, each) for each in resources} if may_elevate(module) else {}
            denied = [outcome for outcome in foretold.values() if outcome.denied]
            writer = vault
            if denied and not module.check_mode:
                changes = [f"{outcome.path} ({outcome.summary})" for outcome in denied]
                writer = administer_vault(module, stack.enter_context(privileged_token(module, changes)))
            for resource in resources:
                foretold_outcome = foretold.get(resource.path)
                if foretold_outcome and (module.check_mode or not foretold_outcome.changed):
                    outcome = foretold_outcome
                else:
                    outcome = apply(writer if foretold_outcome in denied else vault, resource, check=module.check_mode)
                outcomes.append(outcome)
                for warning in outcome.warnings:
                    warn(module, f"{outcome.path}: {warning}")
    except SecretManagerError as error:
        changed = ", ".join(outcome.path for outcome in outcomes if outcome.changed) or "none"
        progress = (
            f" ({len(outcomes)} of {len(resources)} resources were done before; changed: {changed})" if outcomes else ""
        )
        module.fail_json(msg=f"{error}{progress}", **result())
    module.exit_json(**result())


if __name__ == "__main__":
    main()
