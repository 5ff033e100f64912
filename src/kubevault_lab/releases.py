"""Download official releases from upstream or a mirror, and verify them by their published SHA-256.

A mirror has each file under its upstream host and path, as `wget --force-directories` creates them, for example
MIRROR/dl.k8s.io/v1.36.3/bin/linux/amd64/kube-apiserver.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import shutil
import ssl
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TypeVar
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, MaxRetryError, NewConnectionError, ProxyError
from urllib3.util import Retry, Timeout

from .errors import ChecksumError, DownloadError, LabError
from .progress import Progress, megabytes
from .projects import Release

CONNECT_TIMEOUT = 4.0
"""Seconds that a connection to one address of a host may take."""

ANSWER_TIMEOUT = 10.0
"""Seconds until a response begins, including name resolution and redirects."""

READ_TIMEOUT = 15.0
"""Seconds without data after which a download fails."""

_CHUNK = 1 << 18

_T = TypeVar("_T")


class Downloader:
    """Downloads releases. A host that is unreachable is not tried again."""

    def __init__(self, mirror: str | None, progress: Progress) -> None:
        """Download from upstream or a mirror.

        Args:
            mirror: base URL of the mirror; None for upstream.
            progress: reports the progress of a download.

        Raises:
            LabError: the mirror is neither https nor on loopback, so its checksums would prove nothing.
        """
        self._mirror = mirror.rstrip("/") if mirror else None
        if self._mirror and not _trustworthy(urlsplit(self._mirror)):
            raise LabError(
                f"KUBEVAULT_MIRROR: found {mirror}; give an https:// URL, or http:// for a mirror on loopback"
            )
        self._progress = progress
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._unreachable: set[str] = set()

    def location(self, url: str) -> str:
        """Return the URL that an upstream file is downloaded from."""
        return f"{self._mirror}/{url.removeprefix('https://')}" if self._mirror else url

    def fetch(self, release: Release, folder: Path, title: str) -> Path:
        """Download a program.

        Args:
            release: the release to download.
            folder: folder for it, and for the archive until it is unpacked.
            title: name of the program, for progress.

        Returns:
            The program's file.

        Raises:
            DownloadError: it cannot be downloaded.
            ChecksumError: its SHA-256 is not the published one.
            OSError: the folder cannot be written.
        """
        url = self.location(release.url)
        expected = self._published(release)
        file = folder / "release"
        found = self._save(url, file, title)
        if found != expected:
            file.unlink()
            raise ChecksumError(f"checksum does not match: refused. {url} has SHA-256 {found}; published is {expected}")
        if not release.member:
            return file
        program = folder / "program"
        _unpack(file, release.member, program, url)
        file.unlink()
        return program

    def _published(self, release: Release) -> str:
        url = self.location(release.checksums_url)
        with self._open(url) as response:
            # The list of a release has a few kilobytes.
            text = self._read(response, url, 1 << 20).decode(errors="replace")
        checksum = published_checksum(text, release.url.rpartition("/")[2])
        if not checksum:
            raise DownloadError(f"{url} has no SHA-256 of this file")
        return checksum

    def _save(self, url: str, file: Path, title: str) -> str:
        """Write a body to a file; return its SHA-256."""
        digest = hashlib.sha256()
        with self._open(url) as response, file.open("wb") as out:
            total = response.length_remaining
            done = 0

            def state() -> str:
                return (
                    f"{megabytes(done)} of {megabytes(total)} ({100 * done // total} %)" if total else megabytes(done)
                )

            with self._progress.task(f"{title}: downloading from {urlsplit(url).netloc}", state):
                while chunk := self._read(response, url, _CHUNK):
                    digest.update(chunk)
                    out.write(chunk)
                    done += len(chunk)
        return digest.hexdigest()

    def _open(self, url: str) -> AbstractContextManager[urllib3.BaseHTTPResponse]:
        parts = urlsplit(url)
        if parts.netloc in self._unreachable:
            raise DownloadError(f"{parts.netloc} was unreachable a moment ago: not tried again")
        pool = self._pools.setdefault(parts.netloc, _pool_manager(parts))
        retries = Retry(None, connect=0, read=0, status=0, other=0, redirect=5)
        timeout = Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT)

        def request() -> urllib3.BaseHTTPResponse:
            # identity: the bytes as published, and their number for the progress.
            return pool.request(
                "GET",
                url,
                headers={"Accept-Encoding": "identity"},
                preload_content=False,
                retries=retries,
                timeout=timeout,
            )

        try:
            response = _within(ANSWER_TIMEOUT, request)
        except TimeoutError as error:
            self._unreachable.add(parts.netloc)
            raise DownloadError(f"{url}: no response within {ANSWER_TIMEOUT:.0f} s") from error
        except HTTPError as error:
            cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
            if isinstance(cause, NewConnectionError | ConnectTimeoutError | ProxyError):
                self._unreachable.add(parts.netloc)
            raise DownloadError(f"{url}: {_reason(cause)}") from error
        steps = response.retries.history if response.retries else ()
        if parts.scheme == "https" and any((step.redirect_location or "").startswith("http:") for step in steps):
            response.close()
            raise DownloadError(f"{url}: redirects to plain HTTP: refused")
        if response.status != 200:
            response.close()
            raise DownloadError(f"{url}: HTTP {response.status}")
        return response

    @staticmethod
    def _read(response: urllib3.BaseHTTPResponse, url: str, size: int) -> bytes:
        try:
            return response.read(size)
        except HTTPError as error:
            raise DownloadError(f"{url}: incomplete: {_reason(error)}") from error


def published_checksum(text: str, filename: str) -> str | None:
    """Return a file's SHA-256 from a list of checksums.

    Args:
        text: only the SHA-256 (dl.k8s.io), or lines of a SHA-256 and a file name (SHA256SUMS, sha256sum(1)).
        filename: name of the file, without folders.

    Returns:
        64 hexadecimal digits in lower case; None if the file is not in the list.
    """
    for line in text.splitlines():
        found = re.fullmatch(r"([0-9a-fA-F]{64})(?:[ \t]+\*?(?:\./)?(\S+))?\s*", line)
        if found and found[2] in (None, filename):
            return found[1].lower()
    return None


def _pool_manager(parts: SplitResult) -> urllib3.PoolManager:
    """Return a pool of connections to a host, by the proxy of the environment if it applies."""
    context = ssl.create_default_context() if parts.scheme == "https" else None
    proxy = getproxies().get(parts.scheme)
    if not proxy or _loopback(parts.hostname) or proxy_bypass(parts.netloc):
        return urllib3.PoolManager(ssl_context=context)
    return urllib3.ProxyManager(proxy, ssl_context=context)


def _trustworthy(parts: SplitResult) -> bool:
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and _loopback(parts.hostname)))


def _loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _within(seconds: float, call: Callable[[], _T]) -> _T:
    """Call a function with a time limit: getaddrinfo(3) and a host of many addresses have none.

    Raises:
        TimeoutError: there is no result in time; the call goes on in its thread.
        BaseException: whatever the call raises.
    """
    results: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError
    return results[0]


def _reason(error: Exception) -> str:
    """Return the text of an error of urllib3 without the object that it begins with."""
    return re.sub(r"^<?\w+\([^)]*\)>?: ", "", str(error))


def _unpack(archive: Path, member: str, target: Path, url: str) -> None:
    """Extract one file from a .zip or .tar.gz whose checksum was verified."""
    take = _take_from_zip if url.endswith(".zip") else _take_from_tar
    try:
        take(archive, member, target)
    except (KeyError, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DownloadError(f"{url}: {member} cannot be extracted: {error}") from error


def _take_from_zip(archive: Path, member: str, target: Path) -> None:
    with zipfile.ZipFile(archive) as files, files.open(member) as source:
        _copy(source, target)


def _take_from_tar(archive: Path, member: str, target: Path) -> None:
    with tarfile.open(archive) as files:
        source = files.extractfile(member)
        if source is None:
            raise KeyError(f"{member} is not a file")
        with source:
            _copy(source, target)


def _copy(source: IO[bytes], target: Path) -> None:
    with target.open("wb") as out:
        shutil.copyfileobj(source, out, _CHUNK)
