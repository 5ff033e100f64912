"""A seal by the key of a second Vault, which roles/vault-seal-key makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .ansible import ROOT, Ansible
from .servers import PrivateVault


@dataclass(frozen=True)
class SealKey:
    """The key, and the token of the Vault that it opens.

    Attributes:
        second: the second Vault.
        folder: folder for the tokens.
    """

    second: PrivateVault
    folder: Path

    @property
    def token_file(self) -> Path:
        return self.folder / "token"

    def make(self) -> int:
        """Run the role; return how many tasks changed something."""
        admin = self.folder / "admin"
        admin.write_text(str(self.second.root.token))
        variables = {
            "vault_seal_key_vault_url": self.second.url,
            "vault_seal_key_vault_ca_cert": self.second.ca,
            "vault_seal_key_admin_token_file": str(admin),
            "vault_seal_key_token_file": str(self.token_file),
        }
        role = {"import_role": {"name": str(ROOT / "roles/vault-seal-key")}, "vars": variables}
        return Ansible(self.folder).play(role).changed

    @property
    def variables(self) -> dict[str, Any]:
        """Variables of vault-server for this seal."""
        return {
            "vault_server_seal": "transit",
            "vault_server_seal_options": {
                "address": self.second.url,
                "mount_path": "transit/",
                "key_name": "vault-seal",
                "tls_ca_cert": self.second.ca,
            },
            "vault_server_seal_token_file": str(self.token_file),
        }
