"""Exceptions of providing the lab's programs."""

from __future__ import annotations


class LabError(Exception):
    """Base of this package's exceptions; the text says what to do."""


class DownloadError(LabError):
    """A release could not be downloaded: no connection, no file, or an incomplete body. A build may still succeed."""


class ChecksumError(DownloadError):
    """The checksum of a download is not the published one; nothing was installed from it."""


class BuildError(LabError):
    """A build failed, or Go is missing or too old."""
