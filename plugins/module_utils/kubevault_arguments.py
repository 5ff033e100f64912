# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""What a task gives to a module, checked before Ansible checks it.

Ansible's own check quotes some values of a wrong type. Its result then holds all parameters, and masks only the secrets
that it had collected until it failed: none of an option that it does not know, and none at all if a suboption is wrong
(ansible-core 2.19 and 2.21). So no value of a wrong type, and none of an unknown option, is left for it to show.

It also writes all parameters to the journal of the host. Of an option with suboptions it writes the repr, in which it
does not find a secret that has a line end, a backslash or both quotes. So dicts of secrets are out of its sight.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .kubevault_options import NO_PATH
from .kubevault_results import HIDDEN, Concealed

PIPE = (
    "set pipelining, without async, ANSIBLE_KEEP_REMOTE_FILES and become methods such as su; or use the collection"
    " kubevault.core, whose action plugin does so"
)

_SECRETS = {
    "str": (str, "text, so quote it, or add `| string` to a template"),
    "dict": (dict, "a dict (`| from_json`)"),
    "list": (list, "a list"),
}
"""Types of options that are secret, and how a user gets a value of that type."""

Spec = Mapping[str, Mapping[str, Any]]


class Module(AnsibleModule):
    """An AnsibleModule that shows nothing of an option that may hold a secret, whatever is wrong with it.

    Attributes:
        kubeconfig: the option of this name, if it is a dict, which then is not among the parameters.
    """

    kubeconfig: dict[str, Any] | None = None

    def _set_internal_properties(self, *args: Any, **kwargs: Any) -> None:
        """Check the parameters: Ansible has read them, and can fail from here on, but has not checked them yet."""
        super()._set_internal_properties(*args, **kwargs)
        params, self.params = self.params, {}  # a failure reports self.params, with nothing masked yet
        options = list(_walk(self.argument_spec, params))
        problems = list(filter(None, (_problem(*option) for option in options)))
        secrets = [name for name, facts, value in options if value and _is_secret(facts, value)]
        if secrets and _is_run_from_a_file():
            problems.append(f"{secrets[0]}: reached this host in a file, unencrypted; {PIPE}")
        if problems:
            self.fail_json(msg="; ".join(problems))
        if isinstance(params.get("kubeconfig"), dict):
            self.kubeconfig, params["kubeconfig"] = params["kubeconfig"], HIDDEN
        _conceal(self.argument_spec, params)
        self.params = params


def _walk(spec: Spec, params: dict[str, Any], where: str = "") -> Iterator[tuple[str, Mapping[str, Any], Any]]:
    """Yield the name, the spec and the value of each option that is given; hide the values of unknown options."""
    facts_by_name = {name: facts for option, facts in spec.items() for name in (option, *facts.get("aliases", ()))}
    for option, value in params.items():
        if option not in facts_by_name:
            params[option] = HIDDEN  # Ansible refuses it by its name
        elif value is not None:
            yield f"{where}{option}", facts_by_name[option], value
            for index, entry in enumerate(
                value if "options" in facts_by_name[option] and isinstance(value, list) else ()
            ):
                if isinstance(entry, dict):
                    yield from _walk(facts_by_name[option]["options"], entry, f"{where}{option}[{index}].")


def _conceal(spec: Spec, params: dict[str, Any]) -> None:
    """Put something else in the place of each dict of secrets."""
    for option, facts in spec.items():
        value = params.get(option)
        if facts.get("no_log") is True and isinstance(value, dict):
            params[option] = Concealed(value)
        for entry in value if "options" in facts and isinstance(value, list) else ():
            _conceal(facts["options"], entry)


def _problem(name: str, facts: Mapping[str, Any], value: Any) -> str | None:
    """Return what is wrong with an option that may hold a secret."""
    kind, actual = facts["type"], type(value).__name__
    if "options" in facts:
        fits, allowed = isinstance(value, list) and all(isinstance(entry, dict) for entry in value), "a list of dicts"
    elif kind in ("path", "raw"):
        fits, allowed = isinstance(value, str) and not re.search(NO_PATH, value), "the path of a file"
        actual = "something else" if isinstance(value, str) else actual
        if kind == "raw":  # kubeconfig
            fits, allowed = fits or isinstance(value, dict), f"{allowed}, or its content as a dict (`| from_yaml`)"
    elif facts.get("no_log"):
        type_, allowed = _SECRETS[kind]
        fits = isinstance(value, type_)
    else:
        return None
    return None if fits else f"{name}: found {actual}; allowed is {allowed}"


def _is_secret(facts: Mapping[str, Any], value: object) -> bool:
    return facts.get("no_log") is True or (facts["type"] == "raw" and isinstance(value, dict))


def _is_run_from_a_file() -> bool:
    """Whether Ansible wrote the module with its parameters to a file, instead of a pipe to the interpreter."""
    return any(PurePath(argument).name.startswith("AnsiballZ_") for argument in sys.orig_argv)
