# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Lookup plugin: a value that Vault sealed and Kubernetes keeps."""

from __future__ import annotations

DOCUMENTATION = r"""
name: kubevault
short_description: Read what Vault has sealed in a Kubernetes Secret
version_added: "0.1.0"
author: KUBEVAULT (@kubevault)
description:
  - Gets a Secret from Kubernetes and has Vault decrypt its values, if the policy of the token and RBAC permit it. A sealer's
    policy does not.
  - Ansible does not know that the result of a lookup is secret. Use C(no_log) for tasks that could show it.
options:
  _terms:
    description:
      - Secrets, each C(NAMESPACE/NAME) for all its sealed values, or C(NAMESPACE/NAME/KEY) for one.
    type: list
    elements: str
    required: true
  transit_key:
    description: The Transit key of values that an older tool sealed. Other Secrets name it themselves.
    type: str
  base64:
    description: Whether to return values in base64, for example if they are not text.
    type: bool
    default: false
extends_documentation_fragment:
  - kubevault.core.kubevault_vault.lookup
  - kubevault.core.kubevault_vault.transit
  - kubevault.core.kubevault_kubernetes.lookup
requirements:
  - kubevault (Python package)
seealso:
  - module: kubevault.core.kubevault_secret
"""

EXAMPLES = r"""
- name: Use one value
  ansible.builtin.template:
    src: application.conf.j2
    dest: /etc/application.conf
    mode: "0600"
  no_log: true
  vars:
    matrix: "{{ lookup('kubevault.core.kubevault', 'default/matrix-secrets/secrets.json') | from_json }}"
"""

RETURN = r"""
_raw:
  description: Of C(NAMESPACE/NAME/KEY) the text that was sealed; of C(NAMESPACE/NAME) a dict of the texts by data key.
  type: list
  elements: raw
"""

import sys
from base64 import b64encode
from contextlib import closing
from typing import Any

from ansible.errors import AnsibleError, AnsibleOptionsError
from ansible.plugins.lookup import LookupBase
from ansible.utils.display import Display

display = Display()


class LookupModule(LookupBase):
    """Reads sealed values."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """Return one result for each term.

        Raises:
            AnsibleError: an option is missing or wrong, or a server refused; says which and why.
        """
        try:
            from secretmanager.errors import drop_frames
        except ImportError as error:
            raise AnsibleError("The lookup kubevault needs the Python package kubevault") from error
        outer = sys.exception()
        try:
            return self._read(terms, variables, kwargs)
        except BaseException as error:
            # The variables of all frames down from here hold secrets.
            del variables, kwargs
            drop_frames(error, outer)
            raise

    def _read(self, terms: list[str], variables: dict[str, Any] | None, direct_options: dict[str, Any]) -> list[Any]:
        try:
            from secretmanager.errors import SecretManagerError, unexpected
            from secretmanager.login.methods import Credentials, method_of
            from secretmanager.login.session import logged_in
            from secretmanager.options import KUBERNETES, VAULT, check_types, with_variables
            from secretmanager.reading.opening import open_secrets
            from secretmanager.reading.requests import Request
            from secretmanager.servers.kubernetes import KubernetesClient
            from secretmanager.servers.vault import VaultClient
        except ImportError as error:
            raise AnsibleError("The lookup kubevault needs the Python package kubevault") from error
        try:
            check_types(direct_options)
        except SecretManagerError as error:
            raise AnsibleOptionsError(str(error)) from None
        self.set_options(var_options=variables, direct=direct_options)
        places = [self._place(term) for term in terms]
        options = with_variables(self.get_options(), VAULT, KUBERNETES, others=True)
        transit_key = options["transit_key"]
        try:
            with (
                closing(KubernetesClient.from_options(options)) as kubernetes,
                logged_in(
                    VaultClient.from_options(options),
                    method_of(Credentials.from_options(options), lambda: kubernetes).log_in,
                    display.warning,
                ) as vault,
            ):
                requests = [Request(name, namespace, "SECRET", key, transit_key) for namespace, name, key in places]
                opened_secrets = open_secrets(kubernetes, vault, requests)
        except SecretManagerError as error:
            raise AnsibleError(str(error)) from error
        except Exception as error:  # noqa: BLE001 - the boundary: the text could show a secret
            raise AnsibleError(unexpected(error)) from None
        return [
            {key: self._text(value, term, key) for key, value in values.items()}
            if place[2] is None
            else self._text(values[place[2]], term, place[2])
            for term, place, values in zip(terms, places, opened_secrets, strict=True)
        ]

    @staticmethod
    def _place(term: object) -> tuple[str, str, str | None]:
        if not isinstance(term, str):
            raise AnsibleOptionsError(f"found a term of type {type(term).__name__}; allowed is text")
        parts = term.split("/", 2)
        if len(parts) < 2 or not all(parts):
            raise AnsibleOptionsError(f"found {term!r}; allowed is NAMESPACE/NAME or NAMESPACE/NAME/KEY")
        return parts[0], parts[1], parts[2] if len(parts) == 3 else None

    def _text(self, value: bytes, term: str, key: str) -> str:
        if self.get_option("base64"):
            return b64encode(value).decode("ascii")
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
        # Outside of "except": the original holds the value.
        raise AnsibleError(f"{term}: data key {key} is not valid UTF-8; set base64")
