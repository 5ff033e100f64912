"""Compare wanted values with Vault's, as Vault interprets them and not as they are written.

Vault's API returns a value in one form, whatever form it was written in: a duration as a number of seconds, a
comma-separated string as a list, a host address without ``/32``. So the form of Vault's value determines how the
wanted value is interpreted. Pure functions, no I/O.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

# Lists that Vault treats as a set. All others are compared in order.
# Observed with Vault 1.21: `vault path-help` calls them "slice", and their order has no effect.
UNORDERED = frozenset(
    {
        # roles of every auth method
        "token_policies",
        "token_bound_cidrs",
        "policies",
        "bound_cidrs",
        # auth/kubernetes/role/NAME, auth/kubernetes/config
        "bound_service_account_names",
        "bound_service_account_namespaces",
        "pem_keys",
        # auth/approle/role/NAME
        "secret_id_bound_cidrs",
        # auth/token/roles/NAME
        "allowed_policies",
        "allowed_policies_glob",
        "disallowed_policies",
        "disallowed_policies_glob",
        "allowed_entity_aliases",
        # config of sys/mounts/PATH and sys/auth/PATH
        "allowed_managed_keys",
        "allowed_response_headers",
        "audit_non_hmac_request_keys",
        "audit_non_hmac_response_keys",
        "delegated_auth_accessors",
        "passthrough_request_headers",
    }
)

_UNITS = {unit: Decimal(size) for unit, size in [("ms", "0.001"), ("s", "1"), ("m", "60"), ("h", "3600")]}
_GO_DURATION = re.compile(r"(\d+h)?(\d+m)?[\d.]+s")
"""As the API of Raft's autopilot returns a duration, as a text: ``24h0m0s``."""

_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ms|s|m|h)")


@dataclass(frozen=True)
class Difference:
    """A field whose value in Vault is not the wanted one; both values are in the form in which Vault returns them.

    ``found`` is None if Vault's response lacks the field.
    """

    found: object
    wanted: object

    def __str__(self) -> str:
        current = "no such field" if self.found is None else repr(self.found)
        return f"found {current}, wanted {self.wanted!r}"


def seconds(text: str) -> int:
    """Return a duration in whole seconds, read as Vault reads it: ``10``, ``10s``, ``1h30m``, ``1.5h``, ``30d``.

    Source: https://developer.hashicorp.com/vault/docs/concepts/duration-format; days cannot be combined
    with another unit, as in go-secure-stdlib's ParseDurationSecond.

    Raises:
        ValueError: the text is not a duration.
    """
    if text == "":
        return 0
    if match := re.fullmatch(r"([+-]?\d+)(d?)", text):
        return int(match[1]) * (86400 if match[2] else 1)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration; allowed is a form such as 90, 10s, 1h30m or 30d")
    return int(sum(Decimal(number) * _UNITS[unit] for number, unit in parts))


def canonical(field: str, value: object, like: object) -> object:
    """Return the value in the form of ``like``, Vault's value of this field.

    Args:
        field: the field's name, for the lists that are a set.
        value: a wanted value, or ``like`` itself.
        like: Vault's value (JSON).

    Returns:
        Equal results for values that are the same to Vault. A value that cannot have the form of ``like`` is
        returned unchanged: Vault is left to refuse it.
    """
    match like:
        case bool():
            words = {"true": True, "1": True, "false": False, "0": False}
            return words.get(str(value).lower(), value)
        case int() | str() if isinstance(value, str) and (isinstance(like, int) or _GO_DURATION.fullmatch(like)):
            try:
                return seconds(value)
            except ValueError:
                return value
        case list():
            if isinstance(value, str):
                value = value.split(",") if value else []
            return _canonical_list(field, value) if isinstance(value, list | tuple) else value
        case str() if isinstance(value, bool):
            return str(value).lower()
        case str() if isinstance(value, int | float):
            return str(value)
        case str() if isinstance(value, str) and "\n" in value + like:
            return value.strip()  # a policy or a PEM text: surrounding white space has no meaning
    return value


def _canonical_list(field: str, items: list[object] | tuple[object, ...]) -> list[object]:
    values = [str(item).strip() if isinstance(item, str | int) else item for item in items]
    if field.endswith("_cidrs"):
        values = [_network(str(value)) for value in values]
    return sorted(set(values), key=str) if field in UNORDERED else values


def _network(text: str) -> str:
    """Return an address or a network with its prefix length; Vault keeps host bits: 10.1.2.3/8, 127.0.0.1/32."""
    try:
        return str(ipaddress.ip_interface(text))
    except ValueError:
        return text


def differences(
    desired: Mapping[str, object], current: Mapping[str, object], prefix: str = ""
) -> dict[str, Difference]:
    """Compare the wanted fields, and only those, with Vault's.

    Args:
        desired: field to value; a dict within is compared field by field too.
        current: the ``data`` of Vault's response.
        prefix: prefix of the field names, ``config.`` for those of ``config``.

    Returns:
        The fields that differ, by dotted name. An empty string, list or dict equals a field that the response lacks,
        because Vault omits many fields while they are empty.
    """
    result: dict[str, Difference] = {}
    for field, want in desired.items():
        have = current.get(field)
        if isinstance(want, Mapping) and (have is None or isinstance(have, Mapping)):
            result |= differences(want, have or {}, f"{prefix}{field}.")
        elif have is None:
            if want not in ("", [], ()):
                result[prefix + field] = Difference(None, want)
        elif (a := canonical(field, have, have)) != (b := canonical(field, want, have)):
            result[prefix + field] = Difference(a, b)
    return result
