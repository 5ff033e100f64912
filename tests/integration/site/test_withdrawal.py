"""What the inventory does not give any more is taken away; this comes after all tests of what it has anew."""

from __future__ import annotations

from support.ansible import Run, play_in_lab
from support.change import Change
from support.lab import Lab

from secretmanager.servers.vault import VaultClient

OTHER = "auth/kubernetes/role/made-by-hand"


def names(vault: VaultClient, path: str) -> set[str]:
    """Return the names below a path."""
    return {*vault.request("GET", f"{path}?list=true").json()["data"]["keys"]}


def lines(run: Run) -> list[str]:
    """Return what a run says of what it deletes, or would delete."""
    return sorted(line for line in run.output.splitlines() if line.startswith("--- before: "))


def test_roles_and_policies_of_former_workloads_and_keys_are_deleted_and_no_others(lab: Lab, change: Change) -> None:
    """The inventory is as it was before the change."""
    with lab.privileged() as vault:
        by_hand = {
            "bound_service_account_names": ["default"],
            "bound_service_account_namespaces": ["default"],
            "audience": "vault",
            "token_policies": [f"kubevault-reader-{change.name}"],
        }
        assert vault.request("POST", OTHER, by_hand).ok
        assert vault.request("POST", "sys/policies/acl/kubevault-reader-by-hand", {"policy": "# by hand"}).ok
        before = {path: names(vault, path) for path in ("auth/kubernetes/role", "sys/policies/acl")}
        foretold, done, again = (
            play_in_lab("playbooks/trust.yml", lab.folder, "--diff", *check) for check in (["--check"], [], [])
        )
        after = {path: names(vault, path) for path in before}
        assert vault.request("DELETE", OTHER).ok
        assert vault.request("DELETE", "sys/policies/acl/kubevault-reader-by-hand").ok
    of_the_change = {path: {name for name in found if change.name in name} for path, found in before.items()}
    assert {path: before[path] - after[path] for path in before} == of_the_change
    assert all(of_the_change.values())
    assert again.changed == 0
    assert foretold.changes == done.changes
    assert lines(foretold) == lines(done)
    for path, found in of_the_change.items():
        assert {f"--- before: {path}/{name}" for name in found} <= {*lines(foretold)}
