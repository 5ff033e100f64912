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
    """Put first what a lab shows in which nothing is written, and last what needs the change, which others undo."""
    items.sort(key=lambda item: ("change" in getattr(item, "fixturenames", ()), item.path.name != "test_site.py"))
