"""Files of manifests with a way of delivery in their workloads: what does not belong to it stays as it was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from .. import documents
from ..errors import ConfigError
from .options import Injection
from .pods import KINDS, injected, is_workload, name_of, removed
from .secrets import secrets_among


def with_injection(
    text: str,
    place: str,
    injection: Injection,
    secrets: Sequence[Mapping[str, Any]] | None = None,
    *,
    several: bool = False,
) -> str:
    """Return the text of manifests with a way in their workloads.

    Args:
        text: YAML or JSON, one document or several. A list (``kind: List``) counts as its items.
        place: where it comes from, for errors.
        injection: what is to be injected.
        secrets: manifests of Secrets that are at hand; by default those in the text.
        several: whether it is one text of several, among which `check_workloads` looks for the workloads.

    Raises:
        ConfigError: it is not YAML, it has none of the workloads, or something in one is in the way.
    """
    secret_manifests = secrets_in(text, place) if secrets is None else secrets
    workloads = set(injection.workloads)
    return _changed(text, place, lambda manifest: injected(manifest, injection, secret_manifests), workloads, several)


def workloads_in(text: str, place: str, injection: Injection, *, several: bool = False) -> list[Mapping[str, Any]]:
    """Return the workloads that are meant in the text of manifests; arguments and errors as of `with_injection`."""
    items = _all_items(text, place)
    return [items[index] for index in chosen(items, set(injection.workloads), place, several)]


def check_workloads(texts: Mapping[str, str], workloads: Sequence[str]) -> None:
    """Check that the workloads that are meant are in one of several texts.

    Args:
        texts: texts of manifests by where each comes from.
        workloads: ``KIND/NAME`` of each; all if it is empty.

    Raises:
        ConfigError: one is in none of them, or they have none at all.
    """
    items = [item for place, text in texts.items() for item in _all_items(text, place)]
    chosen(items, set(workloads), next(iter(texts)) if len(texts) == 1 else f"{len(texts)} files")


def secrets_in(text: str, place: str) -> list[Mapping[str, Any]]:
    """Return the Secrets in the text of manifests; arguments and errors as of `with_injection`."""
    if "Secret" not in text:
        return []  # parsing takes time
    return secrets_among(_all_items(text, place))


def without_injection(text: str, place: str, workloads: tuple[str, ...] = (), *, several: bool = False) -> str:
    """Return the text of manifests without what `with_injection` added; arguments and errors as there."""
    return _changed(text, place, removed, set(workloads), several)


def chosen(manifests: list[Any], workloads: set[str], place: str, several: bool = False) -> list[int]:
    """Return the indexes of the workloads that are meant.

    Args:
        manifests: objects of Kubernetes; others are passed over.
        workloads: ``KIND/NAME`` of each; all if it is empty.
        place: where they come from, for errors.
        several: whether others are elsewhere, so that none need be here.

    Raises:
        ConfigError: one is not there, or there is none at all.
    """
    names = {index: name_of(manifest) for index, manifest in enumerate(manifests) if is_workload(manifest)}
    missing = sorted(workloads - set(names.values()))
    if missing and not several:
        raise ConfigError(f"{place}: there is no {', '.join(missing)}; there is {', '.join(names.values()) or 'none'}")
    if not names and not several:
        raise ConfigError(f"{place}: holds no workload; allowed are {', '.join(KINDS)}")
    return [index for index, name in names.items() if not workloads or name in workloads]


def _changed(
    text: str, place: str, change: Callable[[Mapping[str, Any]], Any], workloads: set[str], several: bool
) -> str:
    parsed = documents.parse(text, place)
    items = [item for document in parsed for item in _items(document.content)]
    selected = set(chosen(items, workloads, place, several))
    contents = []
    count = 0
    for document in parsed:
        items = list(_items(document.content))
        try:
            changed = [change(item) if count + at in selected else item for at, item in enumerate(items)]
        except ConfigError as error:
            raise ConfigError(error.message, place=place, remedy=error.remedy) from None
        count += len(items)
        contents.append({**document.content, "items": changed} if _is_list(document.content) else changed[0])
    return with_contents(text, parsed, contents, place)


def with_contents(text: str, parsed: Sequence[documents.Document], contents: Sequence[Any], place: str) -> str:
    """As `documents.with_contents`; what cannot be edited is written with its lists indented."""
    return documents.with_contents(text, parsed, contents, place, partial(documents.dump, indent_lists=True))


def _all_items(text: str, place: str) -> list[Any]:
    return [item for document in documents.parse(text, place) for item in _items(document.content)]


def _is_list(content: Any) -> bool:
    return isinstance(content, dict) and content.get("kind") == "List" and isinstance(content.get("items"), list)


def _items(content: Any) -> Iterator[Any]:
    """Yield the objects of a document."""
    yield from content["items"] if _is_list(content) else [content]
