"""Stamp workloads in a YAML file, to be committed, instead of in Kubernetes: GitOps then restarts them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from .. import documents
from ..errors import ConfigError
from ..sealed import STAMP_ANNOTATION
from ..sealing.plan import Outcome
from ..sealing.spec import WORKLOAD_KINDS, SecretSpec
from .workloads import TEMPLATE_ANNOTATIONS, Restart, Workload, annotated, asking, digests, named, outdated, stamp


class WorkloadFile:
    """The workloads of Secrets in one YAML file, whole manifests or patches for them.

    Use it as `live.LiveWorkloads`: `find` before the Secrets are sealed, `stamp` afterwards.

    Args:
        path: the file. What it holds besides the stamps stays byte for byte as it is.
        specs: the Secrets, with what each restarts.
        check: write nothing, and say what would be done.

    Attributes:
        warnings: none; there are some of live workloads.
        restarted: what was, or in check mode would be, stamped.
    """

    def __init__(self, path: str | Path, specs: Sequence[SecretSpec], *, check: bool = False) -> None:
        self.path = Path(os.path.realpath(Path(path).expanduser()))
        self._named = named(specs)
        self._asking = asking(specs)
        self._check = check
        self.warnings: list[str] = []
        self.restarted: list[Restart] = []

    def find(self) -> None:
        """Find the workloads.

        Raises:
            ConfigError: the file is missing, is not YAML, or lacks one of them.
        """
        parsed = documents.parse(self._text(), str(self.path))
        workloads = {workload for _, workload, _ in self._matches([document.content for document in parsed])}
        if missing := sorted(map(str, self._named.keys() - workloads)):
            raise ConfigError(
                f"{self.path}: there is no {', '.join(missing)}",
                remedy="correct restart, which names workloads of the Secret's namespace, or name their file",
            )

    def stamp(self, outcomes: Iterable[Outcome]) -> None:
        """Write the stamps of all workloads whose Secrets have other values than theirs say, or none.

        Args:
            outcomes: what was sealed.

        Raises:
            ConfigError: as `find`, or the file cannot be written.
        """
        sealed = digests(outcomes)
        text = self._text()
        parsed = documents.parse(text, str(self.path))
        contents = [document.content for document in parsed]
        for number, workload, names in self._matches(contents):
            content = contents[number]
            expected = {name: sealed[place] for name in names if (place := (workload.namespace, name)) in sealed}
            if entries := outdated(content, expected):
                contents[number] = _with_stamp(content, stamp(content, entries))
                self.restarted.append(Restart(workload, tuple(entries)))
        new = documents.with_contents(text, parsed, contents, str(self.path))
        if new != text and not self._check:
            documents.replace(self.path, new)

    def _text(self) -> str:
        text = documents.read(self.path)
        if text is None:
            raise ConfigError(f"{self.path}: there is no such file; it should have the workloads to restart")
        return text

    def _matches(self, contents: Sequence[Any]) -> Iterator[tuple[int, Workload, set[str]]]:
        """Yield the indices of documents that are workloads of Secrets, with the workload and these Secrets.

        A manifest without a namespace may be in any, which kustomize or GitOps give it.
        """
        for number, each in enumerate(list(contents)):
            content = each if isinstance(each, dict) else {}
            kind, metadata = content.get("kind"), content.get("metadata")
            if kind not in WORKLOAD_KINDS or not isinstance(metadata, dict) or not metadata.get("name"):
                continue
            namespaces = {workload.namespace for workload in self._named} | self._asking.keys()
            if own_namespace := metadata.get("namespace"):
                namespaces &= {own_namespace}
            matches: dict[Workload, set[str]] = {}
            for namespace in namespaces:
                workload = Workload(namespace, kind, metadata["name"])
                names = self._named.get(workload, set()) | (annotated(content) & self._asking.get(namespace, set()))
                if names:
                    matches[workload] = names
            if len(matches) > 1:
                raise ConfigError(
                    f"{self.path}: {kind} {metadata['name']} has no namespace, and the Secrets are in"
                    f" {', '.join(sorted(namespaces))}",
                    remedy="give its namespace, or seal the Secrets of each namespace by a run of its own",
                )
            for workload, names in matches.items():
                yield number, workload, names


def _with_stamp(content: Any, text: str) -> Any:
    """Return a workload with another stamp."""
    new = deepcopy(content)
    place = new
    for name in TEMPLATE_ANNOTATIONS:
        if not isinstance(place.get(name), dict):
            place[name] = {}
        place = place[name]
    place[STAMP_ANNOTATION] = text
    return new
