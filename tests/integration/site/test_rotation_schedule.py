"""The role kubevault-rotation on the lab: rotation now, by a CronJob, and by a systemd timer."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from support.ansible import ROOT, environment, play, play_in_lab, run_playbook
from support.change import vault_of
from support.lab import Lab, run_as_pod
from support.servers import Decoy, wait_until
from support.shell import misleading

from secretmanager.admin.definitions import cronjob_name
from secretmanager.sealed import sealed_values

ROLE = ROOT / "roles/kubevault-rotation"
IMAGE = "registry.example.org/kubevault:1"


def test_the_playbook_rotates_rewraps_and_retires_as_the_operator(lab: Lab) -> None:
    """Check mode predicts it, and a rerun changes nothing."""
    new = f"new-{uuid.uuid4().hex[:8]}"
    inventory = {
        "kubevault_transit_keys": [{"name": new, "derived": True}],
        "kubevault_workloads": [],
        "kubevault_secrets": [{"name": new, "namespace": "default", "transit_key": new, "data": {"a": "PLAIN-a"}}],
    }
    sealed = play_in_lab("playbooks/trust.yml", lab.folder, "playbooks/seal.yml", "-e", json.dumps(inventory))
    assert f"default/{new}: created" in sealed.output
    whole = {"kubevault_rotated_keys": [new], "kubevault_rotation_retire": True, "kubevault_rotation_older_than": "0"}
    rerun = {**whole, "kubevault_rotation_older_than": "30d"}
    runs = [
        play_in_lab("playbooks/rotate.yml", lab.folder, *check, "-e", json.dumps(given)).changed
        for check, given in ((["--check"], whole), ([], whole), ([], rerun))
    ]
    assert runs == [1, 1, 0]
    secret = lab.operator().get_secret("default", new)
    assert {value.version for value in sealed_values(secret).values()} == {2}
    assert vault_of(lab).read_key(new)["min_decryption_version"] == 2


@pytest.fixture(scope="module")
def cronjob(lab: Lab) -> dict[str, Any]:
    """The CronJob of a key, in its form of JSON; its name is not one of another test."""
    name = f"rotation-{uuid.uuid4().hex[:8]}"
    given = {
        "kubevault_scheduled_keys": ["aes256-key"],
        "kubevault_rotation_image": IMAGE,
        "kubevault_rotation_name": name,
        "kubevault_rotation_namespace": ["default", "payments"],
        "workload_ca_config_map": "own-ca",
    }
    runs = [
        play_in_lab("playbooks/schedule.yml", lab.folder, *check, "-e", json.dumps(given)).changed
        for check in (["--check"], [], [])
    ]
    assert runs == [2, 2, 0]  # the CronJob, and the ConfigMap of Vault's CA
    api = client.BatchV1Api(config.new_client_from_config(lab.env["KUBECONFIG"]))
    found: dict[str, Any] = api.api_client.sanitize_for_serialization(api.read_namespaced_cron_job(name, "kubevault"))
    return found


def test_a_cronjob_runs_one_at_a_time_and_keeps_little_history(cronjob: dict[str, Any]) -> None:
    spec = cronjob["spec"]
    assert {
        name: spec[name] for name in ("concurrencyPolicy", "successfulJobsHistoryLimit", "failedJobsHistoryLimit")
    } == {
        "concurrencyPolicy": "Forbid",
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 3,
    }
    assert spec["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE


def test_it_mounts_the_config_map_that_the_inventory_names(lab: Lab, cronjob: dict[str, Any]) -> None:
    volumes = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"]
    assert [volume["configMap"]["name"] for volume in volumes if "configMap" in volume] == ["own-ca"]
    core = client.CoreV1Api(config.new_client_from_config(lab.env["KUBECONFIG"]))
    assert "ca.crt" in core.read_namespaced_config_map("own-ca", "kubevault").data


@pytest.mark.parametrize("key", ["shop-key", "My_Key", "a" * 255, "A..b", "_"])
def test_its_name_whatever_the_key_s_is(lab: Lab, cronjob: dict[str, Any], key: str) -> None:
    api = client.BatchV1Api(config.new_client_from_config(lab.env["KUBECONFIG"]))
    body = {"metadata": {"name": cronjob_name(key)}, "spec": cronjob["spec"]}
    api.create_namespaced_cron_job("kubevault", body, dry_run="All")


def test_its_pod_is_let_into_a_restricted_namespace_and_its_success_is_recorded(
    lab: Lab, cronjob: dict[str, Any]
) -> None:
    """The lab has no node: the test ends the pod as a kubelet would."""
    connection = config.new_client_from_config(lab.env["KUBECONFIG"])
    api, core = client.BatchV1Api(connection), client.CoreV1Api(connection)
    level = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    core.patch_namespace("kubevault", level)
    name = cronjob["metadata"]["name"]
    owner = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "name": name,
        "uid": cronjob["metadata"]["uid"],
        "controller": True,
    }
    job = {"metadata": {"name": name, "ownerReferences": [owner]}, "spec": cronjob["spec"]["jobTemplate"]["spec"]}
    api.create_namespaced_job("kubevault", job)

    def pods() -> list[Any]:
        return list(core.list_namespaced_pod("kubevault", label_selector=f"batch.kubernetes.io/job-name={name}").items)

    wait_until("the pod", lambda: bool(pods()))
    core.patch_namespaced_pod_status(pods()[0].metadata.name, "kubevault", {"status": {"phase": "Succeeded"}})

    def last_success() -> object:
        return api.read_namespaced_cron_job(name, "kubevault").status.last_successful_time

    wait_until("the record of the success", lambda: last_success() is not None)
    api.delete_namespaced_cron_job(name, "kubevault", propagation_policy="Background")


def test_what_it_runs_needs_no_more_than_its_service_account(lab: Lab, cronjob: dict[str, Any], tmp_path: Path) -> None:
    """Its command, run with the tokens that a pod would have: it logs in, holds the Lease, and looks at the Secrets."""
    pod = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    done = run_as_pod(lab, "kubevault", pod, tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["changed"], facts["failed"], facts["current"]) == (False, {}, 1)
    lease = client.CoordinationV1Api(config.new_client_from_config(lab.env["KUBECONFIG"]))
    held = lease.read_namespaced_lease("kubevault-rotation-aes256-key", "kubevault")
    assert (held.spec.holder_identity, held.spec.lease_duration_seconds) == (None, 1), "it was held, and released"


def test_shards_are_pods_of_an_indexed_job(lab: Lab) -> None:
    name = f"rotation-{uuid.uuid4().hex[:8]}"
    given = {
        "kubevault_scheduled_keys": ["aes256-key"],
        "kubevault_rotation_image": IMAGE,
        "kubevault_rotation_name": name,
        "kubevault_rotation_shards": 4,
    }
    play_in_lab("playbooks/schedule.yml", lab.folder, "-e", json.dumps(given))
    api = client.BatchV1Api(config.new_client_from_config(lab.env["KUBECONFIG"]))
    job = api.read_namespaced_cron_job(name, "kubevault").spec.job_template.spec
    assert (job.completion_mode, job.completions, job.parallelism) == ("Indexed", 4, 4)
    assert "--shard=$(JOB_COMPLETION_INDEX)/4" in job.template.spec.containers[0].args
    api.delete_namespaced_cron_job(name, "kubevault")
    retiring = json.dumps({**given, "kubevault_rotation_retire": True})
    run = play_in_lab("playbooks/schedule.yml", lab.folder, "-e", retiring, fails=True)
    assert "a shard cannot know whether the others have ended" in " ".join(run.output.split())


def test_the_shell_does_not_say_in_which_kubernetes_a_cronjob_is_made(lab: Lab, tmp_path: Path) -> None:
    name = f"rotation-{uuid.uuid4().hex[:8]}"
    options = {
        "kubevault_scheduled_keys": ["aes256-key"],
        "kubevault_rotation_image": IMAGE,
        "kubevault_rotation_name": name,
    }
    decoy = Decoy()
    shell = {**os.environ, **misleading(decoy.url, tmp_path)}
    run = run_playbook("playbooks/schedule.yml", "-e", json.dumps(options), env=shell)
    decoy.close()
    assert (run.changed, decoy.connections) == (1, 0)
    api = client.BatchV1Api(config.new_client_from_config(lab.env["KUBECONFIG"]))
    api.delete_namespaced_cron_job(name, "kubevault")


def test_an_age_without_a_unit_is_refused_before_a_cronjob_has_it(lab: Lab) -> None:
    options = {
        "kubevault_scheduled_keys": ["aes256-key"],
        "kubevault_rotation_image": IMAGE,
        "kubevault_rotation_older_than": 30,
    }
    run = play_in_lab("playbooks/schedule.yml", lab.folder, "-e", json.dumps(options), fails=True)
    assert "kubevault_rotation_older_than: found 30; allowed is a number with s, m, h or d" in " ".join(
        run.output.split()
    )


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The units of a timer, as the role's templates make them; it records its success in their folder."""
    folder = tmp_path_factory.mktemp("units")
    defaults, more = (yaml.safe_load((ROLE / part / "main.yml").read_text()) for part in ("defaults", "vars"))
    variables = {
        **defaults,
        **more,
        "kubevault_rotation_transit_key": "aes256-key",
        "kubevault_rotation_program": "/bin/true",
        "kubevault_rotation_environment": {"VAULT_ADDR": "https://vault.example.org:8200", "ODD": 'a "b" 100% $x'},
        "kubevault_rotation_namespace": ["a", "b"],
        "kubevault_rotation_manifest": ["/srv/git repository"],
        "kubevault_rotation_textfile_dir": str(folder),
    }
    paths = {kind: folder / f"kubevault-rotation-aes256-key.{kind}" for kind in ("service", "timer")}
    tasks = [
        {"ansible.builtin.template": {"src": str(ROLE / f"templates/rotation.{kind}.j2"), "dest": str(path)}}
        for kind, path in paths.items()
    ]
    play(tasks, folder, environment(ANSIBLE_HOME=str(folder / "ansible")), variables=variables)
    return paths


def test_systemd_accepts_the_units(units: dict[str, Path]) -> None:
    if not (program := shutil.which("systemd-analyze")):
        pytest.skip("there is no systemd-analyze")
    done = subprocess.run([program, "verify", *units.values()], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "kubevault" in line]) == (0, [])


def test_a_timer_has_the_same_options_and_records_its_success_itself(units: dict[str, Path]) -> None:
    text = units["service"].read_text()
    (started,) = re.findall(r"^ExecStart=/bin/true (.*)$", text, re.MULTILINE)
    arguments = re.findall(r'"([^"]*)"', started)
    expected = ["rotate", "--transit-key=aes256-key", "--older-than=30d", "--rewrap", "--namespace=a", "--namespace=b"]
    assert set(expected) <= {*arguments}
    assert "--manifest=/srv/git repository" in arguments
    assert r'Environment="ODD=a \"b\" 100%% $x"' in text
    assert f"--metrics={units['service'].with_suffix('.prom')}" in arguments
    assert "ExecStartPost" not in text


def test_a_key_that_vault_rotates_and_nothing_rewraps_is_warned_of(lab: Lab) -> None:
    keys = [{"name": f"new-{period or 0}", "auto_rotate_period": period} for period in ("24h", "25h", "0", "0s")]
    keys.append({"name": "new-none"})
    given = {"kubevault_scheduled_keys": ["new-25h"], "kubevault_transit_keys": keys, "kubevault_workloads": []}
    run = play_in_lab("playbooks/trust.yml", lab.folder, "--check", "-e", json.dumps(given))
    warned = re.findall(r"WARNING: Vault rotates (.*?) by itself", " ".join(run.output.split()))
    assert warned == ["new-24h"]


def test_a_schedule_that_nothing_would_run_is_refused(lab: Lab) -> None:
    scheduled = json.dumps({"kubevault_scheduled_keys": ["aes256-key"]})
    run = play_in_lab("playbooks/schedule.yml", lab.folder, "-e", scheduled, fails=True)
    assert "names aes256-key, and nothing would rotate them" in " ".join(run.output.split())
    assert play_in_lab("playbooks/schedule.yml", lab.folder).changed == 0
