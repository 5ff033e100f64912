"""A mirror of releases for hosts, which reach no other: archives of programs, their checksums and its own signature.

Its layout is that of `kubevault_lab.releases`: each file under its upstream host and path.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ..errors import LabError
from ..projects import Release
from .sandbox import CONTROLLER

PATIENCE = 60.0
"""Seconds until the server must listen."""

PORT = 8000
"""The server's port."""

URL = f"http://{CONTROLLER}:{PORT}"
"""The server's address, for all hosts. Plain HTTP, so a client has to verify the signature."""


@dataclass(frozen=True)
class Mirror:
    """A mirror, and an OpenPGP key of its own that signs in it.

    Attributes:
        folder: what is served.
        signer: folder of GnuPG, with a short path: its agent has a socket there.
    """

    folder: Path
    signer: Path

    @property
    def key(self) -> Path:
        """The armored public key."""
        return self.signer / "key.asc"

    def path(self, url: str) -> Path:
        """Return the file of an upstream URL."""
        return self.folder / url.removeprefix("https://")

    def create_key(self) -> None:
        """Create the key that signs, if there is none.

        Raises:
            LabError: GnuPG fails.
        """
        if self.key.exists():
            return
        self.signer.mkdir(mode=0o700, parents=True)
        self._gpg("--passphrase=", "--quick-generate-key", "mirror of the tests", "ed25519", "sign", "never")
        self._gpg("--armor", f"--output={self.key}", "--export")

    def publish(self, release: Release, program: Path) -> None:
        """Publish a program, and the signed checksum of its archive.

        Args:
            release: its upstream files; a .zip or .tar.gz, and checksums with a signature.
            program: the program.

        Raises:
            LabError: GnuPG fails.
            OSError: the folder cannot be written.
        """
        archive = self.path(release.url)
        archive.parent.mkdir(parents=True, exist_ok=True)
        if archive.suffix == ".zip":
            # Without compression, which takes longer than all that follows.
            with zipfile.ZipFile(archive, "w") as files:
                files.write(program, release.member)
        else:
            with tarfile.open(archive, "w:gz", compresslevel=1) as files:
                files.add(program, release.member)
        with archive.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        self.path(release.checksums_url).write_text(f"{digest}  {archive.name}\n")
        self.sign(release)

    def sign(self, release: Release) -> None:
        """Sign the checksums of a release as they are.

        Raises:
            LabError: GnuPG fails.
        """
        self._gpg(
            *("--yes", f"--output={self.path(release.signature_url)}"),
            *("--detach-sign", str(self.path(release.checksums_url))),
        )

    def serve(self) -> None:
        """Serve the folder at `URL`, until the sandbox ends; once is enough, also if the folder is made again.

        Raises:
            LabError: the server does not listen.
        """
        if _listens():
            return
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "http.server", str(PORT), f"--bind={CONTROLLER}", f"--directory={self.folder}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + PATIENCE
        while not _listens():
            if process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"the mirror does not listen at {URL}")
            time.sleep(0.05)

    def _gpg(self, *arguments: str) -> None:
        gpg = shutil.which("gpg")
        if not gpg:
            raise LabError("gpg is missing, by which the mirror signs; on Debian or Ubuntu: apt install gnupg")
        done = subprocess.run(  # noqa: S603
            [gpg, "--batch", "--quiet", "--pinentry-mode=loopback", *arguments],
            env={**os.environ, "GNUPGHOME": str(self.signer)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LabError(f"gpg {' '.join(arguments)}: {done.stderr.strip()}")


def _listens() -> bool:
    try:
        with socket.create_connection((CONTROLLER, PORT), 1):
            return True
    except OSError:
        return False
