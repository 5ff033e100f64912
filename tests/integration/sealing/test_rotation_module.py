"""The module kubevault_rotation on real servers, with the policies of a rotator and a retirer, and its Lease."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from support.ansible import RESULTS, Ansible
from support.sealing import Chain, environment
from support.servers import wait_until

from secretmanager.admin.definitions import lease_name, policy_name, policy_resources
from secretmanager.errors import LeaseHeld
from secretmanager.rotation.lease import held
from secretmanager.rotation.planning import Options
from secretmanager.rotation.rotation import Outcome, Rotation, Steps
from secretmanager.sealed import sealed_values
from secretmanager.sealing.sealer import Sealer
from secretmanager.sealing.stores import KubernetesStore


@pytest.fixture
def key(chain: Chain, name: str) -> str:
    """A Transit key of its own, with its policies, and two Secrets that it sealed."""
    key = f"key-{name}"
    chain.vault.new_key(key, derived=True)
    for resource in policy_resources([key]):
        chain.vault.write(resource["path"], **resource["data"])
    specs = [chain.wanted(f"{name}-{end}", {"a": b"PLAIN-a"}, transit_key=key) for end in ("x", "y")]
    Sealer(chain.client(chain.vault.root.token), KubernetesStore(chain.kubernetes())).seal(specs)
    return key


@pytest.fixture
def ansible(chain: Chain, key: str, tmp_path: Path) -> Ansible:
    """Ansible with the token of somebody who may rotate, rewrap and retire the key, and no more."""
    policies = [policy_name(access, key) for access in ("rotator", "retirer")]
    made = chain.vault.write("auth/token/create", policies=policies, no_default_policy=True)
    token = tmp_path / "token"
    token.write_text(made["auth"]["client_token"])
    return Ansible(tmp_path, environment(chain, token))


def versions(chain: Chain, name: str) -> set[int]:
    return {value.version for value in sealed_values(chain.secret(name)).values()}


FACTS = ("changed", "rotated", "current", "rewrapped", "skipped_secrets", "failed_secrets", "retired")


def test_check_mode_predicts_a_whole_life_and_a_rerun_changes_nothing(
    chain: Chain, ansible: Ansible, key: str, name: str
) -> None:
    options = {"transit_key": key, "older_than": "0", "rewrap": True, "retire": True, "trim": True}
    whole = {"kubevault_rotation": options}
    rerun = {"kubevault_rotation": {**options, "older_than": "30d"}}
    checked, done, checked_again = ansible.run({**whole, "check_mode": True}, whole, {**rerun, "check_mode": True})
    by_ansible = ansible.play(rerun, arguments=("-vvvv", "--diff"), callback=RESULTS)
    again = by_ansible.last
    assert "hvs." not in by_ansible.output
    assert [checked[fact] for fact in FACTS] == [done[fact] for fact in FACTS]
    assert done["rewrapped"] == [f"{chain.namespace}/{name}-{end}" for end in ("x", "y")]
    assert (done["rotated"], done["retired"], done["newest_version"], done["min_decryption_version"]) == (
        True,
        True,
        2,
        2,
    )
    assert [checked_again["changed"], again["changed"], again["current"]] == [False, False, 2]
    assert versions(chain, f"{name}-x") == {2}
    assert chain.opened(f"{name}-x") == {"a": b"PLAIN-a"}


def test_nothing_is_retired_while_something_is_behind(chain: Chain, ansible: Ansible, key: str, name: str) -> None:
    """In check mode the same: of what would be rewrapped nothing is left, of what would not be it is."""
    chain.api.patch_namespaced_secret(f"{name}-y", chain.namespace, {"immutable": True})
    task = {"kubevault_rotation": {"transit_key": key, "older_than": "0", "rewrap": True, "retire": True}}
    checked, done = ansible.run({**task, "check_mode": True}, task)
    for result in (checked, done):
        assert result["failed"]
        assert list(result["behind"]) == [f"{chain.namespace}/{name}-y"]
        assert result["rewrapped"] == [f"{chain.namespace}/{name}-x"]
        assert f"{chain.namespace}/{name}-y" in result["msg"]
    assert versions(chain, f"{name}-x") == {2}
    assert chain.opened(f"{name}-y") == {"a": b"PLAIN-a"}


def test_a_rotation_that_runs_keeps_another_out(chain: Chain, ansible: Ansible, key: str, name: str) -> None:
    task: dict[str, Any] = {
        "kubevault_rotation": {
            "transit_key": key,
            "rotate": False,
            "rewrap": True,
            "lease_namespace": chain.namespace,
        }
    }
    chain.vault.write(f"transit/keys/{key}/rotate")
    with held(chain.kubernetes(), chain.namespace, lease_name(key), "the-first", duration=3):
        (refused,) = ansible.run(task)
    assert "the-first holds it since" in refused["msg"]
    assert versions(chain, f"{name}-x") == {1}
    (done,) = ansible.run(task)
    assert len(done["rewrapped"]) == 2


def test_a_rotation_that_lost_its_lease_stops(chain: Chain, key: str, name: str) -> None:
    kubernetes, root = chain.kubernetes(), chain.client(chain.vault.root.token)
    leases = client.CoordinationV1Api(chain.api.api_client)
    rotation = Rotation(Options(key), Steps(rotate=True, rewrap=True))
    with held(kubernetes, chain.namespace, lease_name(key), duration=3) as lease:
        leases.delete_namespaced_lease(lease_name(key), chain.namespace)
        with (
            held(kubernetes, chain.namespace, lease_name(key), "the-second", duration=600),
            pytest.raises(LeaseHeld) as caught,
        ):
            wait_until("the loss", lambda: lease.check() is not None)
        with pytest.raises(LeaseHeld):
            rotation.run_held(root, kubernetes, Outcome(), still_held=lease.check)
    assert caught.value.holder == "the-second"
    assert root.read_key(key)["latest_version"] == 1


def test_what_is_wrong_with_the_options(ansible: Ansible, key: str) -> None:
    wrong: dict[str, tuple[dict[str, Any], str]] = {
        "older_than": ({"older_than": "soon"}, "older_than: found 'soon'; allowed is a number with s, m, h or d"),
        "no unit": ({"older_than": 30}, "older_than: found '30'; allowed is a number with s, m, h or d, such as 30d"),
        "shard": ({"shard": "4/4"}, "shard: found '4/4'; allowed is I/N"),
        "trim": ({"trim": True}, "trim needs retire"),
        "concurrency": ({"concurrency": 0}, "concurrency is 0; allowed is 1 or more"),
        "lease": ({"kubernetes": False, "lease_namespace": "x"}, "lease_namespace: a Lease needs Kubernetes"),
    }
    results = ansible.run(*({"kubevault_rotation": {"transit_key": key, **options}} for options, _ in wrong.values()))
    for result, (_, said) in zip(results, wrong.values(), strict=True):
        assert said in result["msg"], result
