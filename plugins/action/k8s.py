# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Action plugin of kubernetes.core's modules, as the roles use them: without the variables of the operator's shell."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubevault.core.plugins.action.kubevault_secret import InventoryOnly


class ActionModule(InventoryOnly):
    """Runs the action plugin of kubernetes.core's module of the same name."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module."""
        self._task.action = f"kubernetes.core.{self._task.action.rpartition('.')[2]}"
        action = self._shared_loader_obj.action_loader.get(
            self._task.action,
            task=self._task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        action._low_level_execute_command = self._low_level_execute_command
        result = dict(action.run(tmp, task_vars))
        if differences := _differences(result.get("result")):
            result["diff"] = differences
        return result


def _differences(objects: Any) -> list[Any]:
    """Return what differs in each of several objects but Secrets; the module leaves it where no callback shows it."""
    results = objects.get("results", ()) if isinstance(objects, dict) else ()
    return [one["diff"] for one in results if "diff" in one and one["result"].get("kind") != "Secret"]
