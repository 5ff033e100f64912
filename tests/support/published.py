"""The published client, dekeyrej-secretmanager, in processes of its own: its package has the same name as this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .ansible import environment

PUBLISHED = Path(__file__).with_suffix(".txt").read_text(encoding="ascii").strip()
"""Name and version, as pip takes them. The benchmarks read them there, too."""

READS = """
import json, sys
from secretmanager import SecretManager
config, place = map(json.loads, sys.argv[1:])
manager = SecretManager(config)
# It raises nothing if Vault refuses it: it has no client of Vault then.
answer = manager.execute("KUBEVAULT", "READ", manager, place) if manager.hvac_client else {"status": "no log-in"}
manager.execute("KUBEVAULT", "LOGOUT", manager)
print(json.dumps(answer))
"""


@dataclass(frozen=True)
class Answer:
    """What the published client returned for a read, and what it logged."""

    status: str
    data: Any
    log: str


@dataclass(frozen=True)
class PublishedClient:
    """The published client.

    Attributes:
        folder: where its package is, alone: what it needs comes from this environment, as requirements.lock has it.
    """

    folder: Path

    def read(self, config: Mapping[str, Any], place: Mapping[str, str]) -> Answer:
        """Log in, read and log out, as its own example does."""
        # Without the token that hvac takes from the home folder, instead of logging in.
        env = environment(PYTHONPATH=str(self.folder), HOME=str(self.folder))
        command = [sys.executable, "-c", READS, json.dumps({"SOURCE": "KUBEVAULT", **config}), json.dumps(dict(place))]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        return Answer(answer["status"], answer.get("data"), done.stderr)


def install(folder: Path) -> PublishedClient:
    """Install the published client into an empty folder, by the index or the files that pip is configured for."""
    options = ("--quiet", "--disable-pip-version-check", "--progress-bar=off", "--no-deps", f"--target={folder}")
    done = subprocess.run([sys.executable, "-m", "pip", "install", *options, PUBLISHED], capture_output=True, text=True)
    if done.returncode:
        # CI has an index, so there nothing goes untested.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"pip cannot install {PUBLISHED}: {done.stderr}")
    return PublishedClient(folder)
