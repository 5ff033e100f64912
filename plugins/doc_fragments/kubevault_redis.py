# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
# Written by `make options` from src/secretmanager/options.py; do not edit.
"""Documentation of the options of notices."""

from __future__ import annotations


class ModuleDocFragment:
    """The documentation fragments."""

    DOCUMENTATION = r"""
options:
  redis_url:
    description:
    - Redis to notify after each write, C(rediss://[USER@]HOST[:PORT][/DATABASE]).
    - Services that wait for changes (C(SecretManager.watch)) are notified by it. A notice holds the place
      and the versions, never a ciphertext or a value.
    - If Redis is unreachable, the module warns. The Secrets are written all the same.
    - Falls back to the environment variable E(KUBEVAULT_REDIS_URL).
    type: str
  redis_password_file:
    description:
    - File that holds the password of Redis.
    - Falls back to the environment variable E(KUBEVAULT_REDIS_PASSWORD_FILE).
    type: path
  redis_ca_cert:
    description:
    - PEM file of the CA of Redis' certificate, besides the system's CAs.
    - Falls back to the environment variable E(KUBEVAULT_REDIS_CACERT).
    type: path
  redis_client_cert:
    description:
    - PEM file of a client certificate, which Redis requires with TLS by default.
    - Falls back to the environment variable E(KUBEVAULT_REDIS_CLIENT_CERT).
    type: path
  redis_client_key:
    description:
    - PEM file of that certificate's key.
    - Falls back to the environment variable E(KUBEVAULT_REDIS_CLIENT_KEY).
    type: path
  redis_channel:
    description:
    - First part of the names of Redis' channels, CHANNEL:NAMESPACE/NAME.
    type: str
    default: kubevault
"""
