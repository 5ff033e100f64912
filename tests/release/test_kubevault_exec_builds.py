"""kubevault-exec for each architecture of the image, whichever this machine has."""

from __future__ import annotations

from pathlib import Path

import elf
import pytest
from build_image import kubevault_exec

from kubevault_lab.cache import target_platform


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_it_is_static_and_the_same_each_time(architecture: str, built: bytes, tmp_path: Path) -> None:
    one, two = (kubevault_exec(architecture, tmp_path) for _ in range(2))
    assert one == two
    assert elf.parse(one) == elf.Elf(architecture, (), "")
    assert (one == built) == (architecture == target_platform()[1])
