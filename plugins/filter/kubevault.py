# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Filter plugins: what Vault has to hold, as resources of vault_resource, what workloads need in manifests, and what is
wrong with what roles write into files.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.utils.display import Display


def _filter(name: str, module: str) -> Callable[..., Any]:
    """Return a filter that calls a function of the same name in a module of the package."""

    def call(value: Any, *args: Any, **options: Any) -> Any:
        try:
            from secretmanager.errors import ConfigError

            function = getattr(import_module(f"secretmanager.{module}"), name)
        except ImportError as error:
            raise AnsibleFilterError(f"kubevault_{name} needs the Python package kubevault") from error
        try:
            with warnings.catch_warnings(record=True, action="always", category=UserWarning) as caught:
                return function(value, *args, **options)
        except ConfigError as error:
            raise AnsibleFilterError(f"kubevault_{name}: {error}") from error
        finally:
            for each in caught:
                Display().warning(f"kubevault_{name}: {each.message}")

    return call


class FilterModule:
    """The filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by their names."""
        definitions = (
            "audit_resources",
            "cronjob_name",
            "key_resources",
            "lease_names",
            "owned",
            "policy_names",
            "policy_resources",
            "renewer_policy_resources",
            "role_resources",
            "workload_policy_resources",
        )
        modules = {**dict.fromkeys(definitions, "admin.definitions"), "inject": "injection.objects", "unfit": "names"}
        return {f"kubevault_{name}": _filter(name, module) for name, module in modules.items()}
