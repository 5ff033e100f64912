# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""What the KUBEVAULT modules share to write what only a privileged token may: they make one, and revoke it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from .kubevault import administer_vault
from .kubevault_arguments import Module

ELEVATION_OPTIONS: dict[str, dict[str, Any]] = {
    "elevate": {"type": "bool"},
    "keys_file": {"type": "path", "no_log": False},
    "unseal_keys": {"type": "list", "elements": "str", "no_log": True},
}
"""Argument spec of the fragment ``kubevault_elevation``."""


def may_elevate(module: Module) -> bool:
    """Whether the task wants a privileged token to be made, with or without a question."""
    return module.params["elevate"] is not None or bool(module.params["unseal_keys"])


@contextmanager
def privileged_token(module: Module, changes: Sequence[str]) -> Iterator[str]:
    """Make a privileged token by the module's ELEVATION_OPTIONS, and revoke it at the end.

    Without keys the module fails before anything is written. Its result then has ``elevation``, by which the action
    plugin asks for them.

    Args:
        module: the module.
        changes: what the token is needed for, a path of Vault's API and what changes there.

    Raises:
        secretmanager.errors.SecretManagerError: the keys are not those of this Vault, or it is unavailable.
    """
    from secretmanager.admin.elevation import elevated, required_keys
    from secretmanager.admin.initialisation import plain_keys

    connect = partial(administer_vault, module)
    path, keys = module.params["keys_file"], module.params["unseal_keys"]
    file_keys = plain_keys(path) if path and not keys else []
    if not keys and not (module.params["elevate"] and file_keys):
        ask = "run this in a terminal, which asks for the unseal keys, or the recovery keys"
        use = f"set elevate: true (vault_operator_elevate in the roles), which uses the keys in {path}"
        give = "put one into the file of such a token (vault_operator_root_token_file in the roles)"
        module.fail_json(
            msg=f"Only a privileged token may write this in Vault: {'; '.join(changes)}. Nothing was changed. To make"
            f" one, {'; or '.join([use, ask, give] if file_keys else [ask, give])}.",
            elevation={
                "changes": list(changes),
                "keys_file": path if file_keys else "",
                "keys": required_keys(connect("")),
            },
        )
    with elevated(connect, keys or file_keys) as token:
        module.no_log_values.add(token)
        yield token
