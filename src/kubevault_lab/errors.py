"""What can go wrong while the lab's programs are provided."""

from __future__ import annotations


class LabError(Exception):
    """Base of this package's errors; its text is for a person and says what to do."""


class DownloadError(LabError):
    """A release could not be fetched: no connection, no such file, a body cut short. A build may still do."""


class ChecksumError(DownloadError):
    """What came is not what upstream published; nothing was installed from it."""


class BuildError(LabError):
    """A build failed, or Go is missing or too old."""
