"""The lab that Molecule created, for its tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.lab import Lab


@pytest.fixture(scope="session")
def lab() -> Lab:
    return Lab(Path(os.environ["KUBEVAULT_LAB"]))
