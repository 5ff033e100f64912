#!/usr/bin/python
# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the life of a Transit key, whose older versions no Secret needs any more."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubevault_rotation
short_description: Rotate, rewrap and retire a Transit key
version_added: "0.1.0"
author: KUBEVAULT (@kubevault)
description:
  - Makes a new version of a key of Vault's Transit engine, brings all Secrets to it, and retires the older versions.
  - No plaintext leaves Vault, and no value is decrypted. Each Secret is written whole, and only if it is still as it was read;
    otherwise it is read and rewrapped again.
  - A second run changes nothing. One that was broken off is resumed by the next.
options:
  transit_key:
    description: The Transit key.
    type: str
    required: true
  rotate:
    description: Make a new version, if the newest one is older than O(older_than).
    type: bool
    default: true
  older_than:
    description: Rotate only if the newest version is at least this old, such as V(30d) or V(12h); V(0) rotates in each run.
    type: str
    default: 30d
  rewrap:
    description: Bring the Secrets to the newest version.
    type: bool
    default: false
  retire:
    description:
      - Have the key decrypt nothing that an older version than the newest sealed.
      - Fails, and retires nothing, if anything is behind, in any namespace of the cluster or in O(manifest). The message names it.
    type: bool
    default: false
  trim:
    description: With O(retire), also delete the older versions. It cannot be undone.
    type: bool
    default: false
  namespace:
    description: Namespaces whose Secrets are rewrapped; all of them by default.
    type: list
    elements: str
    default: []
  manifest:
    description: YAML files of sealed Secrets, as they are kept in Git, or folders of such files.
    type: list
    elements: path
    default: []
  kubernetes:
    description: Whether Secrets in Kubernetes are rewrapped, and looked at before versions are retired, or those of O(manifest) alone.
    type: bool
    default: true
  gitops:
    description: Also rewrap live Secrets that Argo CD or Flux owns, which may put them back.
    type: bool
    default: false
  recreate:
    description: Also rewrap immutable Secrets, which are deleted and made again.
    type: bool
    default: false
  unmanaged:
    description: Also rewrap values that an older tool sealed with this key, which no manifest names.
    type: bool
    default: false
  shard:
    description: Rewrap only this part of the Secrets, as C(I/N) with C(I) from 0 to C(N-1).
    type: str
  concurrency:
    description: Number of Secrets that are written at once.
    type: int
    default: 8
  lease_namespace:
    description:
      - Namespace of a Lease of Kubernetes that is held meanwhile, so that one rotation of the key runs at a time. Fails if
        another one is running.
      - By default there is none. No Secret is lost or damaged if two run at once.
    type: str
extends_documentation_fragment:
  - kubevault.core.kubevault_vault.connection
  - kubevault.core.kubevault_vault.transit
  - kubevault.core.kubevault_vault.login
  - kubevault.core.kubevault_kubernetes
attributes:
  check_mode:
    description: Reports what a run would do, and changes nothing. It holds no Lease.
    support: full
notes:
  - The policies C(kubevault-rotator-KEY) and C(kubevault-retirer-KEY) grant what it needs of Vault. In Kubernetes it needs
    C(get), C(list) and C(update) of Secrets, O(recreate) also C(create) and C(delete), O(retire) C(list) of the Secrets of all namespaces,
    and O(lease_namespace) C(get), C(create) and C(update) of the Lease.
seealso:
  - module: kubevault.core.kubevault_secret
  - module: kubevault.core.kubevault_secret_info
"""

EXAMPLES = r"""
- name: Rotate if the key is older than 30 days, and bring all Secrets to its newest version
  kubevault.core.kubevault_rotation:
    transit_key: aes256-key
    rewrap: true

- name: The whole life of a key
  kubevault.core.kubevault_rotation:
    transit_key: aes256-key
    older_than: 90d
    rewrap: true
    retire: true
    lease_namespace: kubevault

- name: The files of a Git repository, without Kubernetes
  kubevault.core.kubevault_rotation:
    transit_key: aes256-key
    rotate: false
    rewrap: true
    manifest: ["{{ playbook_dir }}/manifests"]
    kubernetes: false
"""

RETURN = r"""
rotated:
  description: Whether a new version was made.
  returned: success
  type: bool
newest_version:
  description: Newest version of the key; in check mode, of before.
  returned: success
  type: int
  sample: 2
current:
  description: How many Secrets were at the newest version already.
  returned: success
  type: int
  sample: 40
rewrapped:
  description: Those that were rewrapped, by namespace and name; of files, with the path before them.
  returned: success
  type: list
  elements: str
  sample: [default/matrix-secrets]
skipped_secrets:
  description: Those that were left as they are, and why; behind, damaged, or not opened by the key.
  returned: success
  type: dict
  sample: {default/pinned: 'it is immutable: use --recreate'}
failed_secrets:
  description: Those that could not be written, and why. The task fails if there is one.
  returned: success, and on this failure
  type: dict
behind:
  description: Those that keep older versions from being retired, and why.
  returned: with O(retire), on this failure
  type: dict
  sample: {default/matrix-secrets: version 1}
retired:
  description: Whether older versions were retired or trimmed.
  returned: success
  type: bool
min_decryption_version:
  description: Oldest version that decrypts.
  returned: success
  type: int
  sample: 2
"""

from typing import TYPE_CHECKING, Any

from ..module_utils.kubevault import connect_to_kubernetes, logged_in_vault, require
from ..module_utils.kubevault_arguments import Module
from ..module_utils.kubevault_options import KUBERNETES_OPTIONS, TRANSIT_OPTIONS, VAULT_OPTIONS
from ..module_utils.kubevault_results import guarded

if TYPE_CHECKING:
    from secretmanager.rotation.rotation import Outcome


@guarded
def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec={
            # no_log false: name of a key, not a key. Ansible would otherwise warn.
            "transit_key": {"type": "str", "required": True, "no_log": False},
            "rotate": {"type": "bool", "default": True},
            "older_than": {"type": "str", "default": "30d"},
            **{
                name: {"type": "bool", "default": False}
                for name in ("rewrap", "retire", "trim", "gitops", "recreate", "unmanaged")
            },
            "namespace": {"type": "list", "elements": "str", "default": []},
            "manifest": {"type": "list", "elements": "path", "default": []},
            "kubernetes": {"type": "bool", "default": True},
            "shard": {"type": "str"},
            "concurrency": {"type": "int", "default": 8},
            "lease_namespace": {"type": "str"},
            **TRANSIT_OPTIONS,
            **VAULT_OPTIONS,
            **KUBERNETES_OPTIONS,
        },
        supports_check_mode=True,
    )
    try:
        from secretmanager.errors import NotRetired, SecretManagerError
    except ImportError as error:
        require(module, "kubevault", error)

    params = module.params
    if params["concurrency"] < 1:
        module.fail_json(msg=f"concurrency is {params['concurrency']}; allowed is 1 or more")
    if params["trim"] and not params["retire"]:
        module.fail_json(msg="trim needs retire")
    try:
        from secretmanager.rotation.rotation import Outcome

        outcome = Outcome()
        run(module, outcome)
    except NotRetired as error:
        module.fail_json(msg=str(error), behind=error.behind, **facts(outcome))
    except SecretManagerError as error:
        # In check mode nothing was done, and what a run would do after that is not known.
        module.fail_json(msg=str(error), **(facts(outcome) if outcome.changed and not module.check_mode else {}))
    if failed := outcome.report.failed:
        module.fail_json(msg=f"{len(failed)} Secrets could not be rewrapped; see failed_secrets", **facts(outcome))
    module.exit_json(**facts(outcome))


def run(module: Module, outcome: Outcome) -> None:
    """Rotate, rewrap and retire, as the parameters say; the outcome gets what was done, also before an error."""
    from pathlib import Path

    from secretmanager.rotation.keys import duration
    from secretmanager.rotation.planning import Options, Shard
    from secretmanager.rotation.rotation import Rotation, Steps

    params = module.params
    rotation = Rotation(
        Options(params["transit_key"], **{name: params[name] for name in ("unmanaged", "gitops", "recreate")}),
        Steps(
            older_than=duration(params["older_than"]),
            **{name: params[name] for name in ("rotate", "rewrap", "retire", "trim")},
        ),
        params["namespace"],
        [Path(path) for path in params["manifest"]],
        Shard.parse(params["shard"]) if params["shard"] else None,
        params["concurrency"],
        params["lease_namespace"],
        module.check_mode,
    )
    kubernetes = connect_to_kubernetes(module, connections=rotation.concurrency) if params["kubernetes"] else None
    with logged_in_vault(module) as vault:
        rotation.run(vault, kubernetes, outcome)


def facts(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as the module's result, in which ``skipped`` and ``failed`` are Ansible's own words."""
    return {
        f"{name}_secrets" if name in ("skipped", "failed") else name: fact for name, fact in outcome.facts().items()
    }


if __name__ == "__main__":
    main()
