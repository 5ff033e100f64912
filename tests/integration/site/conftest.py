"""The lab that site.yml has set up, and what these tests add to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import change as changes
from support.lab import Lab


@pytest.fixture(scope="session")
def lab() -> Lab:
    assert "KUBEVAULT_LAB" in os.environ, "run by tests/in-a-lab, or set KUBEVAULT_LAB to the folder of a lab"
    return Lab(Path(os.environ["KUBEVAULT_LAB"]))


@pytest.fixture(scope="session")
def change(lab: Lab) -> changes.Change:
    return changes.make(lab)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what a plain lab shows first: a run with its own inventory takes away what the change has added."""
    items.sort(key=lambda item: "change" in getattr(item, "fixturenames", ()))
