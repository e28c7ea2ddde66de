"""What backups are made of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ListedFile:
    """A file that a backup has or is to have: what a row says of it."""

    path: str  # relative to AUDIO_STORAGE_DIR
    size: int  # bytes
    sha256: bytes | None  # None: a row of the earlier service


@dataclass(frozen=True)
class BackupSummary:
    """What a complete backup says of itself, in `backup.json`."""

    time: str  # of the snapshot, ISO 8601 in UTC
    version: str  # of this service
    migration: int  # the last that was applied; 0: none
    postgresql: int  # the server's version, such as 150018
    chunks: int  # rows that promise a file
    files: int
    bytes: int  # of all the files
    new_files: int  # that no backup had before
    new_bytes: int
    missing: int  # files that rows promise and that were not there, or not whole
    dump_bytes: int
    dump_sha256: str  # in hex
    list_sha256: str  # of `files`
    seconds: float
