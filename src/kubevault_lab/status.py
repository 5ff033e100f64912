"""What supervisord cannot know of the lab's servers: whether Vault is unsealed.

python -m kubevault_lab.status FOLDER
"""

from __future__ import annotations

import json
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

TIMEOUT = 5.0
"""Time that Vault may take to answer, in seconds."""

REPAIR = "repair the lab: make lab-up"


def vault_status(folder: Path) -> str | None:
    """Return what is wrong with a lab's Vault, and what to do; None if nothing is.

    Args:
        folder: the lab's folder.

    Source: https://developer.hashicorp.com/vault/api-docs/system/seal-status
    """
    port = json.loads((folder / "ports.json").read_text())["vault"]
    context = ssl.create_default_context(cafile=folder / "pki/ca.crt")
    url = f"https://127.0.0.1:{port}/v1/sys/seal-status"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT, context=context) as response:
            status = json.load(response)
    except (OSError, ValueError) as error:
        return f"does not answer on {url}: {getattr(error, 'reason', error)}; {REPAIR}"
    if not status["initialized"]:
        return f"is not initialised; {REPAIR}"
    return f"is sealed; {REPAIR}" if status["sealed"] else None


if __name__ == "__main__":
    problem = vault_status(Path(sys.argv[1]))
    print(f"vault {problem or 'is unsealed'}")
    sys.exit(1 if problem else 0)
