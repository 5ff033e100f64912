"""The token reviewer of Vault, in the lab's Kubernetes: what a run shows of its token, and how long the token lasts."""

from __future__ import annotations

import json
import subprocess
import uuid
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config
from support.ansible import TEXT, Ansible, ansible_environment, play, play_in_lab
from support.lab import Lab, run_as_pod
from support.search import shows
from support.servers import PrivateVault, running

from secretmanager.admin.connection import Vault
from secretmanager.admin.definitions import renewer_policy
from secretmanager.admin.reviewer import ANNOTATION
from secretmanager.errors import PermissionDenied, SecretManagerError, SecretNotFound
from secretmanager.servers.vault import VaultClient

NAMESPACE = "kube-system"
JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6"
"""How every token of a service account begins."""


@dataclass
class Reviewer:
    """A token reviewer of its own in the lab's Kubernetes, and the Vault that it is for.

    Attributes:
        workloads: those of the inventory.
        output: what all runs printed.
    """

    lab: Lab
    vault: PrivateVault
    folder: Path
    account: str = field(default_factory=lambda: f"reviewer-{uuid.uuid4().hex[:8]}")
    workloads: list[dict[str, Any]] = field(default_factory=list)
    output: str = ""

    def run(self, lifetime: str, *arguments: str) -> int:
        """Run the roles of both sides with a life of the token; return how many tasks changed something."""
        steps = [
            {"name": "microk8s-vault-auth"},
            {"name": "vault-configure-for-kubevault"},
            {"name": "microk8s-vault-auth", "tasks_from": "handed-over"},
            *([{"name": "workload-rbac"}] if self.workloads else []),
        ]
        env = {
            "K8S_AUTH_KUBECONFIG": self.lab.env["KUBECONFIG"],
            "VAULT_ADDR": self.vault.url,
            "VAULT_CACERT": self.vault.ca,
            "VAULT_TOKEN_FILE": str(self.folder / "token"),
        }
        variables = {
            "microk8s_vault_auth_service_account": self.account,
            "microk8s_vault_auth_token_lifetime": lifetime,
            "vault_configure_for_kubevault_reviewer_service_account": self.account,
            "vault_configure_for_kubevault_keys": ["shop-key"] if self.workloads else [],
            "vault_configure_for_kubevault_derived_keys": ["shop-key"],
            "vault_configure_for_kubevault_workloads": self.workloads,
            "workload_rbac_workloads": self.workloads,
            "workload_rbac_owner": self.account,
            "workload_rbac_reviewer_service_account": self.account,
            "vault_configure_for_kubevault_kubernetes_host": "{{ microk8s_vault_auth_api_url }}",
            "vault_configure_for_kubevault_kubernetes_ca_cert": "{{ microk8s_vault_auth_ca_cert }}",
            "vault_configure_for_kubevault_token_reviewer_jwt": "{{ microk8s_vault_auth_token_reviewer_jwt }}",
            "vault_configure_for_kubevault_token_reviewer_renew": "{{ microk8s_vault_auth_token_renew }}",
        }
        task = {"block": [{"include_role": step} for step in steps], "environment": env}
        shown = ("-vvvv", "--diff", *arguments)
        run = play([task], self.folder, ansible_environment(), *shown, variables=variables, callback=TEXT)
        self.output += run.output
        return run.changed

    def verify(self, lifetime: str, *, fails: bool = False) -> str:
        """Check whether the token is due; return what is printed."""
        variables = {
            "microk8s_vault_auth_service_account": self.account,
            "microk8s_vault_auth_token_lifetime": lifetime,
        }
        step = {"include_role": {"name": "microk8s-vault-auth", "tasks_from": "verify"}}
        task = {"block": [step], "environment": {"K8S_AUTH_KUBECONFIG": self.lab.env["KUBECONFIG"]}}
        run = play([task], self.folder, ansible_environment(), variables=variables, callback=TEXT, fails=fails)
        assert run.changed == 0
        return " ".join(run.output.split())

    @property
    def api(self) -> client.CoreV1Api:
        return client.CoreV1Api(config.new_client_from_config(self.lab.env["KUBECONFIG"]))

    @property
    def renew_after(self) -> str | None:
        """What is noted on the service account."""
        annotations = self.api.read_namespaced_service_account(self.account, NAMESPACE).metadata.annotations
        return (annotations or {}).get(ANNOTATION)

    def note(self, renew_after: str) -> None:
        """Note another time on the service account."""
        body = {"metadata": {"annotations": {ANNOTATION: renew_after}}}
        self.api.patch_namespaced_service_account(self.account, NAMESPACE, body)

    def token(self) -> str | None:
        """Return the token that does not end, of which there may be none."""
        try:
            secret = self.lab.operator().get_secret(NAMESPACE, self.account)
        except SecretNotFound:
            return None
        return b64decode(secret["data"]["token"]).decode()

    def works(self) -> bool:
        """Whether Vault can review a token."""
        try:
            jwt = self.lab.jwt(NAMESPACE, self.account)
            self.vault.root.login_kubernetes("kubevault-token-reviewer", jwt, "kubernetes")
        except SecretManagerError:
            return False
        return True

    def schedule(self, lifetime: str, *arguments: str) -> int:
        """Have the renewal scheduled in the cluster; return how many tasks changed something."""
        given = {
            "kubevault_workloads": self.workloads,
            "kubevault_rotation_image": "registry.example.org/kubevault:1",
            "microk8s_vault_auth_service_account": self.account,
            "microk8s_vault_auth_token_lifetime": lifetime,
        }
        return play_in_lab("playbooks/schedule.yml", self.lab.folder, *arguments, "-e", json.dumps(given)).changed

    def renew(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Do what is scheduled, with the tokens that a pod would have."""
        api = client.BatchV1Api(config.new_client_from_config(self.lab.env["KUBECONFIG"]))
        cronjob = api.api_client.sanitize_for_serialization(
            api.read_namespaced_cron_job("kubevault-renewal", "default")
        )
        pod = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        variables = {"VAULT_ADDR": self.vault.url, "VAULT_CACERT": self.vault.ca}
        done = run_as_pod(self.lab, "default", pod, self.folder, *arguments, **variables)
        self.output += done.stdout + done.stderr
        return done


@pytest.fixture
def reviewer(lab: Lab, tmp_path: Path) -> Iterator[Reviewer]:
    vault = PrivateVault(tmp_path)
    with running(vault, vault.set_up):
        (tmp_path / "token").write_text(vault.root.token or "")
        reviewer = Reviewer(lab, vault, tmp_path)
        yield reviewer
        reviewer.api.delete_namespaced_service_account(reviewer.account, NAMESPACE)


def test_a_token_that_ends_takes_the_place_of_one_that_does_not_and_is_renewed_and_back(reviewer: Reviewer) -> None:
    """Check mode foretells what a run changes, and a second run changes nothing."""
    assert reviewer.run("") > 0
    assert (bool(reviewer.token()), reviewer.renew_after, reviewer.works()) == (True, None, True)
    # Vault's configuration, the note, and the Secret: its token works no more, so Vault must have another.
    assert [reviewer.run("1h", *more) for more in (["--check"], [], [])] == [3, 3, 0]
    assert (reviewer.token(), reviewer.works()) == (None, True)
    first = reviewer.renew_after or ""
    assert "is due for renewal since" not in reviewer.verify("1h")
    reviewer.note("2026-01-01T00:00:00Z")
    assert "is due for renewal since 2026-01-01T00:00:00Z" in reviewer.verify("1h", fails=True)
    assert [reviewer.run("1h", *more) for more in (["--check"], [])] == [2, 2]
    assert (reviewer.renew_after or "") >= first
    # Vault's would last longer than it should.
    assert reviewer.run("30m") == 2
    assert (reviewer.renew_after or "") < first
    # The Secret, Vault's configuration, and the note.
    assert [reviewer.run("", *more) for more in (["--check"], [], [])] == [3, 3, 0]
    assert (bool(reviewer.token()), reviewer.renew_after, reviewer.works()) == (True, None, True)
    assert not shows(reviewer.output, JWT)


def test_a_token_is_not_noted_before_vault_has_it(reviewer: Reviewer) -> None:
    """A run that ends between leaves nothing that has a later one believe that Vault has it."""
    assert reviewer.run("1h") > 0
    reviewer.note("2026-01-01T00:00:00Z")
    reviewer.vault.seal()
    with pytest.raises(AssertionError, match="sealed"):
        reviewer.run("1h")
    reviewer.vault.unseal()
    assert reviewer.renew_after == "2026-01-01T00:00:00Z"
    assert reviewer.run("1h") == 2


def test_a_workload_renews_it_by_a_right_of_its_own(reviewer: Reviewer) -> None:
    """And can give Vault nothing else but another token."""
    renewer, shop = (f"{name}-{uuid.uuid4().hex[:8]}" for name in ("renewer", "shop"))
    own = {"reads": ["shop-key"], "own_secrets_only": True, "secrets": ["shop"]}
    reviewer.workloads = [
        # A token of ten seconds would end between the requests of a busy machine.
        {
            "role": renewer,
            "service_account": renewer,
            "namespace": "default",
            "renews_token_reviewer": True,
            "token_ttl": "10m",
        },
        {"role": shop, "service_account": shop, "namespace": "default", **own},
    ]
    assert reviewer.run("1h") > 0
    assert reviewer.run("1h") == 0
    # The CronJob, and perhaps Vault's CA in its namespace.
    foretold, made, again = [reviewer.schedule("1h", *more) for more in (["--check"], [], [])]
    assert (foretold, again) == (made, 0)
    noted = reviewer.renew_after or ""
    done = reviewer.renew("--output=text")
    assert (done.returncode, done.stdout) == (0, f"{NAMESPACE}/{reviewer.account}: not due before {noted}\n"), done
    reviewer.note("2026-01-01T00:00:00Z")
    done = reviewer.renew("--check")
    assert (done.returncode, json.loads(done.stdout)) == (3, {"renewed": True, "renew_after": ""})
    assert reviewer.renew_after == "2026-01-01T00:00:00Z"
    done = reviewer.renew()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"renewed": True, "renew_after": reviewer.renew_after}
    assert (reviewer.renew_after or "") >= noted
    # A run has nothing left to do, and the token that Vault has now is the new one.
    assert reviewer.run("1h") == 0
    assert "is due for renewal since" not in reviewer.verify("1h")

    configured = Vault(reviewer.vault.root).read("auth/kubernetes/config") or {}
    host, ca = configured["kubernetes_host"], configured["kubernetes_ca_cert"]
    other_ca = Path(reviewer.vault.ca).read_text()
    allowed = {
        "kubernetes_host": host,
        "kubernetes_ca_cert": ca,
        "disable_local_ca_jwt": True,
        "token_reviewer_jwt": "nobody",
    }
    login = reviewer.vault.root.login_kubernetes(renewer, reviewer.lab.jwt("default", renewer), "kubernetes")
    thief = Vault(VaultClient(reviewer.vault.url, ca_cert=reviewer.vault.ca, token=login.client_token))
    for change in (
        {"kubernetes_host": "https://127.0.0.1:1"},
        {"kubernetes_host": f"{host}/"},
        {"kubernetes_ca_cert": other_ca},
        {"kubernetes_ca_cert": f"{ca}{other_ca}"},
        *({name: ""} for name in ("kubernetes_host", "kubernetes_ca_cert", "disable_local_ca_jwt")),
        {"disable_local_ca_jwt": False},
        {"disable_local_ca_jwt": "false"},
        *({name: None} for name in allowed),
        {"pem_keys": [other_ca]},
        {"issuer": "nobody"},
        {"disable_iss_validation": False},
        {"use_annotations_as_alias_metadata": True},
    ):
        body = {name: value for name, value in {**allowed, **change}.items() if value is not None}
        with pytest.raises(PermissionDenied):
            thief.write("auth/kubernetes/config", body)
    for path in (f"auth/kubernetes/role/{renewer}", f"sys/policies/acl/{renewer_policy(renewer)}", "sys/auth/other"):
        with pytest.raises(PermissionDenied):
            thief.write(path, {"type": "kubernetes", "policy": "", "policies": ["root"]})
    assert reviewer.works()
    # What it can do at most: keep others from logging in, until somebody renews.
    thief.write("auth/kubernetes/config", allowed)
    assert not reviewer.works()
    batch = client.BatchV1Api(config.new_client_from_config(reviewer.lab.env["KUBECONFIG"]))
    batch.delete_namespaced_cron_job("kubevault-renewal", "default")
    assert reviewer.run("1h") == 1
    assert reviewer.works()
    assert not shows(reviewer.output, JWT)


def test_the_right_to_renew_ends_with_the_inventory_s_entry(reviewer: Reviewer) -> None:
    renewer = f"renewer-{uuid.uuid4().hex[:8]}"
    entry = {"role": renewer, "service_account": renewer, "namespace": "default"}
    reviewer.workloads = [{**entry, "renews_token_reviewer": True}]
    assert reviewer.run("1h") > 0
    policy = f"sys/policies/acl/{renewer_policy(renewer)}"
    rbac = client.RbacAuthorizationV1Api(config.new_client_from_config(reviewer.lab.env["KUBECONFIG"]))
    assert Vault(reviewer.vault.root).read(policy)
    assert rbac.read_namespaced_role(f"kubevault:{renewer}:renewer", NAMESPACE)
    reviewer.workloads = [entry]
    assert [reviewer.run("1h", *more) > 0 for more in (["--check"], [], [])] == [True, True, False]
    assert Vault(reviewer.vault.root).read(policy) is None
    roles = [role.metadata.name for role in rbac.list_namespaced_role(NAMESPACE).items]
    assert f"kubevault:{renewer}:renewer" not in roles


def test_the_module_says_which_lives_are_allowed_and_when_half_of_one_is_over(lab: Lab, tmp_path: Path) -> None:
    ansible = Ansible(tmp_path, {"K8S_AUTH_KUBECONFIG": lab.env["KUBECONFIG"]})

    def token(lifetime: str, account: str = "vault-auth", *, check: bool = False) -> dict[str, Any]:
        options = {"service_account": account, "namespace": NAMESPACE, "lifetime": lifetime}
        return ansible.run({"service_account_token": options, "check_mode": check})[0]

    assert "lifetime: found 300s; allowed is 600s (10m) or more" in token("5m")["msg"]
    assert "lifetime: found '720'; allowed is a number with s, m, h or d" in token("720")["msg"]
    assert '"none-such" not found' in token("1h", "none-such")["msg"]
    expected = {"changed": False, "token": "", "renew_after": ""}
    assert token("1h", "none-such", check=True).items() >= expected.items()
    issued = token("30d")
    claims = json.loads(urlsafe_b64decode(issued["token"].split(".")[1] + "=="))
    half = datetime.fromisoformat(issued["renew_after"]).timestamp()
    assert (claims["exp"] - claims["iat"], half - claims["iat"]) == (30 * 86400, 15 * 86400)


def test_no_run_and_no_log_shows_the_reviewer_s_token(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the run that makes it nor one that finds it, nor check mode, nor the removal. No Vault uses this one."""
    variables = {"microk8s_vault_auth_service_account": f"reviewer-{uuid.uuid4().hex[:8]}"}
    (account,) = variables.values()
    log = tmp_path / "log"
    monkeypatch.setenv("ANSIBLE_LOG_PATH", str(log))
    verbose = ("-vvvv", "--diff")
    trust = ("playbooks/trust.yml", lab.folder, *verbose, "-e", f"microk8s_vault_auth_service_account={account}")
    runs = [play_in_lab(*trust), play_in_lab(*trust)]
    token = b64decode(lab.operator().get_secret(NAMESPACE, account)["data"]["token"]).decode()
    env = {**ansible_environment(), "ANSIBLE_LOG_PATH": str(log)}
    for steps, more in (({}, ["--check"]), ({"tasks_from": "remove"}, ["--check"]), ({"tasks_from": "remove"}, [])):
        role = {"include_role": {"name": "microk8s-vault-auth", **steps}}
        task = {"block": [role], "environment": lab.env}
        runs.append(play([task], tmp_path, env, *verbose, *more, variables=variables, callback=TEXT))
    # The first run may also take away what other tests left.
    assert (runs[0].changed > 0, [run.changed for run in runs[1:]]) == (True, [0, 0, 1, 1])
    assert [shows(output, token) for output in (*(run.output for run in runs), log.read_text())] == [False] * 6
    assert log.read_text().count("PLAY RECAP") == 5
