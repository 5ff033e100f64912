"""Rewrap sealed Secrets in YAML files, as they are kept in Git."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import ConfigError, SecretManagerError, VaultError
from ..sealing.manifestfile import ManifestFile
from ..sealing.plan import Action
from ..sealing.stores import Change
from ..servers.kubernetes import Object
from ..servers.vault import VaultClient
from .planning import Options, Skip, make_candidate
from .rewrapper import Progress, Report, rewrapped

_SIGNS = (b"dmF1bHQ6d", b"vault:v")
"""How a ciphertext begins, in base64 and as text. Only files with one of them are read as YAML: a folder may hold
others, such as templates of Helm."""


class FileRewrapper:
    """Rewraps Secrets in files, each of which is written whole or not at all.

    Args:
        vault: client whose token may rewrap with the key.
        paths: files, and folders, whose ``*.yaml``, ``*.yml`` and ``*.json`` are taken.
        options: what is rewrapped; a Secret in a file is never recreated, nor does GitOps put it back.
        newest: newest version of the Transit key.
    """

    def __init__(self, vault: VaultClient, paths: Sequence[Path], options: Options, newest: int) -> None:
        self._vault = vault
        self._paths = paths
        self._options = Options(options.transit_key, options.unmanaged, gitops=True, recreate=True)
        self._newest = newest

    def run(self, report: Report, *, check: bool, progress: Progress) -> None:
        """Rewrap; what became of each Secret is added to the report.

        Raises:
            VaultError: Vault refused, or is unreachable.
        """
        for path, folder in files_of(self._paths):
            try:
                self._rewrap(path, _opened(path, folder), report, check=check)
            except VaultError:
                raise
            except SecretManagerError as error:
                report.failed[str(path)] = str(error)
            progress(report)

    def _rewrap(self, path: Path, file: ManifestFile, report: Report, *, check: bool) -> None:
        candidates = [make_candidate(secret, self._newest, self._options) for secret in file.load().values()]
        behind = []
        for candidate in filter(None, candidates):
            if not report.settles(f"{path}: {candidate.place}", candidate):
                behind.append(candidate)
        for name, secret in _unplaced(path, file):
            unplaced = make_candidate(secret, self._newest, self._options)
            if unplaced and unplaced.behind:
                report.skipped[name] = str(Skip.UNPLACED)
        changes = []
        for candidate, result in rewrapped(self._vault, self._options.transit_key, behind):
            if isinstance(result, VaultError):
                report.refuses(f"{path}: {candidate.place}", result)
            else:
                changes.append(Change(Action.UPDATED, candidate.secret, result))
        errors = file.write(changes, check=check, on_written=lambda change: None)
        report.failed |= {f"{path}: {place}": str(error) for place, error in errors.items()}
        report.rewrapped += [f"{path}: {change.place}" for change in changes if change.place not in errors]


def secrets_of(paths: Sequence[Path]) -> Iterator[tuple[str, Object]]:
    """Yield the Secrets in files, each with the file and its ``namespace/name``.

    Raises:
        ConfigError: a file cannot be read, is not YAML, or is a link that leads out of its folder.
    """
    for path, folder in files_of(paths):
        file = _opened(path, folder)
        yield from ((f"{path}: {place}", secret) for place, secret in file.load().items())
        yield from _unplaced(path, file)


def _unplaced(path: Path, file: ManifestFile) -> Iterator[tuple[str, Object]]:
    """Yield the Secrets of a file that name no namespace."""
    for secret in file.unplaced:
        metadata = {**secret["metadata"], "namespace": ""}
        yield f"{path}: {metadata['name']}", {**secret, "metadata": metadata}


def _is_manifest(path: Path) -> bool:
    return path.suffix in (".yaml", ".yml", ".json") and path.is_file()


def files_of(paths: Sequence[Path]) -> Iterator[tuple[Path, Path | None]]:
    """Yield the files that may hold a ciphertext; of a folder, in the order of their names, each with the folder."""
    for path in paths:
        if not path.is_dir():
            yield path, None
            continue
        for file in sorted(item for item in path.rglob("*") if _is_manifest(item)):
            if _may_hold_ciphertext(file):
                yield file, path


def _may_hold_ciphertext(file: Path) -> bool:
    try:
        content = file.read_bytes()
    except OSError:
        return True  # whoever reads it is told why not
    return any(sign in content for sign in _SIGNS)


def _opened(path: Path, folder: Path | None) -> ManifestFile:
    """Return a file of a folder.

    Raises:
        ConfigError: it is a link that leads out of the folder, so that something else would be written.
    """
    if folder and not path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"{path}: is a link that leads out of {folder}", remedy="remove it, or name the file itself")
    return ManifestFile(path)
