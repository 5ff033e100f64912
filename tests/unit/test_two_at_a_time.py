"""The queue in which `make test` runs its suites."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.ansible import ROOT


def start(*scripts: str) -> subprocess.Popen[str]:
    commands = [f"bash -c {shlex.quote(script)}" for script in scripts]
    return subprocess.Popen(
        [sys.executable, ROOT / "tools/two_at_a_time.py", *commands],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_run_at_once_and_are_shown_one_after_the_other(tmp_path: Path) -> None:
    # Each of the first two waits for the other one.
    meet = "touch {}; until [[ -e {} ]]; do sleep 0.05; done; echo {}"
    left, right = tmp_path / "left", tmp_path / "right"
    process = start(meet.format(left, right, 1), meet.format(right, left, 2), "echo 3; exit 4", "echo 5")
    output, errors = process.communicate(timeout=30)
    assert output.split() == ["1", "2", "3", "5"]
    assert (process.returncode, errors) == (1, "Failed: bash -c 'echo 3; exit 4'\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_waits_until_all_have_cleaned_up(tmp_path: Path, number: signal.Signals) -> None:
    script = "trap 'sleep 0.3; touch {0}.cleaned; exit' INT TERM; touch {0}; while :; do sleep 0.05; done"
    process = start(*(script.format(tmp_path / name) for name in "abc"))
    while sorted(path.name for path in tmp_path.iterdir()) != ["a", "b"]:
        assert process.poll() is None
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.cleaned", "b", "b.cleaned"]


def test_a_program_that_does_not_exist_is_an_error() -> None:
    process = subprocess.run(
        [sys.executable, ROOT / "tools/two_at_a_time.py", "/nonexistent/program", "echo 1"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (process.returncode, process.stdout) == (1, "1\n")
    assert "No such file or directory: '/nonexistent/program'" in process.stderr
