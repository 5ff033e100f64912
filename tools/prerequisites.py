"""Says what this machine lacks, before anything is installed. It runs on any Python 3, old ones too."""

import importlib.util
import os
import platform
import shutil
import sys


def missing():
    """Return a sentence for each thing that is missing; each says how to get it."""
    if platform.system() != "Linux":
        yield "Linux: found {}. The lab's servers run on Linux alone.".format(platform.system())
    if sys.version_info < (3, 11):
        yield "Python 3.11 or newer: found {}. Install one, then: make PYTHON=python3.11 ...".format(
            platform.python_version()
        )
    if importlib.util.find_spec("ensurepip") is None:
        yield "Python's venv. On Debian or Ubuntu: apt install python3-venv"
    if shutil.which("setpriv") is None:
        yield "setpriv (util-linux). On Debian or Ubuntu: apt install util-linux"
    if shutil.which("ss") is None:
        yield "ss (iproute2), for the tests. On Debian or Ubuntu: apt install iproute2"


found = list(missing())
for sentence in found:
    sys.stderr.write("Missing: " + sentence + os.linesep)
sys.exit(1 if found else 0)
