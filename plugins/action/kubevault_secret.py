# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Action plugin: reads the files that kubevault_secret seals, and hands values to the module by a pipe alone."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display


class ActionModule(ActionBase):
    """Sends the content of files as values in base64; the rest is the module's."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module.

        Raises:
            AnsibleActionFail: a file cannot be read.
        """
        result = super().run(tmp, task_vars)
        del tmp
        # The arguments hold secrets: they go to the host through a pipe, and into no file on their way.
        try:
            self._connection.set_option("pipelining", True)
        except (AnsibleError, KeyError):
            name = self._connection.transport
            Display().warning(f"The connection {name} has no option pipelining: values may be in a file on their way.")
        arguments = self._filled(self._task.args)
        if isinstance(arguments.get("secrets"), list):
            entries = arguments["secrets"]
            arguments["secrets"] = [self._filled(entry) if isinstance(entry, dict) else entry for entry in entries]
        result.update(self._execute_module(module_name=self._task.action, module_args=arguments, task_vars=task_vars))
        return result

    def _filled(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return options with the content of files instead of their paths."""
        options = dict(options)
        files = options.get("files")
        if not isinstance(files, dict) or not isinstance(options.get("binary_data") or {}, dict):
            return options  # the module reports what is wrong
        values = dict(options.get("binary_data") or {})
        left = {}
        for key, path in files.items():
            if key in values:
                left[key] = path  # the module reports that the data key is given twice
            else:
                values[key] = b64encode(self._content(key, path)).decode("ascii")
        options["binary_data"], options["files"] = values, left or None
        return options

    def _content(self, key: str, path: str) -> bytes:
        """Read a file as ansible.builtin.copy finds it; one that ansible-vault encrypted is decrypted, in memory."""
        try:
            content = self._loader._get_file_contents(self._find_needle("files", str(path)))[0]
        except AnsibleError as error:
            raise AnsibleActionFail(f"files[{key}]: {error}") from error
        return bytes(content)
