"""What is to be injected: one set of options for the command, the KRM function and Ansible's filter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Literal, get_args

from ..errors import ConfigError
from ..names import DATA_KEY, NAMESPACE, SUBDOMAIN, VARIABLE

Way = Literal["init", "sidecar", "exec"]
References = Literal["refuse", "rewrite", "keep"]
Platform = Literal["kubernetes", "openshift"]
PullPolicy = Literal["", "Always", "IfNotPresent", "Never"]

MOUNT_PATH = "/kubevault"
CA_CONFIG_MAP = "kubevault-ca"

OURS = ("/etc/kubevault", "/var/run/secrets/tokens")
"""Paths in our container at which it has something else than the values."""

RESOURCE_KINDS = ("requests", "limits")

_CHOICES: Mapping[str, Any] = {
    "with": Way,
    "references": References,
    "platform": Platform,
    "image_pull_policy": PullPolicy,
}
_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][-+]?\d{1,2})?")
_POWERS = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_RESOURCE = re.compile(r"([-.a-z0-9]{1,253}/)?[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?")
_PINNED = re.compile(r"[^\s@]+(:(?!latest$)[\w][\w.-]{0,127}|@sha256:[0-9a-f]{64})")


@dataclass(frozen=True)
class Injection:
    """What is to be injected. `from_options` accepts these names; ``with`` stands for ``way``.

    Attributes:
        way: "init" for an init container that writes files, "sidecar" for a native sidecar that writes them again after
            each change, "exec" for variables of the environment of the program.
        secrets: Secrets of the workload's namespace, ``NAME`` or ``NAME/KEY``.
        vault_url: address of Vault as a pod reaches it.
        role: role of Vault that the workload logs in to.
        image: image that holds the command kubevault, with a tag or, better, a digest.
        workloads: workloads that are meant, ``KIND/NAME``; all if it is empty.
        containers: containers whose programs get the values, by name; all but init containers if it is empty.
        command: for "exec", the command of a container whose manifest has none, by the container's name. The name ""
            stands for the only container.
        mount_path: where the values are mounted.
        ca_config_map: ConfigMap with Vault's CA under the key ca.crt; "" for the CAs of the image.
        config: ConfigMap with a file for ``kubevault files --config`` under the key files.yaml; "" for none.
        user: number of the user that the containers' programs run as, where the manifest does not say it; None if it is
            not known.
        arguments: further arguments of ``kubevault files``.
        environment: further variables of its environment.
        references: what happens to ``secretKeyRef``, ``envFrom`` and volumes by which Kubernetes itself hands over one
            of the Secrets, which is ciphertext: they are refused, rewritten to the way, or kept.
        resources: of our container, ``requests`` and ``limits`` by the names of resources, such as
            ``{"limits": {"cpu": "500m"}}``. What is named takes the place of the default; an empty text takes it out.
        image_pull_policy: of our container, "Always", "IfNotPresent" or "Never"; "" for that of Kubernetes, which is
            "IfNotPresent" for an image with a tag or a digest.
        platform: "openshift" to set neither ``fsGroup`` nor ``runAsUser`` and ``runAsGroup``, since its security
            context constraints set them, and refuse others.
    """

    way: Way
    secrets: Sequence[str]
    vault_url: str
    role: str
    image: str
    workloads: Sequence[str] = ()
    containers: Sequence[str] = ()
    command: Mapping[str, Sequence[str]] = field(default_factory=dict)
    mount_path: str = MOUNT_PATH
    ca_config_map: str = CA_CONFIG_MAP
    config: str = ""
    user: int | None = None
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    references: References = "refuse"
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    image_pull_policy: PullPolicy = ""
    platform: Platform = "kubernetes"

    @property
    def warning(self) -> str | None:
        """What is allowed and yet not safe: an image without a digest; None if there is nothing."""
        if "@sha256:" in self.image:
            return None
        return (
            f"image: found {self.image!r}, which has no digest: whoever may push to its registry can have another"
            " program run under this tag, with the rights of the workload; write it with one, as IMAGE@sha256:..."
        )

    @property
    def names(self) -> list[str]:
        """Names of the Secrets, each once."""
        return list(dict.fromkeys(secret.partition("/")[0] for secret in self.secrets))

    def argument(self, option: str) -> str | None:
        """Return the value of an option among the further arguments; None if it is not there."""
        words = [word for argument in self.arguments for word in argument.split("=", 1)]
        return words[words.index(option) + 1] if option in words[:-1] else None


def from_options(options: Mapping[str, Any]) -> Injection:
    """Check options.

    Args:
        options: by the names of `Injection`'s attributes, with ``with`` for ``way``; None counts as not given.

    Raises:
        ConfigError: an option is unknown, missing, or has a value that is not allowed; names it.
    """
    values = {"way" if name == "with" else name: value for name, value in options.items() if value is not None}
    attribute_names = [each.name for each in fields(Injection)]
    option_names = sorted("with" if name == "way" else name for name in attribute_names)
    if unknown := sorted(str(name) for name in options if name not in option_names):
        raise ConfigError(f"{', '.join(unknown)}: there is no such option; allowed are {', '.join(option_names)}")
    required = ("way", "secrets", "vault_url", "role", "image")
    if missing := ["with" if name == "way" else name for name in required if not values.get(name)]:
        raise ConfigError(f"{', '.join(missing)}: {'is' if len(missing) == 1 else 'are'} missing")
    _check_kinds(values)
    for name in ("secrets", "workloads", "containers", "arguments"):
        if name in values:
            values[name] = _texts(name, values[name])
    if "command" in values:
        values["command"] = {str(key): _texts("command", value) for key, value in values["command"].items()}
    if "resources" in values:
        values["resources"] = _resources(values["resources"])
    injection = Injection(**values)
    _check(injection)
    return injection


def _check_kinds(values: Mapping[str, Any]) -> None:
    """Check that options are of the kind that they should be, before their forms.

    Raises:
        ConfigError: one is not.
    """
    for name, choices in _CHOICES.items():
        value = values.get("way" if name == "with" else name)
        if value is not None and value not in get_args(choices):
            raise ConfigError(f"{name}: found {value!r}; allowed are {', '.join(filter(None, get_args(choices)))}")
    for name in ("vault_url", "role", "image", "mount_path", "ca_config_map", "config"):
        if name in values and not isinstance(values[name], str):
            raise ConfigError(f"{name}: found {_kind(values[name])}; allowed is text")
    for name in ("command", "environment", "resources"):
        if not isinstance(values.get(name, {}), Mapping):
            raise ConfigError(f"{name}: found {_kind(values[name])}; allowed is a mapping")


def _check(injection: Injection) -> None:
    """Check the forms of values.

    Raises:
        ConfigError: a value has another form than it should.
    """
    _check_names(injection)
    if any(not url.startswith("https://") for url in injection.vault_url.split(",")):
        raise ConfigError(f"vault_url: found {injection.vault_url!r}; allowed is https://HOST[:PORT]")
    if not _PINNED.fullmatch(injection.image):
        raise ConfigError(
            f"image: found {injection.image!r}; allowed is a reference with a tag other than latest, or with a digest",
            remedy="pin it, so that a pod that starts again runs the same program",
        )
    if not re.fullmatch(r"(/[-._\w]+)+", injection.mount_path) or injection.mount_path.startswith(OURS):
        raise ConfigError(f"mount_path: found {injection.mount_path!r}; allowed is an absolute path below /")
    if injection.user is not None and (_kind(injection.user) != "int" or injection.user < 1):
        raise ConfigError(f"user: found {injection.user!r}; allowed is a number above 0")
    for variable, value in injection.environment.items():
        if not VARIABLE.fullmatch(str(variable)) or not isinstance(value, str):
            raise ConfigError(f"environment: found {variable!r} with {_kind(value)}; allowed are names with texts")
    if injection.command and injection.way != "exec":
        raise ConfigError("command: is only for exec; the other ways leave the containers' commands alone")
    if any(not words for words in injection.command.values()):
        raise ConfigError("command: found an empty list; allowed is a program with its arguments")


def _check_names(injection: Injection) -> None:
    """Check the names of Secrets, workloads, containers and ConfigMaps; raises as `_check`."""
    for secret in injection.secrets:
        name, slash, key = secret.partition("/")
        if not SUBDOMAIN.allows(name) or (slash and not DATA_KEY.allows(key)):
            is_key = SUBDOMAIN.allows(name)
            refusal = DATA_KEY.refusal("data key", key) if is_key else SUBDOMAIN.refusal("name", name)
            raise ConfigError(
                f"secrets: found {secret!r}; allowed is NAME or NAME/KEY, in the workload's own namespace: {refusal}"
            )
    for workload in injection.workloads:
        if workload.count("/") != 1:
            raise ConfigError(f"workloads: found {workload!r}; allowed is KIND/NAME")
    for container in (*injection.containers, *filter(None, injection.command)):
        if not NAMESPACE.allows(container):
            raise ConfigError(NAMESPACE.refusal("container", container))
    for name in ("ca_config_map", "config"):
        if (value := getattr(injection, name)) and not SUBDOMAIN.allows(value):
            raise ConfigError(f"{name}: {SUBDOMAIN.refusal('ConfigMap', value)}")


def quantity(text: str) -> Decimal:
    """Return the number that a quantity of Kubernetes stands for, such as ``500m`` or ``64Mi``.

    Raises:
        ValueError: it is none.
    """
    if not (match := _QUANTITY.fullmatch(text)):
        raise ValueError
    number, suffix = match[1], match[2] or ""
    if suffix.endswith("i"):
        return Decimal(number) * Decimal(1024) ** ("KMGTPE".index(suffix[0]) + 1)
    if suffix[1:]:
        return Decimal(number + suffix)
    return Decimal(number) * Decimal(10) ** _POWERS[suffix]


def _resources(amounts_by_kind: Mapping[Any, Any]) -> dict[str, dict[str, str]]:
    """Check the resources of our container.

    Raises:
        ConfigError: they have another form, or a request is above its limit.
    """
    resources: dict[str, dict[str, str]] = {}
    for kind, amounts in amounts_by_kind.items():
        if kind not in RESOURCE_KINDS or not isinstance(amounts, Mapping):
            raise ConfigError(f"resources: found {kind!r} with {_kind(amounts)}; allowed are requests and limits")
        for name, value in amounts.items():
            text = str(value) if _kind(value) in ("int", "float", "str") else None
            try:
                fits = text is not None and _RESOURCE.fullmatch(str(name)) and (text == "" or quantity(text) >= 0)
            except ValueError:
                fits = False
            if text is None or not fits:
                raise ConfigError(
                    f"resources: found {kind}.{name} with {value!r}; allowed is a quantity, such as 500m or 64Mi"
                )
            resources.setdefault(str(kind), {})[str(name)] = text
    for name, limit in resources.get("limits", {}).items():
        request = resources.get("requests", {}).get(name)
        if request and limit and quantity(request) > quantity(limit):
            raise ConfigError(f"resources: requests.{name} {request} is above limits.{name} {limit}")
    return resources


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{name}: found {_kind(value)}; allowed is a list of texts")
    return tuple(value)


def _kind(value: Any) -> str:
    # Not the type's name: Ansible's templates give subclasses.
    return next(
        (kind.__name__ for kind in (dict, list, bool, int, float, str) if isinstance(value, kind)), type(value).__name__
    )
