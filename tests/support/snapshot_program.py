"""The program of roles/vault-snapshot, which is installed alone and so has no package."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from types import ModuleType

from .ansible import ROOT

PROGRAM = ROOT / "roles/vault-snapshot/files/vault-snapshot"


def load() -> ModuleType:
    """Return the program as a module."""
    spec = spec_from_loader("vault_snapshot", SourceFileLoader("vault_snapshot", str(PROGRAM)))
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
