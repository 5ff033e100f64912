# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
# Written by `make options` from src/secretmanager/options.py; do not edit.
"""Argument specs of the connection options."""

from __future__ import annotations

from typing import Any

VAULT_CONNECTION_OPTIONS: dict[str, dict[str, Any]] = {
    "vault_url": {"type": "str", "aliases": ["url"]},
    "vault_ca_cert": {"type": "path", "aliases": ["vault_cacert"]},
    "vault_ca_path": {"type": "path"},
    "vault_client_cert": {"type": "path"},
    "vault_client_key": {"type": "path", "no_log": False},
    "vault_tls_server_name": {"type": "str"},
    "vault_proxy": {"type": "str", "no_log": True},
    "vault_loopback_http": {"type": "bool", "default": False},
    "vault_namespace": {"type": "str"},
    "vault_timeout": {"type": "float", "default": 30.0},
    "election_timeout": {"type": "float", "default": 20.0},
}
"""Argument spec of the fragment ``kubevault_vault.connection``."""

VAULT_LOGIN_OPTIONS: dict[str, dict[str, Any]] = {
    "vault_auth_method": {
        "type": "str",
        "choices": ["kubernetes", "approle", "gcp", "token"],
        "aliases": ["auth_method"],
    },
    "vault_auth_mount": {"type": "str", "aliases": ["mount_point"]},
    "vault_token": {"type": "str", "no_log": True, "aliases": ["token"]},
    "vault_token_file": {"type": "path", "no_log": False},
    "vault_role": {"type": "str"},
    "vault_jwt": {"type": "str", "no_log": True, "aliases": ["jwt"]},
    "vault_role_id": {"type": "str", "aliases": ["role_id"]},
    "vault_role_id_file": {"type": "path"},
    "vault_secret_id": {"type": "str", "no_log": True, "aliases": ["secret_id"]},
    "vault_secret_id_file": {"type": "path", "no_log": False},
    "vault_secret_id_wrapped": {"type": "bool", "default": False, "no_log": False},
    "vault_gcp_credentials_file": {"type": "path"},
}
"""Argument spec of the fragment ``kubevault_vault.login``."""

TRANSIT_OPTIONS: dict[str, dict[str, Any]] = {
    "transit_mount": {"type": "str", "default": "transit"},
}
"""Argument spec of the fragment ``kubevault_vault.transit``."""

KUBERNETES_OPTIONS: dict[str, dict[str, Any]] = {
    "kubeconfig": {"type": "raw"},
    "context": {"type": "str"},
    "host": {"type": "str"},
    "api_key": {"type": "str", "no_log": True},
    "ca_cert": {"type": "path", "aliases": ["ssl_ca_cert"]},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path", "no_log": False},
    "proxy": {"type": "str", "no_log": True},
}
"""Argument spec of the fragment ``kubevault_kubernetes``."""

REDIS_OPTIONS: dict[str, dict[str, Any]] = {
    "redis_url": {"type": "str", "no_log": True},
    "redis_password_file": {"type": "path", "no_log": False},
    "redis_ca_cert": {"type": "path"},
    "redis_client_cert": {"type": "path"},
    "redis_client_key": {"type": "path", "no_log": False},
    "redis_channel": {"type": "str", "default": "kubevault"},
}
"""Argument spec of the fragment ``kubevault_redis``."""

VAULT_OPTIONS: dict[str, dict[str, Any]] = {**VAULT_CONNECTION_OPTIONS, **VAULT_LOGIN_OPTIONS}
"""Argument spec of modules that reach Vault and log in."""

NO_PATH = "\\n|^\\s*\\{|^-----BEGIN|(^|/)(hv[sbr]\\.|s\\.\\w{24}$|eyJ)"
"""Matches what is not a path but may be a secret."""
