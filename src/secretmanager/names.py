"""What names Kubernetes and Vault allow.

Also what roles write into files of systemd, nftables and shells, whose quoting differs: what needs none is allowed.

Sources: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ and Vault's GenericNameRegex,
which limits the names of keys and roles (https://pkg.go.dev/github.com/hashicorp/vault/sdk/framework#GenericNameRegex).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"


class NameRule(NamedTuple):
    """Which names are allowed: ``pattern`` and greatest ``length``; ``text`` says it in errors."""

    pattern: re.Pattern[str]
    length: int
    text: str

    def allows(self, name: object) -> bool:
        """Whether it is such a name."""
        return isinstance(name, str) and len(name) <= self.length and bool(self.pattern.fullmatch(name))

    def refusal(self, kind: str, name: object) -> str:
        """Say that a name is not allowed, and what is."""
        return f"{kind} {name!r} is not allowed; allowed is {self.text}, at most {self.length} characters"


NAMESPACE = NameRule(re.compile(_LABEL), 63, "an RFC 1123 label")
SUBDOMAIN = NameRule(re.compile(rf"{_LABEL}(\.{_LABEL})*"), 253, "an RFC 1123 subdomain")
DATA_KEY = NameRule(re.compile(r"(?!\.\.|\.$)[-._a-zA-Z0-9]+"), 253, "letters, digits, '-', '_' and '.', no '..' first")
QUALIFIED = NameRule(re.compile(r"[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?"), 63, "letters, digits, '-', '_' and '.'")
"""A label's value, or the part of its key after the slash."""
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""A name of a variable of the environment, as shells take it."""


def is_utf8(text: str) -> bool:
    """Whether a text can be written: JSON, arguments and variables may have half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def variable_of(key: str) -> str:
    """Return the name of the variable for a data key: what a name cannot have becomes an underscore."""
    return re.sub(r"[^A-Za-z0-9_]", "_", key)


VAULT_NAME = NameRule(
    re.compile(r"[0-9A-Za-z_]([-.0-9A-Za-z_]*[0-9A-Za-z_])?"), 255, "letters, digits, '-', '_' and '.'"
)
VAULT_PATH = NameRule(re.compile(r"[-.0-9A-Za-z_]+(/[-.0-9A-Za-z_]+)*"), 255, "names that are separated by '/'")
"""A mount's path."""

UNQUOTED: Mapping[str, NameRule] = {
    "key": VAULT_NAME,
    "path": NameRule(
        re.compile(r"/[-._+@A-Za-z0-9/]*"), 4095, "an absolute path of letters, digits, '-', '_', '.', '+', '@' and '/'"
    ),
    "user": NameRule(re.compile(r"[A-Za-z0-9_][-.A-Za-z0-9_]*"), 32, "letters, digits, '-', '_' and '.'"),
    "word": NameRule(re.compile(r"[A-Za-z_][-A-Za-z0-9_]*"), 255, "letters, digits, '-' and '_', no digit first"),
    "calendar": NameRule(re.compile(r"[-+*A-Za-z0-9:,./~ ]+"), 255, "a calendar event as of systemd.time(7)"),
    "network": NameRule(
        re.compile(r"[0-9a-fA-F]*[.:][0-9a-fA-F.:]*([/-][0-9a-fA-F.:]+)?"),
        100,
        "an address, a network or a range of IP",
    ),
    "size": NameRule(re.compile(r"[0-9]+[kMG]?"), 20, "a number, with k, M or G after it"),
}
"""What roles write where it is not quoted, by kind."""


def unfit(values: Mapping[str, Any], kind: str) -> list[str]:
    """Return what is wrong with variables of a role that it writes unquoted, one line each; none if nothing is.

    Args:
        values: texts, or lists of them, by the names of the variables. An empty text counts as not given.
        kind: key of `UNQUOTED`.
    """
    rule = UNQUOTED[kind]
    return [
        f"{name}: found {text!r}; allowed is {rule.text}, at most {rule.length} characters"
        for name, value in values.items()
        for text in map(str, value if isinstance(value, list | tuple) else [value])
        if text and not rule.allows(text)
    ]
