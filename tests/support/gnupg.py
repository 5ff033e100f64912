"""PGP keys of tests."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class KeyRing:
    """A key ring of GnuPG.

    Args:
        home: its folder.

    Attributes:
        command: gpg, with the options of every call.
    """

    def __init__(self, home: Path) -> None:
        self.command = ["gpg", "--homedir", str(home), "--batch", "--quiet"]

    def make_key(self, name: str) -> None:
        """Make a key without a passphrase, which signs and decrypts."""
        self.run("--passphrase", "", "--quick-generate-key", name, "default", "default", "never")

    def export(self, name: str, *options: str) -> bytes:
        """Return a public key, as bytes unless an option is --armor."""
        return self.run(*options, "--export", name)

    def decrypt(self, content: bytes) -> bytes:
        """Return the plaintext of what is encrypted to one of the keys."""
        return self.run("--decrypt", stdin=content)

    def run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Run gpg; return its standard output."""
        return subprocess.run([*self.command, *arguments], input=stdin, check=True, capture_output=True).stdout


@contextmanager
def key_ring() -> Iterator[KeyRing]:
    """Provide a new key ring. Its path is short, for gpg-agent's socket; agent and keys are gone afterwards."""
    home = tempfile.mkdtemp(prefix="kubevault-gpg.")
    try:
        yield KeyRing(Path(home))
    finally:
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)
        shutil.rmtree(home, ignore_errors=True)  # the agent, which is ending, removes its sockets too
