# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
# Written by `make options` from src/secretmanager/options.py; do not edit.
"""Argument specs of the connection options."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import env_fallback

VAULT_CONNECTION_OPTIONS: dict[str, dict[str, Any]] = {
    "vault_url": {
        "type": "str",
        "required": True,
        "aliases": ["url"],
        "fallback": (env_fallback, ["ANSIBLE_HASHI_VAULT_ADDR", "VAULT_ADDR"]),
    },
    "vault_ca_cert": {
        "type": "path",
        "aliases": ["vault_cacert"],
        "fallback": (env_fallback, ["ANSIBLE_HASHI_VAULT_CA_CERT", "VAULT_CACERT"]),
    },
    "vault_ca_path": {"type": "path", "fallback": (env_fallback, ["VAULT_CAPATH"])},
    "vault_client_cert": {"type": "path", "fallback": (env_fallback, ["VAULT_CLIENT_CERT"])},
    "vault_client_key": {"type": "path", "no_log": False, "fallback": (env_fallback, ["VAULT_CLIENT_KEY"])},
    "vault_tls_server_name": {"type": "str", "fallback": (env_fallback, ["VAULT_TLS_SERVER_NAME"])},
    "vault_proxy": {"type": "str", "no_log": True, "fallback": (env_fallback, ["VAULT_PROXY_ADDR"])},
    "vault_namespace": {
        "type": "str",
        "fallback": (env_fallback, ["ANSIBLE_HASHI_VAULT_NAMESPACE", "VAULT_NAMESPACE"]),
    },
    "vault_timeout": {"type": "float", "default": 30.0},
    "election_timeout": {"type": "float", "default": 20.0},
}
"""Argument spec of the fragment ``kubevault_vault.connection``."""

VAULT_LOGIN_OPTIONS: dict[str, dict[str, Any]] = {
    "vault_auth_method": {
        "type": "str",
        "default": "token",
        "choices": ["kubernetes", "approle", "gcp", "token"],
        "aliases": ["auth_method"],
        "fallback": (env_fallback, ["ANSIBLE_HASHI_VAULT_AUTH_METHOD"]),
    },
    "vault_auth_mount": {
        "type": "str",
        "aliases": ["mount_point"],
        "fallback": (env_fallback, ["ANSIBLE_HASHI_VAULT_MOUNT_POINT"]),
    },
    "vault_token": {"type": "str", "no_log": True, "aliases": ["token"]},
    "vault_token_file": {"type": "path", "no_log": False},
    "vault_role": {"type": "str"},
    "vault_jwt": {
        "type": "str",
        "no_log": True,
        "aliases": ["jwt"],
        "fallback": (env_fallback, ["ANSIBLE_HASHI_VAULT_JWT"]),
    },
    "vault_role_id": {
        "type": "str",
        "aliases": ["role_id"],
        "fallback": (env_fallback, ["ANSIBLE_HASHI_VAULT_ROLE_ID", "VAULT_ROLE_ID"]),
    },
    "vault_role_id_file": {"type": "path"},
    "vault_secret_id": {
        "type": "str",
        "no_log": True,
        "aliases": ["secret_id"],
        "fallback": (env_fallback, ["ANSIBLE_HASHI_VAULT_SECRET_ID", "VAULT_SECRET_ID"]),
    },
    "vault_secret_id_file": {"type": "path", "no_log": False},
    "vault_secret_id_wrapped": {"type": "bool", "default": False, "no_log": False},
    "vault_gcp_credentials_file": {"type": "path"},
}
"""Argument spec of the fragment ``kubevault_vault.login``."""

KUBERNETES_OPTIONS: dict[str, dict[str, Any]] = {
    "kubeconfig": {"type": "raw", "fallback": (env_fallback, ["K8S_AUTH_KUBECONFIG"])},
    "context": {"type": "str", "fallback": (env_fallback, ["K8S_AUTH_CONTEXT"])},
    "host": {"type": "str", "fallback": (env_fallback, ["K8S_AUTH_HOST"])},
    "api_key": {"type": "str", "no_log": True, "fallback": (env_fallback, ["K8S_AUTH_API_KEY"])},
    "ca_cert": {"type": "path", "aliases": ["ssl_ca_cert"], "fallback": (env_fallback, ["K8S_AUTH_SSL_CA_CERT"])},
    "client_cert": {"type": "path", "fallback": (env_fallback, ["K8S_AUTH_CERT_FILE"])},
    "client_key": {"type": "path", "no_log": False, "fallback": (env_fallback, ["K8S_AUTH_KEY_FILE"])},
    "proxy": {"type": "str", "no_log": True, "fallback": (env_fallback, ["K8S_AUTH_PROXY"])},
}
"""Argument spec of the fragment ``kubevault_kubernetes``."""

REDIS_OPTIONS: dict[str, dict[str, Any]] = {
    "redis_url": {"type": "str", "no_log": True, "fallback": (env_fallback, ["KUBEVAULT_REDIS_URL"])},
    "redis_password_file": {
        "type": "path",
        "no_log": False,
        "fallback": (env_fallback, ["KUBEVAULT_REDIS_PASSWORD_FILE"]),
    },
    "redis_ca_cert": {"type": "path", "fallback": (env_fallback, ["KUBEVAULT_REDIS_CACERT"])},
    "redis_channel": {"type": "str", "default": "kubevault"},
}
"""Argument spec of the fragment ``kubevault_redis``."""

VAULT_OPTIONS: dict[str, dict[str, Any]] = {**VAULT_CONNECTION_OPTIONS, **VAULT_LOGIN_OPTIONS}
"""Argument spec of modules that reach Vault and log in."""

NO_PATH = "\\n|^\\s*\\{|^-----BEGIN|(^|/)(hv[sbr]\\.|s\\.\\w{24}$|eyJ)"
"""Matches what is not a path but may be a secret."""

VAULT_REQUIRED_IF = [
    ("vault_auth_method", "kubernetes", ["vault_role"], True),
    ("vault_auth_method", "approle", ["vault_role_id", "vault_role_id_file"], True),
    ("vault_auth_method", "gcp", ["vault_role"], True),
]
"""For ``required_if`` of modules that have ``VAULT_OPTIONS``."""
