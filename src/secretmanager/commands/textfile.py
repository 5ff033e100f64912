"""Files of node_exporter's textfile collector.

Source: https://github.com/prometheus/node_exporter#textfile-collector
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

from ..errors import ConfigError

METRIC = "kubevault_rotation_last_success_timestamp_seconds"
MODE = 0o644
"""The collector runs as a user of its own."""


def record_rotation(path: Path, transit_key: str) -> None:
    """Write that the rotation of a key has succeeded just now.

    Raises:
        ConfigError: the file cannot be written.
    """
    replace(
        path,
        f"# HELP {METRIC} When the last rotation succeeded.\n"
        f"# TYPE {METRIC} gauge\n"
        f"{METRIC}{{transit_key={json.dumps(transit_key)}}} {int(time.time())}\n",
    )


def replace(path: Path, text: str) -> None:
    """Replace a file at once, because the collector may read it at any time.

    Others may write to its folder. So the new file is one that was not there before, under a name that nobody can know,
    and its mode is set where it is open; a link that has the file's own name is replaced, not followed.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                os.fchmod(descriptor, MODE)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        why = f"{error.strerror}; let the user that runs this write to its folder"
        raise ConfigError(f"{path}: cannot be written: {why}") from error
