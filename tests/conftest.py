"""Settings for all tests."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from typing import Any

import pytest

# A run in the background ignores these signals, and so would the programs that tests start and interrupt.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
# A terminated run stops its servers, as an interrupted one does.
signal.signal(signal.SIGTERM, signal.default_int_handler)

LONGEST = ("test_vault_cluster.py", "test_vault_seal.py")
"""Files that take minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first, so that no process of pytest-xdist ends long after the others."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[Any]:
    """Escape halves of characters in what a test logged: pytest-xdist sends each report as UTF-8."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The program kubevault-exec, for this machine."""
    if not shutil.which("go"):
        # CI has Go, so there nothing goes untested.
        (pytest.fail if os.environ.get("CI") else pytest.skip)("Go is not installed: kubevault-exec cannot be built")
    from build_image import kubevault_exec

    from kubevault_lab.cache import target_platform

    return kubevault_exec(target_platform()[1], tmp_path_factory.mktemp("build"))
