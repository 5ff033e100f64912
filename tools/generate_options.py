"""Writes what Ansible needs of the connection options before it can import the package: ``make options``.

The one source is ``src/secretmanager/options.py``. Written are the argument specs and the documentation fragments.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from secretmanager.login.methods import NEEDS
from secretmanager.options import KUBERNETES, REDIS, VAULT_CONNECTION, VAULT_LOGIN, Option
from secretmanager.servers.http import NO_PATH

ROOT = Path(__file__).parents[1]

HEADER = """\
# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
# Written by `make options` from src/secretmanager/options.py; do not edit.
"""

PROXIES = (
    "The options alone say where requests go. Proxies, CA bundles and passwords that the environment or a"
    " C(~/.netrc) names for other programs are not used, unless an option for a proxy says so."
)
SPECS = {
    "VAULT_CONNECTION_OPTIONS": (VAULT_CONNECTION, "Argument spec of the fragment ``kubevault_vault.connection``."),
    "VAULT_LOGIN_OPTIONS": (VAULT_LOGIN, "Argument spec of the fragment ``kubevault_vault.login``."),
    "KUBERNETES_OPTIONS": (KUBERNETES, "Argument spec of the fragment ``kubevault_kubernetes``."),
    "REDIS_OPTIONS": (REDIS, "Argument spec of the fragment ``kubevault_redis``."),
}

# Names that Ansible takes for those of secrets, and warns of.
_SUSPICIOUS = re.compile("pass|secret|token|key")


def main() -> None:
    """Write the files."""
    for path, text in files().items():
        (ROOT / path).write_text(text, encoding="utf-8")


def files() -> dict[str, str]:
    """Return the content of each file by its path."""
    vault = {
        "CONNECTION": fragment(VAULT_CONNECTION, requirements=["kubevault (Python package)"], notes=[PROXIES]),
        "LOGIN": fragment(VAULT_LOGIN, notes=[hashi_note((*VAULT_CONNECTION, *VAULT_LOGIN))]),
        "LOOKUP": lookup_fragment((*VAULT_CONNECTION, *VAULT_LOGIN), notes=[PROXIES]),
    }
    kubernetes = {"DOCUMENTATION": fragment(KUBERNETES), "LOOKUP": lookup_fragment(KUBERNETES)}
    fragments = "plugins/doc_fragments"
    return {
        "plugins/module_utils/kubevault_options.py": formatted(argument_specs()),
        f"{fragments}/kubevault_vault.py": fragments_module("how Vault is reached and who logs in", vault),
        f"{fragments}/kubevault_kubernetes.py": fragments_module("how Kubernetes is reached", kubernetes),
        f"{fragments}/kubevault_redis.py": fragments_module("notices", {"DOCUMENTATION": fragment(REDIS)}),
    }


def argument_specs() -> str:
    """Return the module of argument specs."""
    parts = [
        '"""Argument specs of the connection options."""',
        "from __future__ import annotations",
        "from typing import Any",
        "from ansible.module_utils.basic import env_fallback",
    ]
    for name, (table, meaning) in SPECS.items():
        entries = "".join(f"{option.name!r}: {spec(option)}," for option in table if "module" in option.places)
        parts.append(f'{name}: dict[str, dict[str, Any]] = {{{entries}}}\n"""{meaning}"""')
    parts.append(
        "VAULT_OPTIONS: dict[str, dict[str, Any]] = {**VAULT_CONNECTION_OPTIONS, **VAULT_LOGIN_OPTIONS}\n"
        '"""Argument spec of modules that reach Vault and log in."""'
    )
    parts.append(f'NO_PATH = {NO_PATH!r}\n"""Matches what is not a path but may be a secret."""')
    meaning = "For ``required_if`` of modules that have ``VAULT_OPTIONS``."
    parts.append(f'VAULT_REQUIRED_IF = {list(required_if())!r}\n"""{meaning}"""')
    return HEADER + "\n\n".join(parts)


def spec(option: Option) -> str:
    """Return an option's argument spec, as Python."""
    facts: dict[str, Any] = {"type": option.type}
    if option.required:
        facts["required"] = True
    if option.default is not None:
        facts["default"] = option.default
    if option.choices:
        facts["choices"] = list(option.choices)
    if option.secret or _SUSPICIOUS.search(option.name):
        facts["no_log"] = option.secret
    if option.aliases:
        facts["aliases"] = list(option.aliases)
    items = [f"{key!r}: {value!r}" for key, value in facts.items()]
    if option.fallback and option.ansible_variables:
        items.append(f"'fallback': (env_fallback, {list(option.ansible_variables)!r})")
    return "{" + ", ".join(items) + "}"


def required_if() -> Iterator[tuple[str, str, list[str], bool]]:
    """Yield what each auth method needs, as Ansible wants it: one option of each group."""
    for method, groups in NEEDS.items():
        for names in groups:
            yield "vault_auth_method", method, [f"vault_{name}" for name in names], True


def fragment(table: Iterable[Option], **more: list[str]) -> str:
    """Return the documentation of options of modules, as YAML."""
    options = {option.name: documented(option) for option in table if "module" in option.places}
    return dumped({"options": options, **more})


def lookup_fragment(table: Iterable[Option], **more: list[str]) -> str:
    """Return the documentation of options of the lookup plugin, which read environment variables by it."""
    options = {}
    for option in table:
        if "lookup" in option.places:
            options[option.name] = documented(option, variables=False)
            if option.ansible_variables:
                options[option.name]["env"] = [{"name": name} for name in option.ansible_variables]
    return dumped({"options": options, **more})


def documented(option: Option, *, variables: bool = True) -> dict[str, Any]:
    """Return the documentation of one option."""
    sentences = [marked(option.help), *option.notes]
    if variables and option.fallback and option.variables:
        sentences.append(f"Falls back to the environment variable {' or '.join(f'E({v})' for v in option.variables)}.")
    facts: dict[str, Any] = {"description": sentences, "type": option.type}
    if option.required:
        facts["required"] = True
    if option.choices:
        facts["choices"] = list(option.choices)
    if option.default is not None:
        facts["default"] = option.default
    if option.aliases:
        facts["aliases"] = list(option.aliases)
    return facts


def marked(text: str) -> str:
    """Return a sentence with Ansible's markup of variables, paths and addresses."""
    text = re.sub(r"\$([A-Z][A-Z0-9_]+)", r"E(\1)", text)
    return re.sub(r"(~/[./\w-]*\w|rediss?://[^\s,]*[^\s,.]|https://[^\s,;]*[^\s,;.])", r"C(\1)", text)


def hashi_note(table: Iterable[Option]) -> str:
    """Return the note on the variables of community.hashi_vault."""
    names = ", ".join(f"E({option.ansible_variables[0]})" for option in table if option.hashi)
    return f"The variables of C(community.hashi_vault) count as well, and before Vault's own: {names}."


def dumped(facts: dict[str, Any]) -> str:
    """Return facts as YAML."""
    return str(yaml.safe_dump(facts, sort_keys=False, width=100, allow_unicode=True))


def fragments_module(meaning: str, parts: dict[str, str]) -> str:
    """Return a module of documentation fragments."""
    body = "\n".join(f'    {name} = r"""\n{text}"""\n' for name, text in parts.items())
    return (
        f'{HEADER}"""Documentation of the options of {meaning}."""\n\nfrom __future__ import annotations\n\n\n'
        f'class ModuleDocFragment:\n    """The documentation fragments."""\n\n{body}'
    )


def formatted(code: str) -> str:
    """Return Python code as the project formats it."""
    command = [Path(sys.executable).parent / "ruff", "format", "--stdin-filename", "x.py", "-"]
    return subprocess.run(command, cwd=ROOT, input=code, capture_output=True, text=True, check=True).stdout  # noqa: S603 - its own


if __name__ == "__main__":
    main()
