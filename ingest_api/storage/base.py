"""The interface of every store of recordings, be it a disk or a bucket.

A path is relative to the store, with the same spelling in every store; `path_of` makes it of a row.
Folders, free space, temporary files and .lost+found/ exist only on a disk, in `disk/`.
tests/storage/contract.py is the suite that every implementation passes.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol, TypeVar

from ingest_api.storage.layout import FileRow, StoredPath


@dataclass(frozen=True)
class FileStatus:
    """What a store knows of a file without reading it."""

    size: int  # bytes
    written_at: float  # Unix time
    version: str  # differs whenever the file was stored anew


@dataclass(frozen=True)
class Content:
    """A stored file, open at its beginning. The caller closes `file`."""

    path: StoredPath
    file: BinaryIO
    status: FileStatus


@dataclass(frozen=True)
class StoredFile:
    """A file as a listing shows it."""

    path: StoredPath
    size: int  # bytes
    written_at: float  # Unix time


class Spool(Protocol):
    """Holds the bytes of one recording until they are stored."""

    def write(self, data: bytes) -> object:
        """Append all of `data`. StorageFull, StorageUnavailable."""


SpoolT = TypeVar("SpoolT", bound=Spool)


class Store(Protocol[SpoolT]):
    """Keeps recordings under their paths.

    StorageUnavailable when the store fails.
    """

    def path_of(self, row: FileRow) -> StoredPath:
        """Return where a row's file is, or belongs: never where that of another chunk is."""

    def spool(self) -> AbstractContextManager[SpoolT]:
        """Lend an empty spool, removed at the end whatever happens. StorageFull."""

    def store(self, spool: SpoolT, path: StoredPath, recorded_at: datetime) -> str:
        """Keep the bytes of `spool` under `path`, durably, and return their version.

        Whole or not at all, replacing an earlier file. May be called again, also with another path.
        StorageFull.
        """

    def open(self, path: StoredPath) -> Content:
        """Open a file. FileNotFoundError when the store works and has no such file."""

    def url(self, path: StoredPath, seconds: int) -> str | None:
        """Return a URL that serves the file to anybody for `seconds`; None if there is none."""

    def status(self, path: StoredPath) -> FileStatus | None:
        """Return the status of a file, or None when there is no such file."""

    def sync(self, recordings: Mapping[StoredPath, datetime]) -> None:
        """Make stored files durable, given by path and time of recording: another process may have
        stored one a moment ago. A missing file is no failure."""

    def list(self, prefix: str, after: str = "") -> Iterator[StoredFile]:
        """Yield the files below the folder `prefix` whose paths sort after `after`, in order."""

    def remove(self, recordings: Mapping[StoredPath, datetime]) -> dict[StoredPath, str]:
        """Remove files, given by path and time of recording; return the paths that failed, and why.

        A missing file is no failure.
        """

    def probe(self) -> None:
        """Store and remove something small. StorageFull, StorageUnavailable."""
