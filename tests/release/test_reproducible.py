"""Two builds of one commit give the same bytes. (The image: test_image_platforms.py.)"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support import collection, wheel


@pytest.mark.parametrize("build", [collection.build, wheel.build], ids=["collection", "wheel"])
def test_two_builds_give_the_same_bytes(build: Callable[[Path], Path], tmp_path: Path) -> None:
    folders = [tmp_path / number for number in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        build(folder)
    one, two = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert one == two, "two builds differ"
