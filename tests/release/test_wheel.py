"""The wheel with each installed Python, and beside the client that others published under the same name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pythons import interpreters
from support.published import PUBLISHED
from support.wheel import build, check_a_ca_without_key_usage, check_reading, environment, run

EARLIER = "dekeyrej-secretmanager==1.0.2"  # with other files


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module", params=interpreters().values(), ids=interpreters().keys())
def python(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(request.param, tmp_path_factory.mktemp("venv"), [wheel])


def test_the_wheel_reads_with_each_python(python: Path, tmp_path: Path) -> None:
    check_reading(python, tmp_path)


def test_a_ca_without_key_usage_with_each_python(python: Path, tmp_path: Path) -> None:
    check_a_ca_without_key_usage(python, tmp_path)


@pytest.mark.parametrize(("ours_first", "published"), [(True, PUBLISHED), (False, PUBLISHED), (False, EARLIER)])
def test_the_published_client_beside_it_is_an_error(
    wheel: Path, tmp_path: Path, ours_first: bool, published: str
) -> None:
    """Both packages install the folder `secretmanager`, and the later one overwrites files of the earlier one."""
    first, second = (wheel, published)[:: 1 if ours_first else -1]
    python = environment(sys.executable, tmp_path, ["--no-deps", first, "pyyaml", "click"], ["--no-deps", second])
    # A module, the command and a service. If the other package is the later one, no code of ours runs in a service.
    ways = ["import secretmanager.errors", "from secretmanager.commands.main import main; main()"]
    ways += [] if ours_first else ["from secretmanager import SecretManager"]
    for code in ways:
        process = run(python, code)
        assert process.returncode == 1
        assert "pip uninstall dekeyrej-secretmanager kubevault && pip install kubevault" in process.stderr
