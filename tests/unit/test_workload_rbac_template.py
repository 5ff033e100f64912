"""What roles/workload-rbac yields for a workload; on a cluster: tests/integration/site/test_narrowing.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from secretmanager.admin.definitions import lease_names

TEMPLATES = Path(__file__).parents[2] / "roles/workload-rbac/templates"


def definitions(**workload: Any) -> list[dict[str, Any]]:
    """Return what the template yields for one workload, with the filters of Ansible that it uses."""
    templates = Environment(loader=FileSystemLoader(TEMPLATES), trim_blocks=True, undefined=StrictUndefined)
    templates.filters |= {
        "to_json": json.dumps,
        "split": str.split,
        "kubevault.core.kubevault_lease_names": lambda keys, shards: lease_names(list(keys), shards),
    }
    templates.tests["match"] = lambda text, start: text.startswith(start)
    given = {"role": "shop", "service_account": "shop", "namespace": "shop", **workload}
    text = templates.get_template("workloads.yml.j2").render(
        workload_rbac_workloads=[given],
        workload_rbac_owner="shop",
        workload_rbac_reviewer_service_account="vault-auth",
        workload_rbac_reviewer_namespace="kube-system",
    )
    return [each for each in yaml.safe_load_all(text) if each]


def rules(**workload: Any) -> list[dict[str, Any]]:
    (role,) = (each for each in definitions(**workload) if each["kind"] == "Role")
    found: list[dict[str, Any]] = role["rules"]
    return found


def test_a_workload_that_asks_for_nothing_has_a_role_without_rules() -> None:
    assert rules() == []
    assert rules(token_request=False, secrets=[], restarts=[], rotates=[]) == []


def test_the_right_to_request_tokens_is_granted_by_name_and_on_request() -> None:
    rule = {"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["shop"], "verbs": ["create"]}
    assert rules(token_request=True) == [rule]
    everything = {"secrets": ["a"], "watch": True, "restarts": ["annotated"], "restart_wait": True, "rotates": ["k"]}
    resources = [resource for each in rules(**everything) for resource in each["resources"]]
    assert resources == ["secrets", "deployments", "statefulsets", "daemonsets", "pods", "events", "leases"]
    assert rules(**everything, token_request=True) == [rule, *rules(**everything)]


HOSTILE = ['a"b', "a; rm", "a: b", "a\nkind: b", "a\n---\napiVersion: v1\nkind: Secret", "{a: b}", "yes", "1", "a #b"]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", ["role", "service_account", "namespace"])
def test_a_name_stays_one_text_whatever_it_holds(field: str, text: str) -> None:
    """The API server then refuses it, if it is no name."""
    made = definitions(**{field: text, "rotates": ["k"], "namespaces": [text]})
    kinds = ["Namespace", "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "Namespace", "RoleBinding"]
    assert [each["kind"] for each in made] == kinds
    names = {
        "role": made[2]["metadata"]["name"].removeprefix("kubevault:"),
        "service_account": made[1]["metadata"]["name"],
        "namespace": made[0]["metadata"]["name"],
    }
    assert names[field] == text
    assert made[5]["metadata"]["name"] == text
