"""All of ansible-test's sanity tests, of the collection as it is installed."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import ansible_test
from support.ansible import BIN, ROOT
from support.collection import build, install, run


def test_sanity(tmp_path: Path) -> None:
    """What packages they need ansible-test installs by pip, in environments of its own."""
    home = ROOT / ".ansible" / "sanity"
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    # ansible-test would download get-pip.py; Python brings a pip itself.
    source = Path(ansible_test.__path__[0], "_internal", "python_requirements.py").read_text()
    version = re.search(r"pip='([0-9.]+)'", source)
    assert version
    bootstrap = cache / f"get_pip_{version[1].replace('.', '_')}.py"
    bootstrap.write_text("import ensurepip\n\nensurepip.bootstrap()\n")
    folders = {name: tmp_path / name for name in ("artifact", "collections", "scripts")}
    for folder in folders.values():
        folder.mkdir()
    installed = install(build(folders["artifact"]), folders["collections"])
    env = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    # ansible-test runs scripts from TMPDIR, so that a foreign http.py in /tmp would hide Python's own.
    env |= {"HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}", "TMPDIR": str(folders["scripts"])}
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    core = installed / "ansible_collections" / "kubevault" / "core"
    output = run(["ansible-test", "sanity", "--python", python, "--color", "no", "--redact"], env, core)
    passed = set(re.findall(r'Running sanity test "([a-z0-9-]+)"', output))
    assert {"ansible-doc", "import", "pylint", "symlinks", "validate-modules", "yamllint"} <= passed
