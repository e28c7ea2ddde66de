"""Names inside a store, the same in every store, and the one way from a row to its file."""

import posixpath
import re
from datetime import UTC, datetime
from typing import NewType, Protocol
from uuid import UUID

RECORDINGS = "audio"
INCOMING = ".incoming"
LOST_AND_FOUND = ".lost+found"
LOCK = ".lock"

StoredPath = NewType("StoredPath", str)
"""A canonical path below a store's root, at which the file of one certain chunk is. Made from rows
by `path_of` alone, and from what a store lists."""

ID_IN_NAME = re.compile(r"_([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.ogg$")


class Facts(Protocol):
    """What a path of this service says of its chunk."""

    @property
    def point_id(self) -> UUID: ...
    @property
    def register_id(self) -> UUID: ...
    @property
    def start_ts(self) -> datetime: ...


class FileRow(Facts, Protocol):
    """What a row says of its file."""

    @property
    def chunk_id(self) -> UUID: ...
    @property
    def file_path(self) -> str: ...
    @property
    def sha256(self) -> bytes | None: ...


def file_path_for(recording: Facts, chunk_id: UUID) -> StoredPath:
    """Return the path at which this service stores a chunk's file."""
    start = recording.start_ts.astimezone(UTC).replace(microsecond=0, tzinfo=None)
    day, time = start.isoformat().split("T")
    hour = time[:2]
    stamp = f"{day}_{time}".replace("-", "").replace(":", "")
    folder = f"{RECORDINGS}/{recording.point_id}/{recording.register_id}/{day}/{hour}"
    return StoredPath(f"{folder}/chunk_{stamp}_{chunk_id}.ogg")


def path_of(row: FileRow, root: str) -> StoredPath:
    """Return where a row's file is: where the row says, if no other chunk's file can be there; else
    where this service stores it.

    A row may say anything, because workers may write to it. Rows of the earlier service (no
    `sha256`) may name files in other ways, and spell paths with the store's `root`.
    """
    return _own_path(row, root) or file_path_for(row, row.chunk_id)


def is_foreign(row: FileRow, root: str) -> bool:
    """Return whether a row's path leads elsewhere than to its own file."""
    return _own_path(row, root) is None


def _own_path(row: FileRow, root: str) -> StoredPath | None:
    path = posixpath.normpath(row.file_path.removeprefix(f"{root}/"))
    if path[0] in "./":  # above the root, elsewhere, or among what is no recording
        return None
    named = ID_IN_NAME.search(path)
    its_own = named[1] == str(row.chunk_id) if named else row.sha256 is None
    return StoredPath(path) if its_own else None
