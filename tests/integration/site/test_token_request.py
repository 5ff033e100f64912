"""Who of the lab's workloads may have Kubernetes issue tokens: those for which the inventory says token_request."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import yaml
from support.lab import Lab

from secretmanager import SecretManager
from secretmanager.errors import Forbidden

YEARS = 100 * 365 * 24 * 3600
"""What kube-apiserver grants, unless --service-account-max-token-expiration is less."""


@pytest.mark.parametrize(
    ("namespace", "account"),
    [("payments", "payments"), ("payments", "sealer"), ("kubevault", "rotator"), ("kubevault", "retirer")],
)
@pytest.mark.parametrize("audience", [None, "vault"])
def test_a_workload_cannot_make_itself_a_token_that_outlives_its_pod(
    lab: Lab, namespace: str, account: str, audience: str | None
) -> None:
    with pytest.raises(Forbidden, match='cannot create resource "serviceaccounts/token"') as caught:
        lab.workload(namespace, account).create_token(namespace, account, audience, YEARS)
    assert "mount a projected token for Vault" in str(caught.value)
    assert "token_request: true" in str(caught.value)


def test_one_that_asks_for_the_right_has_it_for_itself_alone(lab: Lab) -> None:
    demo = lab.workload("default", "default")
    payload = demo.create_token("default", "default", "vault", YEARS).split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["exp"] - claims["iat"] == YEARS
    assert "pod" not in claims["kubernetes.io"]
    with pytest.raises(Forbidden, match="token_request"):
        demo.create_token("payments", "payments", "vault")


def test_without_it_a_workload_reads_by_the_token_that_kubelet_mounts(lab: Lab, tmp_path: Path) -> None:
    """The lab has no kubelet: its administrator has the tokens issued."""
    kubeconfig = yaml.safe_load(Path(lab.env["KUBECONFIG"]).read_text())
    (user,) = kubeconfig["users"]
    user["user"] = {"token": lab.jwt("payments", "payments", None)}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    (tmp_path / "vault-token").write_text(lab.jwt("payments", "payments"))
    options = {
        "SOURCE": "KUBEVAULT",
        "kube_config": str(tmp_path / "kubeconfig"),
        "service_account": "payments",
        "namespace": "payments",
        "vault_url": lab.env["VAULT_ADDR"],
        "ca_cert": lab.env["VAULT_CACERT"],
        "role": "payments",
    }
    with SecretManager({**options, "token_file": str(tmp_path / "vault-token")}) as manager:
        assert manager.read_secrets("payments-database", "payments")["dsn"].startswith("postgresql://")
    with SecretManager(options) as manager, pytest.raises(Forbidden, match="token_request"):
        manager.read_secrets("payments-database", "payments")
