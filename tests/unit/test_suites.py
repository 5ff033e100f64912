"""How `make test` runs its suites, and what it says of them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.ansible import ROOT
from support.servers import wait_until


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """A copy of the program, which keeps its notes beside it."""
    folder = tmp_path / "tools"
    folder.mkdir()
    return Path(shutil.copy(ROOT / "tools/suites.py", folder))


def suites(tool: Path, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    without = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [sys.executable, tool, *arguments],
        env={**without, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_report_has_the_time_and_the_result_of_each_suite(tool: Path) -> None:
    assert suites(tool, "run", "good", "sh", "-c", "echo one; echo two >&2").stdout == "one\ntwo\n"
    assert suites(tool, "run", "bad", "sh", "-c", "exit 4").returncode == 4
    report = suites(tool, "report", "good", "bad", "lost")
    lines = [line.split() for line in report.stdout.splitlines() if line]
    assert [(line[0], line[-1]) for line in lines[:3]] == [("good", "passed"), ("bad", "failed"), ("lost", "end")]
    assert report.stdout.splitlines()[-1].endswith("make release-check")
    assert (report.returncode, report.stderr) == (1, "Failed: bad, lost\n")
    assert suites(tool, "report", "good").returncode == 0


def test_what_could_not_run_is_said_and_in_ci_it_is_an_error(tool: Path) -> None:
    suites(tool, "run", "pods", "true")
    (tool.parents[1] / "build/suites/pods.not-run").write_text("root is missing\n")
    report = suites(tool, "report", "pods")
    assert "NOT RUN: pods: root is missing" in report.stdout
    assert report.returncode == 0
    assert suites(tool, "report", "pods", env={"CI": "true"}).stderr == "Failed: pods\n"
    suites(tool, "run", "pods", "true")
    assert suites(tool, "report", "pods", env={"CI": "true"}).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_suite_is_waited_for_until_all_of_it_has_cleaned_up(
    tool: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Make, when it is interrupted itself, sends several signals; a second one would end what cleans up."""
    clean = "trap - INT TERM; touch {0}.cleaning; sleep 0.3; touch {0}.cleaned; exit 1"
    script = f"trap '{clean}' INT TERM; touch {{0}}; while :; do sleep 0.05; done"
    one, two = (script.format(tmp_path / name) for name in "ab")
    process = subprocess.Popen([sys.executable, tool, "run", "both", "bash", "-c", f"({one}) & {two}"])
    wait_until("both processes", lambda: (tmp_path / "a").exists() and (tmp_path / "b").exists())
    process.send_signal(number)
    wait_until("its cleaning", (tmp_path / "b.cleaning").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 1
    wait_until("the other's end", (tmp_path / "a.cleaned").exists)
    assert (tmp_path / "b.cleaned").exists()


def test_a_program_that_does_not_exist_is_an_error(tool: Path) -> None:
    run = suites(tool, "run", "none", "/nonexistent/program")
    assert run.returncode == 1
    assert "No such file or directory: '/nonexistent/program'" in run.stderr


def test_the_workflow_runs_actions_by_the_digest_of_a_commit() -> None:
    """Whoever may move a tag of an action would otherwise run what he likes there, as root."""
    used = re.findall(r"uses: *(.+)", (ROOT / ".github/workflows/test.yml").read_text())
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)] == []
