"""The image of `make image` for all platforms: built twice, and taken by containerd."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from build_image import PLATFORMS, folder_entries
from support.image_build import NATIVE, VERSION, build, check, require
from support.servers import PATIENCE, Program, wait_until

REFERENCE = f"localhost/kubevault:{VERSION}"
CONTAINER = f"kubevault-{os.getpid()}"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a build, which another one repeated."""
    folders = [tmp_path_factory.mktemp("image") for _ in range(2)]
    printed = {build(folder).replace(str(folder), "") for folder in folders}
    assert len(printed) == 1, "two builds have different digests"
    one, two = (dict(folder_entries(folder)) for folder in folders)
    assert one == two
    shutil.rmtree(folders[1])
    return folders[0]


@pytest.mark.parametrize("architecture", PLATFORMS)
def test_what_is_in_it(built: Path, architecture: str) -> None:
    check(built, architecture)


@pytest.fixture(scope="module")
def ctr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The command `ctr` of a containerd of the tests' own."""
    require("containerd", "ctr", "runc")
    folder = tmp_path_factory.mktemp("containerd")
    config = (
        "version = 2",
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]',
        f'root = "{folder}/root"',
        f'state = "{folder}/state"',
        f'grpc = {{address = "{folder}/grpc"}}',
        f'ttrpc = {{address = "{folder}/ttrpc"}}',
    )
    (folder / "config.toml").write_text("\n".join(config))
    server = Program(["containerd", "--config", f"{folder}/config.toml"], folder / "log")

    def ctr(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = ["ctr", "--address", folder / "grpc", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)

    server.start()
    try:
        wait_until("containerd", lambda: ctr("version").returncode == 0)
        yield ctr
    finally:
        # Only where a test was broken off is it still there; without containerd its process and mount would stay.
        ctr("tasks", "delete", "--force", CONTAINER)
        server.end()


def test_containerd_takes_an_archive_and_a_layout(built: Path, ctr: Run, tmp_path: Path) -> None:
    layout = tmp_path / "layout.tar"
    with tarfile.open(layout, "w") as archive:
        archive.add(built / "oci", arcname=".")
    digests = []
    for path in (layout, built / f"kubevault-{VERSION}-{NATIVE}.tar"):
        done = ctr("images", "import", path)
        assert done.returncode == 0, done.stderr
        (line,) = [line for line in ctr("images", "ls").stdout.splitlines() if line.startswith(f"{REFERENCE} ")]
        digests.append(line.split()[2])
        done = ctr("run", "--rm", "--read-only", REFERENCE, CONTAINER, "kubevault", "--version")
        assert (done.returncode, done.stdout) == (0, f"kubevault, version {VERSION}\n"), done.stderr
    (main,) = json.loads((built / "oci/index.json").read_text())["manifests"]
    index = json.loads((built / "oci/blobs" / main["digest"].replace(":", "/")).read_text())
    natives = [each["digest"] for each in index["manifests"] if each["platform"]["architecture"] == NATIVE]
    assert digests == [main["digest"], *natives]
