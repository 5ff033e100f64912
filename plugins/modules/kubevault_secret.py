#!/usr/bin/python
# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: Kubernetes Secrets whose values Vault has sealed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubevault_secret
short_description: Keep Kubernetes Secrets sealed by Vault
version_added: "0.1.0"
author: KUBEVAULT (@kubevault)
description:
  - Encrypts values with a key of Vault's Transit engine and keeps the ciphertext in Kubernetes Secrets, or in a YAML manifest
    to be committed, or both.
  - A second run with the same values writes nothing. It compares digests (Transit HMACs) that it keeps beside the ciphertext,
    and does not need permission to decrypt. Only values that changed are encrypted again.
  - Everything is validated before the first write. Each Secret is written in one request, and only if it is still as it was
    read; otherwise it is read again and the change is applied to that.
  - Pass many Secrets as O(secrets) of one task. Vault then receives all their values in a few requests, and Kubernetes is
    written over several kept-alive connections.
options:
  secrets:
    description:
      - Several Secrets, instead of O(name). Options that an entry leaves out are taken from the task's options of the same name.
    type: list
    elements: dict
    suboptions:
      name: &name
        description: Name of the Secret, an RFC 1123 subdomain.
        type: str
      namespace: &namespace
        description: Namespace of the Secret. It must exist.
        type: str
      state: &state
        description:
          - V(present) seals the values in the Secret.
          - V(absent) deletes the whole Secret. If it, or one of its data keys, was not sealed by this module, that requires
            O(force).
          - A Secret that has finalizers exists until they are done. The module does not wait for that. It warns, and the result names
            the finalizers.
          - In an entry of O(secrets), the default is the value of the task.
        type: str
        choices: [present, absent]
      data: &data
        description:
          - Values by data key. Text is sealed as UTF-8, a dict or list as JSON with sorted keys.
          - Numbers, booleans and null are refused, because their text form is ambiguous. Quote them, or add C(| string) to a
            template. Keys must be text too, so quote C(NO), C(on), C(1.5) and the like, which YAML 1.1 reads as other types.
        type: dict
      binary_data: &binary_data
        description: Values by data key, in base64.
        type: dict
      files: &files
        description:
          - Files by data key, whose content is sealed as it is. They are files of the controller, found as
            M(ansible.builtin.copy) finds O(ansible.builtin.copy#module:src), and may be encrypted by ansible-vault.
        type: dict
      transit_key: &transit_key
        description: The Transit key that encrypts. It must exist. It is required if there is something to seal.
        type: str
      digest_key: &digest_key
        description:
          - The Transit key of the digests. It must exist. If it is rotated, values that stay the same keep their digests. With another
            key, and after its C(min_encryption_version) was raised, they are sealed again, and count as changed.
          - Without it, O(transit_key) followed by C(-digest).
        type: str
      scope: &scope
        description:
          - Where the ciphertext can be decrypted. V(strict) means under its own namespace, Secret and data key;
            V(namespace-wide) means in its own namespace. Both require a Transit key that is C(derived). V(cluster-wide) means
            anywhere, and requires a key that is not derived.
          - Without it, a Secret keeps its scope. A new Secret is V(strict) if the key is derived, otherwise V(cluster-wide). A
            Secret never gets a wider scope unless this option says so. The result contains the scope.
        type: str
        choices: [strict, namespace-wide, cluster-wide]
      behavior: &behavior
        description:
          - What happens to data keys that this module sealed and that are not given. V(merge) keeps them, V(replace) removes
            them.
          - Data keys that others manage always stay, unless O(absent_keys) names them.
        type: str
        choices: [merge, replace]
      absent_keys: &absent_keys
        description: Data keys to remove, whoever created them.
        type: list
        elements: raw
      labels: &labels
        description: Labels to set. Others stay.
        type: dict
      annotations: &annotations
        description: Annotations to set. Others stay.
        type: dict
      bank_vaults_skip: &bank_vaults_skip
        description:
          - Set the annotations that keep bank-vaults' webhook from the Secret, C(secrets-webhook.security.bank-vaults.io/mutate) and
            C(vault.security.banzaicloud.io/mutate), to V(skip).
          - That webhook takes values that begin with C(vault:) for references to Vault's secrets. All ciphertexts of Transit do.
        type: bool
      type: &type
        description: Type of the Secret. A new Secret is C(Opaque) by default. Changing the type requires O(recreate).
        type: str
      immutable: &immutable
        description:
          - Whether Kubernetes refuses later changes of the data. By default, this stays as it is. Changing an immutable Secret
            requires O(recreate).
        type: bool
      recreate: &recreate
        description:
          - Delete and recreate a Secret if the change affects fields that Kubernetes makes immutable, which are the data of an
            immutable Secret, and the type.
          - Between the two requests there is no Secret. If a run is interrupted there, the next run creates it.
          - A Secret that is being deleted already is created again when it is gone. See O(timeout).
        type: bool
      force: &force
        description:
          - Take over, or delete, a Secret or data keys that this module did not seal. The given values replace the existing ones.
        type: bool
      adopt: &adopt
        description:
          - Take over a Secret or data keys that this module did not seal, and seal the existing plaintext in place. Given values
            replace existing ones. An annotation in which C(kubectl apply) kept the plaintext is removed.
          - Existing ciphertext, which an older tool sealed, stays as it is.
        type: bool
      allow_empty: &allow_empty
        description: Seal a value also if it is empty. Otherwise that is an error, since it is how a lookup or a command that failed
          looks, and it would replace a good value.
        type: bool
      restart: &restart
        description:
          - Workloads to restart after a change of the values, each C(Deployment/NAME), C(StatefulSet/NAME) or C(DaemonSet/NAME) of the
            Secret's namespace. They must exist before the Secret is sealed.
          - The word V(annotated) in the list means all workloads of the namespace whose annotation C(kubevault.io/secrets) names the
            Secret, as C(kubevault.io/secrets=database,token) does. That needs permission to list them. There may be none yet.
          - A workload is restarted once in a task, and only if one of its Secrets has another value than its pods were started for. A
            rewrap, or a rotation of a key, restarts nothing.
          - The pod template's annotation C(kubevault.io/digest) has an entry for each Secret, a hash of its digests. A workload without
            an entry for the Secret, as at first, is restarted once.
          - If a task is interrupted after a Secret was written, the next one restarts the workload.
          - With O(state=absent), nothing is restarted.
        type: list
        elements: str
  name: *name
  namespace: *namespace
  state: {<<: *state, default: present}
  data: *data
  binary_data: *binary_data
  files: *files
  transit_key: *transit_key
  digest_key: *digest_key
  scope: *scope
  behavior: {<<: *behavior, default: merge}
  absent_keys: *absent_keys
  labels: *labels
  annotations: *annotations
  bank_vaults_skip: {<<: *bank_vaults_skip, default: false}
  type: *type
  immutable: *immutable
  recreate: {<<: *recreate, default: false}
  force: {<<: *force, default: false}
  adopt: {<<: *adopt, default: false}
  allow_empty: {<<: *allow_empty, default: false}
  restart: *restart
  restart_dest:
    description:
      - YAML file, on the host that runs the module, with the manifests of the workloads of O(restart), or patches for them. The stamp is
        written there, to be committed, and not in Kubernetes. What else is in the file stays byte for byte as it was.
    type: path
  restart_wait:
    description:
      - Wait until the rollouts of all workloads of O(restart) are done, as C(kubectl rollout status) does, and fail with what keeps
        them if they are not.
    type: bool
    default: false
  restart_timeout:
    description: How long O(restart_wait) waits, in seconds.
    type: float
    default: 300.0
  dest:
    description:
      - YAML file, on the host that runs the module, to which the sealed Secrets are written as manifests, one document each.
        Ciphertext is safe to commit.
      - What did not change stays byte for byte as it was. Other documents in the file, and comments, stay.
    type: path
  apply:
    description:
      - Whether to write to Kubernetes. The default is true, unless O(dest) is given.
      - With O(dest), Kubernetes receives the same ciphertext as the file, if the value is missing or differs.
    type: bool
  timeout:
    description: How long O(recreate) waits for the end of a Secret that has finalizers, in seconds.
    type: float
    default: 30.0
  concurrency:
    description: How many Secrets are written to Kubernetes at once.
    type: int
    default: 8
extends_documentation_fragment:
  - kubevault.core.kubevault_vault.connection
  - kubevault.core.kubevault_vault.transit
  - kubevault.core.kubevault_vault.login
  - kubevault.core.kubevault_redis
  - kubevault.core.kubevault_kubernetes
attributes:
  check_mode:
    description:
      - Compares, has Kubernetes validate the changes (C(dryRun)), writes nothing, and reports what a run would change.
      - An earlier task of a run may create a Transit key, a namespace, a file of O(files) or a value that is null. So it is a
        warning in check mode that they do not exist yet, and an error only in a run.
    support: full
  diff_mode:
    description: Shows data keys, labels and annotations that are added, changed or removed; never a value, a length or a version.
    support: full
requirements:
  - kubevault (Python package)
notes:
  - Secrets among the options of this collection's modules reach a host through a pipe (C(pipelining), which the action plugin
    turns on), not in a file. What would write them to a file is refused, which is C(async), C(ANSIBLE_KEEP_REMOTE_FILES), and
    become methods and connections without pipelining, such as C(su). The modules need only the APIs of the servers, so
    C(delegate_to=localhost) without C(become) always works. C(ANSIBLE_DEBUG), which prints all arguments, is refused too.
  - Do not loop over values, because Ansible prints the items. Give a dict of all data keys as O(data), and many Secrets as
    O(secrets); or set C(no_log). The action plugin warns of such a loop, of C(ANSIBLE_DISPLAY_ARGS_TO_STDOUT), and of a token
    in the task's C(environment), which is on a command line.
  - Used by C(ANSIBLE_LIBRARY) alone, without the action plugin, the module fails unless C(pipelining) is set.
seealso:
  - module: kubevault.core.kubevault_secret_info
  - plugin: kubevault.core.kubevault
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: A JSON text
  kubevault.core.kubevault_secret:
    name: matrix-secrets
    namespace: default
    transit_key: aes256-key
    data:
      secrets.json: "{{ matrix }}"

- name: Many Secrets at once, of several kinds of values
  kubevault.core.kubevault_secret:
    transit_key: payments-key
    namespace: payments
    secrets:
      - name: database
        data: {dsn: "{{ payments_dsn }}"}
      # Without the type kubernetes.io/tls: an Ingress that uses such a Secret would get ciphertext.
      - name: service-tls
        files: {tls.crt: payments.crt, tls.key: payments.key}
      - name: token
        binary_data: {token: "{{ lookup('file', 'token.b64') }}"}
        labels: {app: payments}

- name: Seal in place what a Secret holds in plain
  kubevault.core.kubevault_secret:
    name: legacy
    namespace: default
    transit_key: aes256-key
    adopt: true

- name: Write a manifest for Git, and nothing to Kubernetes
  kubevault.core.kubevault_secret:
    name: matrix-secrets
    namespace: default
    transit_key: aes256-key
    data: {secrets.json: "{{ matrix }}"}
    dest: "{{ playbook_dir }}/manifests/matrix-secrets.yml"

- name: Restart what reads the values, if they changed, and wait for it
  kubevault.core.kubevault_secret:
    namespace: shop
    transit_key: shop-key
    restart: [Deployment/shop, StatefulSet/queue]
    restart_wait: true
    secrets:
      - name: database
        data: {dsn: "{{ shop_dsn }}"}
      - name: token
        data: {token: "{{ shop_token }}"}

- name: Write both for Git, the Secret and the stamp of what reads it
  kubevault.core.kubevault_secret:
    name: database
    namespace: shop
    transit_key: shop-key
    data: {dsn: "{{ shop_dsn }}"}
    dest: "{{ playbook_dir }}/manifests/database.yml"
    restart: [Deployment/shop]
    restart_dest: "{{ playbook_dir }}/manifests/shop.yml"

- name: Log in with an AppRole
  kubevault.core.kubevault_secret:
    vault_url: https://vault.example.org:8200
    vault_auth_method: approle
    vault_role_id: "{{ role_id }}"
    vault_secret_id: "{{ secret_id }}"
    name: matrix-secrets
    namespace: default
    transit_key: aes256-key
    data: {secrets.json: "{{ matrix }}"}
"""

RETURN = r"""
secrets:
  description: What was done, or in check mode would be, in the order given. It holds no value.
  returned: with O(secrets), on success, or on failure after some were written
  type: list
  elements: dict
  contains:
    namespace: &namespace
      description: The Secret's namespace.
      type: str
      sample: default
    name: &name
      description: The Secret's name.
      type: str
      sample: matrix-secrets
    action: &action
      description:
        - What became of it; C(unchanged), C(created), C(updated), C(recreated), C(deleted), or C(deleting) if Kubernetes keeps it until
          its finalizers are done.
      type: str
      sample: created
    transit_key: &transit_key
      description: The Transit key that its values are sealed with.
      type: str
      sample: aes256-key
    scope: &scope
      description: Where they decrypt.
      type: str
      sample: cluster-wide
    added: &added
      description: Data keys that are new.
      type: list
      elements: str
      sample: [secrets.json]
    updated: &updated
      description: Data keys whose values were encrypted again.
      type: list
      elements: str
    removed: &removed
      description: Data keys that are gone.
      type: list
      elements: str
    adopted: &adopted
      description: Those of RV(secrets[].updated) whose plaintext was found in the Secret.
      type: list
      elements: str
    metadata: &metadata
      description: What else changed; C(labels), C(annotations), C(type), C(immutable).
      type: list
      elements: str
    awaits: &awaits
      description: What does not exist yet and has to be created before; then the scope may be unknown.
      returned: in check mode, if there is something
      type: list
      elements: str
      sample: [namespace payments, Transit key payments-key]
    finalizers: &finalizers
      description: The finalizers that keep a Secret which is deleted. It still exists.
      returned: with O(state=absent), if there are any
      type: list
      elements: str
    plain: &plain
      description: Data keys that were sealed here and hold plaintext now, which somebody wrote over the ciphertext. They stay so
        without a new value or O(adopt).
      returned: if there are any
      type: list
      elements: str
    altered: &altered
      description: Data keys that were not as they were sealed, because somebody changed ciphertext or manifest, or rewrapped it without
        a proof. They are sealed again.
      returned: if there are any
      type: list
      elements: str
    unproven: &unproven
      description: Such data keys whose values are not given. They stay so.
      returned: if there are any
      type: list
      elements: str
secret:
  description: The same of one Secret.
  returned: with O(name), on success
  type: dict
  contains:
    namespace: *namespace
    name: *name
    action: *action
    transit_key: *transit_key
    scope: *scope
    added: *added
    updated: *updated
    removed: *removed
    adopted: *adopted
    metadata: *metadata
    awaits: *awaits
    finalizers: *finalizers
    plain: *plain
    altered: *altered
    unproven: *unproven
restarted:
  description: The workloads that were, or in check mode would be, restarted.
  returned: with O(restart)
  type: list
  elements: dict
  contains:
    namespace:
      description: The workload's namespace.
      type: str
      sample: shop
    kind:
      description: Its kind.
      type: str
      sample: Deployment
    name:
      description: Its name.
      type: str
      sample: shop
    secrets:
      description: The Secrets whose values are others than its pods were started for.
      type: list
      elements: str
      sample: [database]
dest:
  description: The manifest file.
  returned: with O(dest)
  type: str
dest_changed:
  description: Whether the manifest file was, or would be, written.
  returned: with O(dest)
  type: bool
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from ..module_utils.kubevault import connect_to_kubernetes, connection_options, logged_in_vault, require
from ..module_utils.kubevault_arguments import Module
from ..module_utils.kubevault_options import KUBERNETES_OPTIONS, REDIS_OPTIONS, TRANSIT_OPTIONS, VAULT_OPTIONS
from ..module_utils.kubevault_results import conceal, finish, guarded, warn

if TYPE_CHECKING:
    from secretmanager.sealing.plan import Outcome
    from secretmanager.sealing.spec import SecretSpec

SECRET_OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str"},
    "namespace": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"]},
    "data": {"type": "dict", "no_log": True},
    "binary_data": {"type": "dict", "no_log": True},
    "files": {"type": "dict"},
    # no_log false: names of keys, not keys. Ansible would otherwise warn.
    "transit_key": {"type": "str", "no_log": False},
    "digest_key": {"type": "str", "no_log": False},
    "scope": {"type": "str", "choices": ["strict", "namespace-wide", "cluster-wide"]},
    "behavior": {"type": "str", "choices": ["merge", "replace"]},
    # raw: the package refuses what is not text, which Ansible would convert ("False" from NO).
    "absent_keys": {"type": "list", "elements": "raw", "no_log": False},
    "labels": {"type": "dict"},
    "annotations": {"type": "dict"},
    "bank_vaults_skip": {"type": "bool"},
    "type": {"type": "str"},
    "immutable": {"type": "bool"},
    "recreate": {"type": "bool"},
    "force": {"type": "bool"},
    "adopt": {"type": "bool"},
    "allow_empty": {"type": "bool"},
    "restart": {"type": "list", "elements": "str"},
}
"""Options of one Secret, which the task has as well as each entry of ``secrets``."""

DEFAULTS = {
    "state": "present",
    "behavior": "merge",
    "recreate": False,
    "force": False,
    "adopt": False,
    "allow_empty": False,
    "bank_vaults_skip": False,
}


@guarded
def main() -> None:
    """Run the module."""
    task_options = {
        name: {**spec, "default": DEFAULTS[name]} if name in DEFAULTS else spec for name, spec in SECRET_OPTIONS.items()
    }
    module = Module(
        argument_spec={
            "secrets": {"type": "list", "elements": "dict", "no_log": False, "options": SECRET_OPTIONS},
            **task_options,
            **TRANSIT_OPTIONS,
            "dest": {"type": "path"},
            "apply": {"type": "bool"},
            "restart_dest": {"type": "path"},
            "restart_wait": {"type": "bool", "default": False},
            "restart_timeout": {"type": "float", "default": 300.0},
            "timeout": {"type": "float", "default": 30.0},
            "concurrency": {"type": "int", "default": 8},
            **REDIS_OPTIONS,
            **VAULT_OPTIONS,
            **KUBERNETES_OPTIONS,
        },
        required_one_of=[("name", "secrets")],
        mutually_exclusive=[("secrets", name) for name in ("name", "data", "binary_data", "files", "absent_keys")],
        supports_check_mode=True,
    )
    entries = take_secrets(module)
    try:
        from secretmanager.errors import SealingFailed, SecretManagerError
        from secretmanager.sealing.plan import awaited
        from secretmanager.sealing.spec import from_options
    except ImportError as error:
        require(module, "kubevault", error)

    params = module.params
    if params["concurrency"] < 1:
        module.fail_json(msg=f"concurrency is {params['concurrency']}; allowed is 1 or more")
    try:
        several = params["secrets"] is not None
        base = {name: params[name] for name in SECRET_OPTIONS if several and params[name] is not None}
        specs = from_options(entries, base)
        outcomes, result, restart_diffs = seal(module, specs)
    except SealingFailed as error:
        changed = bool(error.file) or any(outcome.changed for outcome in error.outcomes)
        dest = {"dest": params["dest"], "dest_changed": bool(error.file)} if params["dest"] else {}
        module.fail_json(
            msg=str(error), changed=changed, **dest, secrets=[outcome.facts() for outcome in error.outcomes]
        )
    except SecretManagerError as error:
        module.fail_json(msg=str(error))
    for warning in (warning for outcome in outcomes for warning in outcome.warnings):
        warn(module, warning)
    facts = [outcome.facts() for outcome in outcomes]
    result |= {"secrets": facts} if several else {"secret": facts[0]}
    if warning := awaited(outcomes):
        warn(module, warning)
    if module._diff:
        diffs = [outcome.diff(spec) for spec, outcome in zip(specs, outcomes, strict=True) if outcome.changed]
        result["diff"] = diffs + restart_diffs
    finish(module, result, [entry[name] for entry in entries for name in ("data", "binary_data")])


def take_secrets(module: Module) -> list[dict[str, Any]]:
    """Return the entries with their secrets, which leave the parameters."""
    params = module.params
    holders = [params] if params["secrets"] is None else params["secrets"]
    entries = []
    for holder in holders:
        entry = {name: holder[name] for name in SECRET_OPTIONS}
        for name in ("data", "binary_data"):
            if holder[name] is not None:
                entry[name] = conceal(module, holder, name)
        entries.append(entry)
    if params["secrets"] is not None:
        # What was not given need not be in the result's invocation a thousand times.
        params["secrets"] = [{name: item for name, item in each.items() if item is not None} for each in holders]
    return entries


def seal(module: Module, specs: list[SecretSpec]) -> tuple[list[Outcome], dict[str, Any], list[dict[str, Any]]]:
    """Seal into the manifest file, into Kubernetes, or both, and restart what reads it.

    Returns:
        What was done, further results, and the diffs of the restarts.
    """
    from secretmanager.errors import SecretManagerError
    from secretmanager.notices.announcer import announcing
    from secretmanager.restarts.finding import find_workloads
    from secretmanager.restarts.live import LiveWorkloads
    from secretmanager.sealing.manifestfile import ManifestFile
    from secretmanager.sealing.sealer import seal_into
    from secretmanager.sealing.stores import KubernetesStore

    params, dest, concurrency = module.params, module.params["dest"], module.params["concurrency"]
    apply = params["apply"] if params["apply"] is not None else not dest
    with logged_in_vault(module) as vault, announcing(connection_options(module), partial(warn, module)) as announcer:
        kubernetes = connect_to_kubernetes(module, connections=concurrency) if apply else None
        workloads = find_workloads(
            kubernetes,
            specs,
            file=params["restart_dest"],
            concurrency=concurrency,
            check=module.check_mode,
            waits=params["restart_wait"],
        )
        for warning in workloads.warnings if workloads else ():
            warn(module, warning)
        outcomes, dest_changed = seal_into(
            vault,
            specs,
            file=ManifestFile(dest) if dest else None,
            kubernetes=KubernetesStore(kubernetes, concurrency, announcer, params["timeout"]) if kubernetes else None,
            check=module.check_mode,
        )
        failure = None
        if workloads:
            try:
                workloads.stamp(outcomes)
                if isinstance(workloads, LiveWorkloads) and params["restart_wait"] and not module.check_mode:
                    workloads.wait(params["restart_timeout"])
            except SecretManagerError as error:  # also of the file: the Secrets are sealed by then
                failure = error
    restarts = workloads.restarted if workloads else []
    changed = dest_changed or bool(restarts) or any(outcome.changed for outcome in outcomes)
    result = {"changed": changed, **({"dest": dest, "dest_changed": dest_changed} if dest else {})}
    if workloads:
        result["restarted"] = [restart.facts() for restart in restarts]
    if failure:
        module.fail_json(msg=str(failure), **result, secrets=[outcome.facts() for outcome in outcomes])
    return outcomes, result, [restart.diff() for restart in restarts]


if __name__ == "__main__":
    main()
