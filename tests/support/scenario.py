"""Fixtures of the Molecule scenarios."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .lab import Lab


@pytest.fixture(scope="session")
def lab() -> Lab:
    """Return the lab that Molecule created."""
    return Lab(Path(os.environ["KUBEVAULT_LAB"]))
