"""Writes what Ansible needs of the connection options before it can import the package: ``make options``.

The one source is ``src/secretmanager/options.py``. Written are the argument specs and the documentation fragments.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from secretmanager.options import KUBERNETES, REDIS, TRANSIT, VAULT_CONNECTION, VAULT_LOGIN, Option
from secretmanager.servers.http import NO_PATH

ROOT = Path(__file__).parents[1]

HEADER = """\
# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
# Written by `make options` from src/secretmanager/options.py; do not edit.
"""

VARIABLES = (
    "An option counts before a variable. The variables of a server belong together: if an option names another server"
    " than they do, only a CA among them counts. In the roles and playbooks of this collection, variables of the shell"
    " do not count at all."
)
PROXIES = (
    "The options alone say where requests go. Proxies, CA bundles and passwords that the environment or a"
    " C(~/.netrc) names for other programs are not used, unless an option for a proxy says so."
)
SPECS = {
    "VAULT_CONNECTION_OPTIONS": (VAULT_CONNECTION, "Argument spec of the fragment ``kubevault_vault.connection``."),
    "VAULT_LOGIN_OPTIONS": (VAULT_LOGIN, "Argument spec of the fragment ``kubevault_vault.login``."),
    "TRANSIT_OPTIONS": (TRANSIT, "Argument spec of the fragment ``kubevault_vault.transit``."),
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
        "CONNECTION": fragment(
            VAULT_CONNECTION, requirements=["kubevault (Python package)"], notes=[VARIABLES, PROXIES]
        ),
        "LOGIN": fragment(VAULT_LOGIN, notes=[hashi_note((*VAULT_CONNECTION, *VAULT_LOGIN))]),
        "TRANSIT": fragment(TRANSIT),
        "LOOKUP": lookup_fragment((*VAULT_CONNECTION, *VAULT_LOGIN), notes=[VARIABLES, PROXIES]),
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
    ]
    for name, (table, meaning) in SPECS.items():
        entries = "".join(f"{option.name!r}: {spec(option)}," for option in table if "module" in option.places)
        parts.append(f'{name}: dict[str, dict[str, Any]] = {{{entries}}}\n"""{meaning}"""')
    parts.append(
        "VAULT_OPTIONS: dict[str, dict[str, Any]] = {**VAULT_CONNECTION_OPTIONS, **VAULT_LOGIN_OPTIONS}\n"
        '"""Argument spec of modules that reach Vault and log in."""'
    )
    parts.append(f'NO_PATH = {NO_PATH!r}\n"""Matches what is not a path but may be a secret."""')
    return HEADER + "\n\n".join(parts)


def spec(option: Option) -> str:
    """Return an option's argument spec, as Python."""
    facts: dict[str, Any] = {"type": option.type}
    if option.default is not None and not variables_of(option):
        facts["default"] = option.default
    if option.choices:
        facts["choices"] = list(option.choices)
    if option.secret or _SUSPICIOUS.search(option.name):
        facts["no_log"] = option.secret
    if option.aliases:
        facts["aliases"] = list(option.aliases)
    return repr(facts)


def variables_of(option: Option) -> tuple[str, ...]:
    """Return the variables that Ansible reads. They are no fallbacks of its argument specs, which cannot tell an option
    that is given from a variable: see `secretmanager.options.with_variables`.
    """
    return (*option.variables, *option.others)


def fragment(table: Iterable[Option], **more: list[str]) -> str:
    """Return the documentation of options of modules, as YAML."""
    options = {option.name: documented(option) for option in table if "module" in option.places}
    return dumped({"options": options, **more})


def lookup_fragment(table: Iterable[Option], **more: list[str]) -> str:
    """Return the documentation of options of the lookup plugin, as YAML."""
    options = {option.name: documented(option) for option in table if "lookup" in option.places}
    return dumped({"options": options, **more})


def documented(option: Option) -> dict[str, Any]:
    """Return the documentation of one option."""
    sentences = [marked(option.help), *option.notes]
    if option.variables:
        sentences.append(f"Falls back to the environment variable {' or '.join(f'E({v})' for v in option.variables)}.")
    if option.default is not None and variables_of(option):
        sentences.append(f"The default is V({option.default}).")
    facts: dict[str, Any] = {"description": sentences, "type": option.type}
    if option.choices:
        facts["choices"] = list(option.choices)
    if option.default is not None and not variables_of(option):
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
    names = ", ".join(f"E({name})" for option in table for name in option.others)
    return f"The variables of C(community.hashi_vault) count as well, after those named here: {names}."


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
