# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Action plugin of all modules (links to this file): keeps secrets out of files and off the screen, and reads files.
For roles and playbooks of ours, it keeps the variables of the shell away.

It does on the controller what a module cannot do: it decides how the module and its arguments get to the host, sees the
loop and the environment of the task, and sees keys as YAML read them, before they are sent as JSON.
"""

from __future__ import annotations

import datetime
import os
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleActionFail, AnsibleError, AnsiblePromptNoninteractive
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

CREDENTIAL = re.compile(r"(token|jwt|secret_id|api_key|redis_url|(vault_|auth_|^)proxy(_addr)?)$", re.IGNORECASE)
"""Matches the names of connection options, and of variables, that hold a secret."""

VALUES = ("data", "binary_data", "files", "unseal_keys")
"""Options that hold secrets, besides those of connections."""

NESTED = {"secrets": VALUES, "resources": ("secret_data",)}
"""Suboptions that hold secrets."""

RETURNING_SECRETS = {"service_account_token"}
"""Modules whose results hold a secret, and are hidden unless they are errors."""

SHELL = re.compile(r"(VAULT|KUBEVAULT|ANSIBLE_HASHI_VAULT|K8S_AUTH)_|KUBECONFIG$|(HTTPS?|ALL|NO)_PROXY$", re.IGNORECASE)
"""Matches the names of variables that say who is asked, and who asks."""

OURS = tuple(Path(__file__).resolve().parents[2] / folder for folder in ("roles", "playbooks"))
"""Where the roles and playbooks of this collection, or repository, are."""

ADDRESS = ("VAULT_ADDR", "ANSIBLE_HASHI_VAULT_ADDR", "ANSIBLE_HASHI_VAULT_URL")
"""Variables that name Vault's address, where the option ``vault_url`` or an alias of it does not."""

WITHOUT_VAULT = {"kubevault_rbac_info", "kubevault_secret_info", "service_account_token"}
"""Modules that need no Vault, or not always."""

KEY_AS_TEXT = 'write it in quotes, as "NO", "on", "1.5" or "null"'

UNKNOWN = "dW5rbm93bg=="
"""What stands in check mode for a value that is not known yet: not empty, and base64 as binary_data is."""

LONG = 8
"""A text with fewer characters may occur in another by coincidence."""


class InventoryOnly(ActionBase):
    """Starts modules in roles and playbooks of ours without the variables of the operator's shell.

    For them the inventory, and ``environment`` of a play, say which servers are used. Only a process of this machine,
    by the connection "local", inherits the variables. To set them to nothing would not do: for kubernetes.core, an
    empty one is a value.
    """

    @property
    def _is_ours(self) -> bool:
        """Whether the task is one of a role or playbook of ours."""
        path = Path(self._task.get_path()).resolve()
        return any(path.is_relative_to(folder) for folder in OURS)

    def _low_level_execute_command(self, *args: Any, **options: Any) -> dict[str, Any]:
        ours = self._is_ours
        hidden = {name: os.environ.pop(name) for name in list(os.environ) if ours and SHELL.match(name)}
        try:
            return super()._low_level_execute_command(*args, **options)
        finally:
            os.environ.update(hidden)


class ActionModule(InventoryOnly):
    """Passes everything on to the module; the content of files as values in base64."""

    _requires_connection = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module.

        Raises:
            AnsibleActionFail: a file cannot be read, a key is not text, or a secret would be written to a file.
        """
        result = super().run(tmp, task_vars)
        del tmp
        arguments = dict(self._task.args)
        wrap_async = bool(self._task.async_val and not self._connection.has_native_async)
        if secrets := list(_secrets(arguments)):
            self._require_pipe(", ".join(dict(secrets)), wrap_async)
            self._warn_of_screen(secrets, task_vars or {})
        environment = self._warned_environment()
        module = self._task.action.rpartition(".")[2]
        if self._is_ours and module not in WITHOUT_VAULT:
            self._require_address(arguments, environment)
        if module == "kubevault_secret":
            if problems := list(_odd(arguments)):
                raise AnsibleActionFail("; ".join(problems))
            arguments = self._filled(arguments)
            if isinstance(entries := arguments.get("secrets"), list):
                arguments["secrets"] = [
                    self._filled(entry, f"secrets[{index}] ") if isinstance(entry, dict) else entry
                    for index, entry in enumerate(entries)
                ]
        execute = partial(self._execute_module, self._task.action, task_vars=task_vars, wrap_async=wrap_async)
        answer = execute(module_args=arguments)
        if (elevation := answer.pop("elevation", None)) and (keys := _asked(elevation)):
            self._require_pipe(", ".join(keys), wrap_async)
            answer = execute(module_args=arguments | keys)
        result.update(answer)
        if module in RETURNING_SECRETS and not result.get("failed"):
            result["_ansible_no_log"] = True
        return result

    def _require_pipe(self, options: str, wrap_async: bool) -> None:
        """Have Ansible send the module and its arguments to the interpreter's standard input, not to a file."""
        if constants.DEFAULT_DEBUG:
            raise AnsibleActionFail(f"{options}: ANSIBLE_DEBUG would print secrets; unset it")
        connection, become = self._connection, self._connection.become
        with suppress(AnsibleError, KeyError):  # a connection without this option
            connection.set_option("pipelining", True)
        # Whether files are kept, ansible-core 2.19 asks within the connection; 2.21 asks it besides.
        if connection.is_pipelining_enabled(wrap_async) and not constants.DEFAULT_KEEP_REMOTE_FILES:
            return
        delegation_hint = "or delegate the task to localhost, without become: it needs only the servers' APIs"
        if wrap_async:
            reason, remedy = "async", "leave it out"
        elif constants.DEFAULT_KEEP_REMOTE_FILES:
            reason, remedy = "ANSIBLE_KEEP_REMOTE_FILES", "unset it"
        elif become and not become.pipelining:
            reason, remedy = f"the become method {become.name}", f"use another one, such as sudo, {delegation_hint}"
        else:
            reason, remedy = f"the connection {connection.transport}", f"use one that has pipelining, {delegation_hint}"
        raise AnsibleActionFail(f"{options}: {reason} would write secrets to a file on the host; {remedy}")

    def _warn_of_screen(self, secrets: Sequence[tuple[str, object]], task_vars: Mapping[str, Any]) -> None:
        """Warn if Ansible prints secrets as items of a loop, or with the name of the task."""
        if self._task.no_log:
            return
        options = ", ".join(dict(secrets))
        if constants.DISPLAY_ARGS_TO_STDOUT:
            Display().warning(f"ANSIBLE_DISPLAY_ARGS_TO_STDOUT prints secrets ({options}): unset it, or set no_log.")
        # Of files, the items are only paths.
        values = {text for name, secret in secrets if not name.endswith("files") for text in _texts(secret)}
        items = _texts(task_vars.get(task_vars.get("ansible_loop_var", "")))
        if any(item in values or (len(item) >= LONG and any(item in value for value in values)) for item in items):
            Display().warning(
                f"The items of the loop hold secrets ({options}), and Ansible prints items: give all of them in one"
                " task instead of a loop, or set no_log."
            )

    def _require_address(self, arguments: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Check that a role is told where Vault is: the module would advise to set the shell's variables."""
        has_address = any(arguments.get(name) for name in ("vault_url", "url", "vault_addr"))
        if has_address or any(environment.get(name) for name in ADDRESS) or self._connection.transport != "local":
            return
        raise AnsibleActionFail(
            "vault_url is missing: roles do not look at variables of the shell; set VAULT_ADDR in environment of a"
            " play, as the playbooks of kubevault do from kubevault_vault_url"
        )

    def _warned_environment(self) -> dict[str, Any]:
        """Return the task's environment, and warn if Ansible writes secrets of it on a command line."""
        environment: dict[str, Any] = {}
        self._compute_environment_string(environment)
        if names := [name for name, value in environment.items() if value and CREDENTIAL.search(name)]:
            Display().warning(
                f"environment: Ansible writes {', '.join(names)} on a command line, which other users of the host can"
                " see, and prints it at -vvv: use the module's option, or a file."
            )
        return environment

    def _filled(self, options: dict[str, Any], entry: str = "") -> dict[str, Any]:
        """Return options with the content of files instead of their paths; an entry of several is named in errors."""
        options = dict(options)
        secret = f"{entry}{options.get('namespace') or 'default'}/{options.get('name')}: "
        for option in ("data", "binary_data"):
            if self._task.check_mode and isinstance(option_values := options.get(option), dict):
                options[option] = {
                    key: _assumed(f"{option}[{key}]") if value is None else value
                    for key, value in option_values.items()
                }
        files = options.get("files")
        if not isinstance(files, dict) or not isinstance(options.get("binary_data") or {}, dict):
            return options  # the module reports what is wrong
        values = dict(options.get("binary_data") or {})
        unread_files = {}
        for key, path in files.items():
            if key in values:
                unread_files[key] = path  # the module reports that the data key is given twice
            else:
                values[key] = b64encode(self._content(key, path, secret)).decode("ascii")
        options["binary_data"], options["files"] = values, unread_files or None
        return options

    def _content(self, key: str, path: object, secret: str) -> bytes:
        """Read a file as ansible.builtin.copy finds it; one that ansible-vault encrypted is decrypted, in memory."""
        try:
            resolved_path = self._find_needle("files", str(path))
        except AnsibleError:
            if self._task.check_mode:
                return _assumed(f"files[{key}]").encode()
            folders = [Path(folder) for folder in self._task.get_search_path()]
            # Not any path: it is a value if the user mistook files for data.
            is_path = any(len(Path(str(path)).parts) > 1 and (each / str(path)).parent.is_dir() for each in folders)
            raise AnsibleActionFail(
                f"{secret}files[{key}]: there is no such file{f': {path}' if is_path else ''}; looked in"
                f" {', '.join(map(str, folders))}, and in files of each; a value belongs in data"
            ) from None
        try:
            return bytes(self._loader._get_file_contents(resolved_path)[0])
        except AnsibleError as error:
            raise AnsibleActionFail(f"files[{key}]: {error}") from error


def _asked(elevation: Mapping[str, Any]) -> dict[str, Any]:
    """Ask for what a privileged token of Vault is made of, and return it as options; none without a terminal.

    Args:
        elevation: what the module says that it needs (module_utils/kubevault_elevation.py).
    """
    changes = "\n".join(f"  {change}" for change in elevation["changes"])
    reason = f"Only a privileged token may write this in Vault:\n{changes}\n"
    with suppress(AnsiblePromptNoninteractive):
        if path := elevation["keys_file"]:
            question = f"Make one with the keys in {path}, and revoke it afterwards? Type yes to go on:"
            return {"elevate": True} if _prompt(f"{reason}{question}", private=False) == "yes" else {}
        needed = elevation["keys"]
        purpose = f"{reason}It is made with {needed} of the unseal keys, or recovery keys, and revoked afterwards."
        Display().display(purpose)
        return {"unseal_keys": [_prompt(f"Key {number} of {needed} (not shown):") for number in range(1, needed + 1)]}
    return {}


def _prompt(text: str, *, private: bool = True) -> str:
    return Display().prompt_until(f"{text}\r", private=private).decode().strip()


def _assumed(name: str) -> str:
    """Return what check mode takes for a value that an earlier task of a run would make, and warn of it."""
    meaning = "Check mode assumes that it would be created before; a run fails if it is not."
    Display().warning(f"Not there yet: {name}. {meaning}")
    return UNKNOWN


def _secrets(arguments: Mapping[str, Any], values: Sequence[str] = VALUES) -> Iterator[tuple[str, object]]:
    """Yield the names of options that hold secrets, and their values."""
    for option, value in arguments.items():
        if not value:
            continue
        if option in NESTED and isinstance(value, list):
            for entry in value:
                if isinstance(entry, dict):
                    yield from ((f"{option}.{name}", secret) for name, secret in _secrets(entry, NESTED[option]))
        elif option in values or CREDENTIAL.search(option) or (option == "kubeconfig" and isinstance(value, dict)):
            yield option, value


def _odd(value: object, where: str = "") -> Iterator[str]:
    """Yield the keys, and the dates, that YAML read as another type than text: JSON would write False as "false"."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str):
                yield from _odd(item, f"{where}[{key}]" if where else key)
            else:
                yield f"{where}: a key was read as {key}, which is not text; {KEY_AS_TEXT}"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _odd(item, f"{where}[{index}]")
    elif isinstance(value, datetime.date):
        yield f"{where}: a value was read as a date; quote it, or add `| string` to a template"


def _texts(value: object) -> Iterator[str]:
    """Yield all texts within a value."""
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
