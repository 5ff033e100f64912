# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Action plugin of kubernetes.core's modules, as the roles use them: without the variables of the operator's shell.

In check mode Kubernetes refuses what a new namespace would hold, because the namespace is not there: it counts as
created. What of several objects would change is shown, but not of Secrets; of removed ones the names, which the module
does not show. Of Secrets a result has the names alone, because Ansible prints results at ``-v`` and writes them to its
log.
"""

from __future__ import annotations

import re
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.kubevault.core.plugins.action.kubevault_secret import InventoryOnly

NEW_NAMESPACE = re.compile(r"namespaces \S+ not found")
"""Matches how the API server refuses an object whose namespace is not there."""


class ActionModule(InventoryOnly):
    """Runs the action plugin of kubernetes.core's module of the same name."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module."""
        module = self._task.action.rpartition(".")[2]
        foretells = self._task.check_mode and module == "k8s"
        if foretells:
            self._task.args["continue_on_error"] = True
        self._task.action = f"kubernetes.core.{module}"
        action = self._shared_loader_obj.action_loader.get(
            self._task.action,
            task=self._task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        if action is None:
            raise AnsibleActionFail(
                "the collection kubernetes.core is not installed: run ansible-galaxy collection install kubernetes.core"
            )
        action._low_level_execute_command = self._low_level_execute_command
        result = dict(action.run(tmp, task_vars))
        objects = _objects(result)
        if foretells and (refusals := [one["error"]["msg"] for one in objects if "error" in one]):
            problems = [refusal for refusal in refusals if not NEW_NAMESPACE.search(refusal)]
            result |= {"failed": True, "msg": "; ".join(problems)} if problems else {"changed": True}
        if objects != [result] and (differences := _differences(objects)):
            result["diff"] = differences
        if self._task.diff and self._task.args.get("state") == "absent":
            names = _names(self._task.args.get("definition"), objects)
            result["diff"] = {"before": "".join(f"{name}\n" for name in names), "after": ""}
        return _without_values(result) if module == "k8s" else result


def _objects(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the result of each object."""
    several = result.get("result")
    return several["results"] if isinstance(several, dict) and "results" in several else [result]


def _differences(objects: list[dict[str, Any]]) -> list[Any]:
    """Return what differs in each object but Secrets; the module leaves it where no callback shows it."""
    return [one["diff"] for one in objects if "diff" in one and not _is_secret(one["result"])]


def _names(definition: Any, objects: list[dict[str, Any]]) -> list[str]:
    """Return the kinds and names of the defined objects that were removed, or would be."""
    definitions = definition if isinstance(definition, list) else [definition or {}]
    removed = [each for each, one in zip(definitions, objects, strict=False) if one.get("changed") and each]
    return [
        f"{each['kind']} {'/'.join(filter(None, (each['metadata'].get('namespace'), each['metadata']['name'])))}"
        for each in removed
    ]


def _is_secret(value: object) -> bool:
    """Whether it is a Secret, or what Kubernetes lists them in."""
    return isinstance(value, dict) and value.get("kind") in ("Secret", "SecretList")


def _without_values(value: Any) -> Any:
    """Return a result, or a part of it, without what Secrets hold, and without how they differ."""
    if isinstance(value, list):
        return [_without_values(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _is_secret(value):
        # Annotations may hold the values too, as `kubectl apply` writes one.
        names = {name: value.get("metadata", {}).get(name) for name in ("name", "namespace")}
        return {"apiVersion": value.get("apiVersion"), "kind": value["kind"], "metadata": names}
    secret = _is_secret(value.get("result"))
    return {name: _without_values(item) for name, item in value.items() if not (secret and name == "diff")}
