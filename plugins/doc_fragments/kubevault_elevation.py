# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the options by which a module makes a privileged token."""

from __future__ import annotations


class ModuleDocFragment:
    """The documentation fragment."""

    DOCUMENTATION = r"""
options:
  elevate:
    description:
    - Whether to make a privileged token where the token of the other options may not write what is wanted. The
      module makes it with Vault's unseal keys, or recovery keys, as C(vault operator generate-root) does, writes
      with it what the other token may not, and revokes it, however the run ends. It never leaves the module's
      process; should that be killed, it expires within five minutes.
    - V(true) uses the keys in O(keys_file). V(false) asks at the terminal whether these may be used, or for the
      keys, where the file is missing or its keys are encrypted with PGP. Without a terminal the task fails, says
      what needs such a token, and changes nothing.
    - Without this option nothing is asked, and a write that is not allowed is an error. Where nothing has to be
      written, no key is read. Check mode makes no token.
    type: bool
  keys_file:
    description: File of unseal keys or recovery keys, as M(kubevault.core.vault_init) writes it.
    type: path
  unseal_keys:
    description:
    - The keys themselves, as many as Vault needs. The question at the terminal fills them in; playbooks have none.
    type: list
    elements: str
"""
