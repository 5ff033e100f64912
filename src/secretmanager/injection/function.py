"""The KRM function: a ResourceList in, a ResourceList with results out, as kustomize and kpt run it.

Source: https://github.com/kubernetes-sigs/kustomize/blob/master/cmd/config/docs/api-conventions/functions-spec.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .. import documents
from ..errors import ConfigError
from .options import from_options
from .pods import injected
from .secrets import secrets_among
from .text import chosen, with_contents

GROUP = "config.kubernetes.io"
KIND_OF_LIST = "ResourceList"
KIND = "KubevaultInject"
API_VERSION = "kubevault.io/v1"


def is_resource_list(text: str) -> bool:
    """Return whether a text is a ResourceList."""
    try:
        return KIND_OF_LIST in text and any(
            isinstance(each.content, dict)
            and each.content.get("kind") == KIND_OF_LIST
            and str(each.content.get("apiVersion")).startswith(f"{GROUP}/")
            for each in documents.parse(text, "standard input")
        )
    except ConfigError:
        return False


def run(text: str) -> tuple[str, str | None]:
    """Inject into the items of a ResourceList what its functionConfig says.

    Args:
        text: the ResourceList.

    Returns:
        The ResourceList to be written, and the error that is among its results, or None. With an error, the items are
        as they were.

    Raises:
        ConfigError: it is not a ResourceList.
    """
    parsed = documents.parse(text, "standard input")
    content: Any = parsed[0].content if len(parsed) == 1 else None
    if not isinstance(content, dict) or not isinstance(content.get("items") or [], list):
        raise ConfigError("standard input: is not one ResourceList")
    try:
        items, results = _injected(content)
        error = None
    except ConfigError as problem:
        error = str(problem)
        items, results = content.get("items") or [], [{"message": error, "severity": "error"}]
    changed = {name: value for name, value in content.items() if name != "results"}
    changed |= {"items": items, **({"results": results} if results else {})}
    return with_contents(text, parsed, [changed], "standard input"), error


def _injected(content: Mapping[str, Any]) -> tuple[list[Any], list[dict[str, Any]]]:
    """Return the items with a way in them, and a result for each that changed, and for what is not safe."""
    injection = from_options(_options(content.get("functionConfig")))
    items = list(content.get("items") or [])
    results: list[dict[str, Any]] = []
    if injection.warning:
        results.append({"message": injection.warning, "severity": "warning"})
    secrets = secrets_among(items)
    for index in chosen(items, set(injection.workloads), "items"):
        new = injected(items[index], injection, secrets)
        if new != items[index]:
            items[index] = new
            results.append({"message": f"injected {injection.way}", "severity": "info", "resourceRef": _reference(new)})
    return items, results


def _options(config: Any) -> dict[str, Any]:
    """Return the options of a functionConfig, whose names have capitals where ours have underscores."""
    function_config = config if isinstance(config, Mapping) else {}
    if (
        function_config.get("kind") != KIND
        or function_config.get("apiVersion") != API_VERSION
        or not isinstance(function_config.get("spec"), Mapping)
    ):
        what = " ".join(str(function_config[name]) for name in ("apiVersion", "kind") if function_config.get(name))
        raise ConfigError(f"functionConfig: found {what or 'nothing'}; allowed is {API_VERSION} {KIND} with a spec")
    if odd := [name for name in function_config["spec"] if "_" in str(name)]:
        raise ConfigError(f"functionConfig: there is no {', '.join(odd)}; names are as vaultUrl")
    return {
        re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", str(name)): value
        for name, value in function_config["spec"].items()
    }


def _reference(manifest: Mapping[str, Any]) -> dict[str, str]:
    metadata = manifest["metadata"]
    reference = {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "name": metadata.get("name", "")}
    return {**reference, **({"namespace": metadata["namespace"]} if metadata.get("namespace") else {})}
