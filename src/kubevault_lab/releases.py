"""Official releases, from upstream or a mirror, used only where their SHA-256 is the published one.

A mirror has each file under its upstream host and path, as `wget --force-directories` lays them out:
MIRROR/dl.k8s.io/v1.36.3/bin/linux/amd64/kube-apiserver, for instance.
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
"""Seconds for a connection to one address of a host."""

ANSWER_TIMEOUT = 10.0
"""Seconds until an answer begins, name resolution and redirects included."""

READ_TIMEOUT = 15.0
"""Seconds without a byte after which a download has failed."""

_CHUNK = 1 << 18

_T = TypeVar("_T")


class Downloader:
    """Fetches releases. A host that cannot be reached is not asked again."""

    def __init__(self, mirror: str | None, progress: Progress) -> None:
        """Fetch from upstream or a mirror.

        Args:
            mirror: base URL of the mirror; None for upstream.
            progress: reports how far a download is.

        Raises:
            LabError: the mirror is neither https nor on loopback. Its checksums would prove nothing.
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
        """Return where a file of upstream is fetched from."""
        return f"{self._mirror}/{url.removeprefix('https://')}" if self._mirror else url

    def fetch(self, release: Release, folder: Path, title: str) -> Path:
        """Fetch a program.

        Args:
            release: which.
            folder: where to put it, and the archive while it is unpacked.
            title: name of the program, for progress.

        Returns:
            The program's file.

        Raises:
            DownloadError: it cannot be fetched.
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
        with self._open(url) as answer:
            # A list of a release is a few kilobytes.
            text = self._read(answer, url, 1 << 20).decode(errors="replace")
        checksum = published_checksum(text, release.url.rpartition("/")[2])
        if not checksum:
            raise DownloadError(f"{url} has no SHA-256 of this file")
        return checksum

    def _save(self, url: str, file: Path, title: str) -> str:
        """Write a body to a file; return its SHA-256."""
        digest = hashlib.sha256()
        with self._open(url) as answer, file.open("wb") as out:
            total = answer.length_remaining

            done = 0

            def state() -> str:
                return (
                    f"{megabytes(done)} of {megabytes(total)} ({100 * done // total} %)" if total else megabytes(done)
                )

            with self._progress.task(f"{title}: downloading from {urlsplit(url).netloc}", state):
                while chunk := self._read(answer, url, _CHUNK):
                    digest.update(chunk)
                    out.write(chunk)
                    done += len(chunk)
        return digest.hexdigest()

    def _open(self, url: str) -> AbstractContextManager[urllib3.BaseHTTPResponse]:
        parts = urlsplit(url)
        if parts.netloc in self._unreachable:
            raise DownloadError(f"{parts.netloc} could not be reached a moment ago: not asked again")
        pool = self._pools.setdefault(parts.netloc, _pool_manager(parts))
        retries = Retry(None, connect=0, read=0, status=0, other=0, redirect=5)
        timeout = Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT)

        def request() -> urllib3.BaseHTTPResponse:
            # identity: the bytes as they are published, and a length to show.
            return pool.request(
                "GET",
                url,
                headers={"Accept-Encoding": "identity"},
                preload_content=False,
                retries=retries,
                timeout=timeout,
            )

        try:
            answer = _within(ANSWER_TIMEOUT, request)
        except TimeoutError as error:
            self._unreachable.add(parts.netloc)
            raise DownloadError(f"{url}: no answer within {ANSWER_TIMEOUT:.0f} s") from error
        except HTTPError as error:
            cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
            if isinstance(cause, NewConnectionError | ConnectTimeoutError | ProxyError):
                self._unreachable.add(parts.netloc)
            raise DownloadError(f"{url}: {_reason(cause)}") from error
        steps = answer.retries.history if answer.retries else ()
        if parts.scheme == "https" and any((step.redirect_location or "").startswith("http:") for step in steps):
            answer.close()
            raise DownloadError(f"{url}: redirects to plain HTTP: refused")
        if answer.status != 200:
            answer.close()
            raise DownloadError(f"{url}: HTTP {answer.status}")
        return answer

    @staticmethod
    def _read(answer: urllib3.BaseHTTPResponse, url: str, size: int) -> bytes:
        try:
            return answer.read(size)
        except HTTPError as error:
            raise DownloadError(f"{url}: cut short: {_reason(error)}") from error


def published_checksum(text: str, filename: str) -> str | None:
    """Find a file's SHA-256 in what upstream publishes.

    Args:
        text: the SHA-256 alone (dl.k8s.io), or lines of it and a file name (SHA256SUMS, sha256sum(1)).
        filename: of the file, without folders.

    Returns:
        64 hexadecimal digits in lower case, or None.
    """
    for line in text.splitlines():
        found = re.fullmatch(r"([0-9a-fA-F]{64})(?:[ \t]+\*?(?:\./)?(\S+))?\s*", line)
        if found and found[2] in (None, filename):
            return found[1].lower()
    return None


def _pool_manager(parts: SplitResult) -> urllib3.PoolManager:
    """Return connections for a host, by the proxy that the environment names."""
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
    """Call, but wait for a limited time: getaddrinfo(3) and a host of many addresses know no limit of their own.

    Raises:
        TimeoutError: no result in time; the call is left to itself.
        BaseException: what the call raises.
    """
    results: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - handed on to the caller
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
    """Return urllib3's reason without the object that it begins with."""
    return re.sub(r"^<?\w+\([^)]*\)>?: ", "", str(error))


def _unpack(archive: Path, member: str, target: Path, url: str) -> None:
    """Take one file out of a .zip or .tar.gz whose checksum is right."""
    take = _take_from_zip if url.endswith(".zip") else _take_from_tar
    try:
        take(archive, member, target)
    except (KeyError, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DownloadError(f"{url}: {member} cannot be taken out of it: {error}") from error


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
