# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Filter plugins: what Vault has to hold for KUBEVAULT, as resources of the module vault_resource."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError


def _definition(name: str) -> Callable[..., Any]:
    """Return a filter that calls a function of secretmanager.admin.definitions."""

    def call(value: Any, *args: Any, **options: Any) -> Any:
        try:
            from secretmanager.admin import definitions
            from secretmanager.errors import ConfigError
        except ImportError as error:
            raise AnsibleFilterError(f"kubevault_{name} needs the Python package kubevault") from error
        try:
            return getattr(definitions, name)(value, *args, **options)
        except ConfigError as error:
            raise AnsibleFilterError(f"kubevault_{name}: {error}") from error

    return call


class FilterModule:
    """The filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by their names."""
        names = ("key_resources", "lease_names", "policy_names", "policy_resources", "role_resources")
        return {f"kubevault_{name}": _definition(name) for name in names}
