"""What roles/vault-server writes for OpenBao, which refuses or ignores some of what Vault takes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parents[2] / "roles/vault-server/templates"

VARIABLES: dict[str, Any] = {
    "ansible_managed": "managed",
    "vault_server_product": "openbao",
    "vault_server_program": "/opt/vault/2.6.2/bao",
    "vault_server_user": "vault",
    "vault_server_url": "https://vault.example.org:8200",
    "vault_server_urls": ["https://vault.example.org:8200"],
    "vault_server_cluster_url": "https://vault.example.org:8201",
    "vault_server_address": "0.0.0.0:8200",
    "vault_server_cluster_address": "0.0.0.0:8201",
    "vault_server_node_id": "vault.example.org",
    "vault_server_config_dir": "/etc/vault.d",
    "vault_server_data_dir": "/opt/vault/data",
    "vault_server_audit_dir": "/var/log/vault",
    "vault_server_seal": "static",
    "vault_server_seal_options": {"current_key_id": 1, "current_key": "file:///run/credentials/vault.service/seal-key"},
    "vault_server_seal_token_file": "",
    "vault_server_former_seal": "shamir",
    "vault_server_former_seal_options": {},
    "vault_server_telemetry": {},
    "vault_server_audit_devices": [{"name": "file", "type": "file", "options": {"file_path": "/var/log/vault/a.log"}}],
    "vault_server_audit_in_configuration": True,
    "vault_server_credentials": {"seal-key": "/etc/vault-seal.key"},
}


def rendered(name: str, **changed: object) -> str:
    templates = Environment(loader=FileSystemLoader(TEMPLATES), trim_blocks=True, undefined=StrictUndefined)
    # The template has filters of Ansible; this one only for further nodes.
    templates.filters |= {"to_json": json.dumps, "ansible.builtin.urlsplit": urlsplit}
    return templates.get_template(name).render({**VARIABLES, **changed})


def test_openbao_has_its_seal_and_its_audit_devices_in_the_configuration() -> None:
    text = rendered("vault.hcl.j2")
    assert (
        'seal "static" {\n'
        '  current_key_id = "1"\n'
        '  current_key = "file:///run/credentials/vault.service/seal-key"\n'
        "}\n" in text
    )
    assert 'audit "file" "file" {\n  options {\n    file_path = "/var/log/vault/a.log"\n  }\n}\n' in text


@pytest.mark.parametrize(("product", "expected"), [("vault", True), ("openbao", False)])
def test_mlock_is_an_option_that_openbao_does_not_know(product: str, expected: bool) -> None:
    assert ("disable_mlock = true" in rendered("vault.hcl.j2", vault_server_product=product)) is expected


def test_systemd_hands_over_credentials() -> None:
    assert "\nLoadCredential=seal-key:/etc/vault-seal.key\n" in rendered("vault.service.j2")
    assert "LoadCredential" not in rendered("vault.service.j2", vault_server_credentials={})


def test_a_text_of_the_inventory_stays_one_text() -> None:
    text = rendered("vault.hcl.j2", vault_server_node_id='a"\n}\nui = true', vault_server_data_dir='/srv/a"b')
    assert '\n  path    = "/srv/a\\"b"\n  node_id = "a\\"\\n}\\nui = true"\n}\n' in text


def test_root_loads_no_rules_from_a_folder_of_vault_s_user() -> None:
    """Vault's user could put others in their place."""
    variables = yaml.safe_load((TEMPLATES.parent / "vars/main.yml").read_text())
    unit = rendered(
        "vault-firewall.service.j2", vault_server_firewall_rules=variables.get("vault_server_firewall_rules")
    )
    loaded = re.findall(r"^Exec\w+=/usr/sbin/nft -f (\S+)$", unit, re.MULTILINE)
    owned = [VARIABLES[f"vault_server_{name}_dir"] for name in ("config", "data", "audit")]
    assert loaded
    assert [path for path in loaded if any(Path(path).is_relative_to(folder) for folder in owned)] == []
