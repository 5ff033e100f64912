"""What vault_init and vault_restore do, as functions of a process that can be killed. Each ends it with its error."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from secretmanager.admin.connection import Vault
from secretmanager.admin.initialisation import Initialisation, ensure_unsealed
from secretmanager.admin.restoration import Snapshot, restore
from secretmanager.errors import SecretManagerError
from secretmanager.servers.vault import VaultClient

# What this module imports, each such process imports: nothing of the tests' other modules.


def initialise_vault(url: str, ca: str, folder: Path) -> None:
    """Initialise and unseal a Vault, with the files of its keys in a folder."""
    wanted = Initialisation(3, 2, f"{folder}/keys.json", f"{folder}/root-token")
    try:
        ensure_unsealed(_connect(ca, url, ""), wanted, timeout=30)
    except SecretManagerError as error:
        sys.exit(str(error))


def restore_vault(url: str, ca: str, folder: Path) -> None:
    """Restore the snapshot of a folder."""
    files = {f"{name}_file": f"{folder}/{name}" for name in ("temporary", "note", "privileged_token")}
    snapshot = Snapshot(folder / "snapshot")
    try:
        restore(partial(_connect, ca), [url], snapshot, f"{folder}/keys.json", **files, timeout=30)
    except SecretManagerError as error:
        sys.exit(str(error))


def _connect(ca: str, url: str, token: str) -> Vault:
    return Vault(VaultClient(url, ca_cert=ca, token=token, retries=0))
