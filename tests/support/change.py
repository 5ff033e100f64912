"""A change of the lab's inventory, and of its Vault by hand, which the tests of site.yml share."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from secretmanager.servers.vault import VaultClient

from .ansible import ROOT, Run, play_in_lab
from .lab import Lab

REVIEWER = "auth/kubernetes/config"
# A policy that was edited, and a role whose token lives longer.
DRIFT: dict[str, dict[str, object]] = {
    "sys/policies/acl/kubevault-reader-aes256-key": {
        "policy": 'path "transit/decrypt/*" {\n  capabilities = ["update"]\n}\n'
    },
    "auth/kubernetes/role/demo": {
        "bound_service_account_names": ["default"],
        "bound_service_account_namespaces": ["default"],
        "audience": "vault",
        "token_ttl": "1h",
        "token_max_ttl": "1h",
        "token_policies": ["kubevault-reader-aes256-key"],
    },
}


@dataclass(frozen=True)
class Change:
    """What the inventory has anew, beside what was changed in Vault by hand.

    Attributes:
        name: begins the names of all that is new: a key, namespaces, workloads of each kind, and a Secret.
        runs: check mode, the run that makes it so, and a second one.
        before: what was in Vault at its path, before somebody changed it by hand.
    """

    name: str
    runs: list[Run]
    before: dict[str, dict[str, Any]]

    @property
    def rotation(self) -> str:
        """Namespace and service account of a workload that rotates in all namespaces, in two shards."""
        return f"{self.name}-rotation"

    @property
    def shop(self) -> str:
        """Namespace of the workloads that restart others."""
        return f"{self.name}-shop"

    @property
    def inventory(self) -> dict[str, Any]:
        """Variables of the inventory. Each of what is new needs what is before it."""
        new = self.name
        lab = lab_inventory()
        demo = {"service_account": "default", "namespace": "default"}
        restarts = {"named": ["Deployment/shop"], "waiting": ["Deployment/shop"], "annotated": ["annotated"]}
        return {
            # With all that the lab has: what an inventory does not have any more is taken away.
            "kubevault_transit_keys": [*lab["kubevault_transit_keys"], {"name": new, "derived": True}],
            "kubevault_workloads": [
                *lab["kubevault_workloads"],
                {**demo, "role": f"{new}-too", "reads": ["aes256-key", new], "secrets": ["matrix-secrets", new]},
                {"role": new, "service_account": new, "namespace": new, "reads": [new], "secrets": [new]},
                {
                    "role": self.rotation,
                    "service_account": self.rotation,
                    "namespace": self.rotation,
                    "rotates": ["aes256-key"],
                    "namespaces": ["*"],
                    "shards": 2,
                },
                {
                    "role": f"{new}-retirer",
                    "service_account": f"{new}-retirer",
                    "namespace": "default",
                    "retires": ["aes256-key"],
                    "namespaces": [f"{new}-retired"],
                },
                *(
                    {
                        "role": f"{self.shop}-{account}",
                        "service_account": account,
                        "namespace": self.shop,
                        "seals": ["aes256-key"],
                        "restarts": restarted,
                        "restart_wait": account == "waiting",
                    }
                    for account, restarted in restarts.items()
                ),
            ],
            "kubevault_secrets": [
                {"name": new, "namespace": namespace, "transit_key": new, "data": {"a": "follow-the-white-rabbit"}}
                for namespace in ("default", new)
            ],
        }


def lab_inventory() -> dict[str, Any]:
    """Return the variables of the lab's inventory, whose keys and workloads another one has to have too."""
    inventory: dict[str, Any] = yaml.safe_load((ROOT / "inventories/lab/group_vars/all/kubevault.yml").read_text())
    return inventory


def make(lab: Lab) -> Change:
    """Change Vault by hand and the inventory, and run what is to put all of it right."""
    vault = vault_of(lab)
    before = {path: read(vault, path) for path in (*DRIFT, REVIEWER)}
    fields = ("kubernetes_host", "kubernetes_ca_cert", "disable_local_ca_jwt")
    reviewer = {name: before[REVIEWER][name] for name in fields}
    with lab.privileged() as privileged:
        # Vault does not tell the reviewer's token.
        assert privileged.request("POST", REVIEWER, {**reviewer, "token_reviewer_jwt": "gone"}).ok
        for path, body in DRIFT.items():
            assert privileged.request("POST", path, body).ok
            assert read(vault, path) != before[path]
    change = Change(f"new-{uuid.uuid4().hex[:8]}", [], before)
    playbooks = [f"playbooks/{name}.yml" for name in ("seal", "verify")]
    arguments = [*playbooks, "--diff", "-e", json.dumps(change.inventory)]
    for check in (["--check"], [], []):
        change.runs.append(play_in_lab("playbooks/trust.yml", lab.folder, *arguments, *check))
    return change


def vault_of(lab: Lab) -> VaultClient:
    """Return the lab's Vault, with the operator's token."""
    return lab.vault(token=Path(lab.env["VAULT_TOKEN_FILE"]).read_text().strip())


def read(vault: VaultClient, path: str) -> dict[str, Any]:
    """Return what is in Vault at a path."""
    answer = vault.request("GET", path)
    assert answer.ok, answer
    found: dict[str, Any] = answer.json()["data"]
    return found
