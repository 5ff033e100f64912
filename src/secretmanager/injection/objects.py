"""Manifests that are parsed already, as Ansible has them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ConfigError
from .options import from_options
from .pods import injected
from .secrets import secrets_among
from .text import chosen


def inject(manifests: Any, way: str, **options: Any) -> Any:
    """Return manifests with a way of delivery in their workloads, as `text.with_injection` does with their text.

    Args:
        manifests: a manifest, or a list of manifests; others than workloads stay as they are.
        way: "init", "sidecar" or "exec".
        options: the other attributes of `options.Injection`.

    What is not safe, as `options.Injection.warning` says, is a warning of Python.

    Raises:
        ConfigError: an option is wrong, there is no workload, or something in one is in the way.
    """
    if isinstance(manifests, str) or not isinstance(manifests, Mapping | Sequence):
        raise ConfigError(f"manifests: found a value of type {type(manifests).__name__}; allowed is a dict or a list")
    injection = from_options({"with": way, **options})
    if injection.warning:
        warnings.warn(injection.warning, stacklevel=2)
    items = [manifests] if isinstance(manifests, Mapping) else list(manifests)
    secrets = secrets_among(items)
    for index in chosen(items, set(injection.workloads), "manifests"):
        items[index] = injected(items[index], injection, secrets)
    return items[0] if isinstance(manifests, Mapping) else items
