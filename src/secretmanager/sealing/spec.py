"""What is to be sealed, and its checks. Nothing is sent here, and no error shows a value.

The rules are those of Kubernetes, see `names` and
https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..names import DATA_KEY, NAMESPACE, QUALIFIED, SUBDOMAIN, VAULT_NAME, is_utf8
from ..sealed import DIGEST_SUFFIX, MANIFEST_KEY, SEALED_LABEL, Scope
from . import types

SECRET_BYTES = 1024 * 1024
"""What a Secret's values may take together, in bytes (Kubernetes' ``MaxSecretSize``)."""

ANNOTATION_BYTES = 256 * 1024
"""What a Secret's annotations may take together, in bytes."""

AS_TEXT = "quote it, or add `| string` to a template of Ansible"
"""How to write a value that YAML, or a template of Ansible, reads as a number, a boolean, a date or null."""

KEY_AS_TEXT = 'write it in quotes, as "NO", "on", "1.5" or "null"'
"""How to write a key that YAML 1.1 reads as another type; see https://yaml.org/type/."""


BANK_VAULTS_SKIP = {
    "secrets-webhook.security.bank-vaults.io/mutate": "skip",
    "vault.security.banzaicloud.io/mutate": "skip",
}
"""Annotations that keep bank-vaults' webhooks from replacing values that begin with ``vault:``, as all ciphertexts do:
those of secrets-webhook, and of its predecessor vault-secrets-webhook.

Source: https://bank-vaults.dev/docs/mutating-webhook/annotations/
"""

WORKLOAD_KINDS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}
"""Kinds of workloads that can be restarted, and what the API calls their resources."""

ANNOTATED = "annotated"
"""In place of a workload's name: all whose annotation `SECRETS_ANNOTATION` names the Secret."""


class State(StrEnum):
    """Whether the Secret should exist."""

    PRESENT = "present"
    ABSENT = "absent"


class Behavior(StrEnum):
    """What happens to sealed data keys that are not given; the words are those of Kustomize."""

    MERGE = "merge"
    """They stay."""
    REPLACE = "replace"
    """They are removed. Data keys that others manage stay."""


@dataclass(frozen=True)
class SecretSpec:
    """One Secret as wanted.

    Attributes:
        namespace: its namespace, which must exist.
        name: its name.
        values: plaintext by data key; stays out of repr().
        transit_key: Transit key that encrypts; required if there is something to seal.
        scope: where the ciphertext decrypts. Without one that of the Secret as it is; a new Secret is strict if the
            Transit key is ``derived``, else cluster-wide.
        digest_key: Vault's key of the digests; without one ``TRANSIT_KEY-digest``.
        state: whether the Secret should exist.
        behavior: what happens to sealed data keys that are not given.
        absent_keys: data keys to remove, whoever created them.
        labels: labels to set; others stay.
        annotations: annotations to set; others stay.
        type: the Secret's type; without one, a new Secret's is ``Opaque``.
        immutable: whether Kubernetes refuses later changes; None leaves it as it is.
        recreate: delete and make again what Kubernetes does not let change: an immutable Secret, or its type.
        force: take over a Secret, or data keys, that were not sealed here; given values replace theirs.
        adopt: as ``force``, and seal in place all plaintext found there.
        allow_empty: whether a value may be empty, as it is where a command that should print it failed.
        bank_vaults_skip: whether to set `BANK_VAULTS_SKIP` among the annotations.
        restart: workloads of its namespace to restart after a change of the values: ``KIND/NAME``, or `ANNOTATED`.

    Raises:
        ConfigError: names, keys or sizes that Kubernetes does not allow, or options that do not go together; names all.
    """

    namespace: str
    name: str
    values: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    transit_key: str | None = None
    scope: Scope | None = None
    digest_key: str | None = None
    state: State = State.PRESENT
    behavior: Behavior = Behavior.MERGE
    absent_keys: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    type: str | None = None
    immutable: bool | None = None
    recreate: bool = False
    force: bool = False
    adopt: bool = False
    allow_empty: bool = False
    bank_vaults_skip: bool = False
    restart: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.bank_vaults_skip:
            object.__setattr__(self, "annotations", {**BANK_VAULTS_SKIP, **self.annotations})
        if problems := list(self._problems()):
            raise ConfigError("; ".join(problems))

    @property
    def place(self) -> str:
        """``namespace/name``, as errors name it."""
        return f"{self.namespace}/{self.name}"

    @property
    def digest_key_name(self) -> str:
        """Name of the digest key; empty if nothing is sealed."""
        return self.digest_key or (f"{self.transit_key}{DIGEST_SUFFIX}" if self.transit_key else "")

    def _problems(self) -> Iterator[str]:
        names = [("namespace", self.namespace, NAMESPACE), ("name", self.name, SUBDOMAIN)]
        names += [("data key", key, DATA_KEY) for key in sorted({*self.values, *self.absent_keys})]
        keys = {"transit_key": self.transit_key, "digest_key": self.digest_key}
        names += [(option, key, VAULT_NAME) for option, key in keys.items() if key]
        yield from (rule.refusal(kind, name) for kind, name, rule in names if not rule.allows(name))
        if MANIFEST_KEY in {*self.values, *self.absent_keys}:
            yield f"data key {MANIFEST_KEY!r} is the manifest's own; choose another"
        if conflicting := sorted(self.absent_keys & self.values.keys()):
            yield f"data keys {', '.join(conflicting)} are both given and among absent_keys"
        for key, value in self.values.items():
            if not (value or self.allow_empty):
                yield f"data key {key}: the value is empty; set allow_empty if it is meant"
        if self.state is State.PRESENT and (self.values or self.adopt) and not self.transit_key:
            yield "transit_key is missing"
        if self.state is State.ABSENT and (self.values or self.absent_keys or self.adopt):
            yield "state absent deletes the whole Secret, so it takes no values, absent_keys or adopt"
        if self.state is State.PRESENT and (problem := types.refusal(self.type, self.values.keys())):
            yield problem
        allowed = ", ".join([*(f"{kind}/NAME" for kind in WORKLOAD_KINDS), ANNOTATED])
        for text in self.restart:
            kind, _, name = text.partition("/")
            if text != ANNOTATED and not (kind in WORKLOAD_KINDS and SUBDOMAIN.allows(name)):
                yield f"restart: {text!r} is not allowed; allowed are {allowed}"
        yield from self._metadata_problems()
        yield from self._size_problems()

    def _metadata_problems(self) -> Iterator[str]:
        for option, entries in (("labels", self.labels), ("annotations", self.annotations)):
            for key, value in entries.items():
                prefix, slash, name = key.rpartition("/")
                if not (QUALIFIED.allows(name) and (not slash or SUBDOMAIN.allows(prefix))):
                    yield f"{option}: key {key!r} is not allowed; allowed is [DOMAIN/]NAME of at most 63 characters"
                if option == "labels" and value and not QUALIFIED.allows(value):
                    yield f"labels: value {value!r} of {key} is not allowed; allowed are letters, digits, '-', '_', '.'"
                if option == "annotations" and not is_utf8(value):
                    yield f"annotations: the value of {key} is not valid UTF-8"
        if self.type and not is_utf8(self.type):
            yield f"type: found {self.type!r}, which is not valid UTF-8"
        if self.labels.get(SEALED_LABEL, "true") != "true":
            yield f"labels: {SEALED_LABEL} is the sealer's own; leave it out"
        size = sum(len(text.encode(errors="replace")) for item in self.annotations.items() for text in item)
        if size > ANNOTATION_BYTES:
            yield f"annotations take {size} bytes; allowed are {ANNOTATION_BYTES}"

    def _size_problems(self) -> Iterator[str]:
        sizes = {key: sealed_size(value) for key, value in self.values.items()}
        if sum(sizes.values()) > SECRET_BYTES:
            yield size_problem(sizes)


def sealed_size(plaintext: bytes) -> int:
    """Return how long the ciphertext will at least be, in bytes: ``vault:v1:`` and base64 of nonce, value and tag."""
    return len("vault:v1:") + (len(plaintext) + 12 + 16 + 2) // 3 * 4


def size_problem(sizes: Mapping[str, int]) -> str:
    """Say that a Secret is too large, by how much, and which data key is the largest.

    Args:
        sizes: bytes that each data key takes, sealed.
    """
    total, largest = sum(sizes.values()), max(sizes, key=lambda key: sizes[key])
    return (
        f"sealed, the Secret takes {total} bytes, {total - SECRET_BYTES} more than the {SECRET_BYTES} that Kubernetes"
        f" allows; the largest data key is {largest} with {sizes[largest]} bytes"
    )


def plaintext(value: object, where: str) -> bytes:
    """Return the bytes to seal: text as UTF-8, a dict or list as JSON, other scalars refused.

    JSON is written with sorted keys, so that another order is not a different value.

    Args:
        value: text, bytes, dict or list.
        where: the option, for errors.

    Raises:
        ConfigError: the value is of another type, or cannot be written as JSON or UTF-8.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, str | dict | list):
        # Outside of "except": the original holds the value, and an exception keeps what it was raised in.
        if (encoded := _encoded(value)) is not None:
            return encoded
        if isinstance(value, str):
            raise ConfigError(f"{where} is not valid UTF-8; give such bytes as base64")
        raise ConfigError(
            f"{where} cannot be written as JSON, for example because of NaN, a date, or a key that is not text;"
            f" {KEY_AS_TEXT}"
        )
    kind = "nothing" if value is None else f"a value of type {type(value).__name__}"
    raise ConfigError(f"{where} is {kind}; allowed are text, dict and list, so {AS_TEXT}")


def _encoded(value: str | dict[Any, Any] | list[Any]) -> bytes | None:
    try:
        if not isinstance(value, str):
            if not _has_text_keys(value):
                return None  # json would write False as "false"
            value = json.dumps(value, allow_nan=False, ensure_ascii=False, sort_keys=True)
        return value.encode()
    except (ValueError, TypeError, RecursionError):
        return None


def _has_text_keys(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _has_text_keys(item) for key, item in value.items())
    return all(map(_has_text_keys, value)) if isinstance(value, list) else True


def from_options(
    entries: Sequence[Mapping[str, Any]], base: Mapping[str, Any] | None = None, where: str | None = None
) -> list[SecretSpec]:
    """Read Secrets as users write them, by the names of options that the Ansible module documents.

    Besides the attributes of `SecretSpec` an entry has ``data`` (text, dict or list by data key), ``binary_data``
    (base64) and ``files`` (paths). Options that are None count as not given.

    Args:
        entries: one or more Secrets.
        base: options for all of them; an entry's own options take precedence.
        where: how errors name an entry, with ``{}`` for its number, from 1; None for ``secrets[INDEX]`` of several.

    Raises:
        ConfigError: names all that is wrong in all entries.
    """
    specs: list[SecretSpec] = []
    problems: list[str] = []
    for index, entry in enumerate(entries):
        prefix = f"secrets[{index}]: " if len(entries) > 1 else ""
        if where is not None:
            prefix = where.format(index + 1)
        try:
            specs.append(
                _from_entry({**(base or {}), **{key: item for key, item in entry.items() if item is not None}})
            )
        except ConfigError as error:
            problems.append(f"{prefix}{error}")
    times = Counter(secret.place for secret in specs)
    problems += [f"secrets: {place} occurs {count} times" for place, count in times.items() if count > 1]
    if problems:
        raise ConfigError("; ".join(problems))
    return specs


_SOURCES = ("data", "binary_data", "files")
_WORDS: dict[str, type[StrEnum]] = {"scope": Scope, "state": State, "behavior": Behavior}


def _from_entry(entry: Mapping[str, Any]) -> SecretSpec:
    options = {key: item for key, item in entry.items() if item is not None}
    allowed = {item.name for item in fields(SecretSpec)} - {"values"} | set(_SOURCES)
    problems = [f"{key}: there is no such option" for key in sorted(map(str, options.keys() - allowed))]
    problems += [f"{key} is missing" for key in ("namespace", "name") if not options.get(key)]
    problems += _type_problems(options)
    values, value_problems = _values(options)
    problems += value_problems
    purpose = {*_SOURCES, "adopt", "absent_keys"}
    if options.get("state") != State.ABSENT and not any(options.get(key) not in (None, False, []) for key in purpose):
        problems.append(f"nothing to seal: give one of {', '.join(_SOURCES)}, adopt or absent_keys")
    if problems:
        name = "/".join(str(options[key]) for key in ("namespace", "name") if options.get(key))
        raise ConfigError("; ".join(problems), place=name or None)
    attributes = {key: item for key, item in options.items() if key not in _SOURCES}
    for key, words in _WORDS.items():
        if key in attributes:
            attributes[key] = words(attributes[key])
    attributes["absent_keys"] = frozenset(attributes.get("absent_keys", ()))
    attributes["restart"] = tuple(attributes.get("restart", ()))
    try:
        return SecretSpec(**attributes, values=values)
    except ConfigError as error:
        raise ConfigError(error.message, place=f"{options['namespace']}/{options['name']}") from error


_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("namespace", "name", "transit_key", "digest_key", "type"), str),
    **dict.fromkeys(("immutable", "recreate", "force", "adopt", "bank_vaults_skip", "allow_empty"), bool),
    **dict.fromkeys(("labels", "annotations"), dict),
    **dict.fromkeys(("absent_keys", "restart"), list),
}


def _type_problems(options: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the types of an entry's options, and with those of what they hold."""
    problems = [
        f"{key} is of type {type(options[key]).__name__}; allowed is {kind.__name__}"
        for key, kind in _KINDS.items()
        if key in options and not isinstance(options[key], kind)
    ]
    for key in ("labels", "annotations"):
        for name, value in options[key].items() if isinstance(options.get(key), dict) else ():
            if not isinstance(name, str):
                problems.append(_odd_key(key, name))
            elif not isinstance(value, str):
                problems.append(f"{key}[{name}] is of type {type(value).__name__}; allowed is text, so {AS_TEXT}")
    if isinstance(options.get("absent_keys"), list):
        problems += [_odd_key("absent_keys", key) for key in options["absent_keys"] if not isinstance(key, str)]
    if isinstance(options.get("restart"), list):
        invalid_entries = [text for text in options["restart"] if not isinstance(text, str)]
        problems += [
            f"restart: an entry was read as {text}, which is not text; {KEY_AS_TEXT}" for text in invalid_entries
        ]
    for key, words in _WORDS.items():
        if key in options and options[key] not in list(words):
            problems.append(f"{key} is {options[key]!r}; allowed are {', '.join(words)}")
    return problems


def _values(options: Mapping[str, Any]) -> tuple[dict[str, bytes], list[str]]:
    """Read the values of an entry; return them, and what is wrong with the others."""
    values: dict[str, bytes] = {}
    problems: list[str] = []
    readers = {"data": plaintext, "binary_data": _decoded, "files": _content}
    for source in _SOURCES:
        entries = options.get(source) or {}
        if not isinstance(entries, dict):
            problems.append(f"{source} is of type {type(entries).__name__}; allowed is dict")
            continue
        for key, value in entries.items():
            if not isinstance(key, str):
                problems.append(_odd_key(source, key))
                continue
            if key in values:
                problems.append(f"{source}[{key}]: the data key is given twice")
                continue
            try:
                values[key] = readers[source](value, f"{source}[{key}]")
            except ConfigError as error:
                problems.append(str(error))
    return values, problems


def _odd_key(option: str, key: object) -> str:
    return f"{option}: a key was read as {key}, which is not text; {KEY_AS_TEXT}"


def _decoded(value: object, where: str) -> bytes:
    if not isinstance(value, str):
        raise ConfigError(f"{where} is of type {type(value).__name__}; allowed is base64 text, so {AS_TEXT}")
    with contextlib.suppress(ValueError):
        return base64.b64decode("".join(value.split()), validate=True)  # line breaks are customary in base64
    raise ConfigError(f"{where} is not base64")


def _content(value: object, where: str) -> bytes:
    try:
        return Path(str(value)).expanduser().read_bytes()
    except (OSError, ValueError, RuntimeError) as error:  # ValueError: half of a character; RuntimeError: no such user
        reason = getattr(error, "strerror", None) or "it is no path"
    # Without the path, and outside of "except": it is a value if the user mistook files for data.
    raise ConfigError(f"{where}: {reason}; allowed is the path of a file, and values belong in data")
