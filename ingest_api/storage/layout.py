"""Names inside a store, the same in every store, and the one way from a row to its file."""

import posixpath
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NewType, Protocol
from uuid import UUID

RECORDINGS = "audio"
INCOMING = ".incoming"
LOST_AND_FOUND = ".lost+found"
LOCK = ".lock"

StoredPath = NewType("StoredPath", str)
"""A canonical path below a store's root, at which the file of one certain chunk is. Made from rows
by `path_of` alone, and from what a store lists."""

_PARTS = 6  # audio/POINT/REGISTER/DAY/HOUR/NAME
_BITS_BELOW_TIME = 80  # of a chunk's id
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ID_IN_NAME = re.compile(r"_([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.ogg$")


class Facts(Protocol):
    """What a path of this service says of its chunk."""

    @property
    def point_id(self) -> UUID: ...
    @property
    def register_id(self) -> UUID: ...
    @property
    def start_ts(self) -> datetime: ...


@dataclass(frozen=True)
class NamedChunk:
    """What the path of a file that this service has stored says of its chunk."""

    point_id: UUID
    register_id: UUID
    start_ts: datetime  # to the millisecond
    chunk_id: UUID


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


def named_chunk(path: str) -> NamedChunk | None:
    """Return what a path says; None if this service would not have stored a chunk there."""
    parts = path.split("/")
    match = ID_IN_NAME.search(path)
    if len(parts) != _PARTS or not match:
        return None
    chunk_id = UUID(match[1])
    try:
        start = _EPOCH + timedelta(milliseconds=chunk_id.int >> _BITS_BELOW_TIME)
        named = NamedChunk(UUID(parts[1]), UUID(parts[2]), start, chunk_id)
    except (ValueError, OverflowError):
        return None
    return named if file_path_for(named, chunk_id) == path else None


def place_of_lost(path: str) -> StoredPath | None:
    """Return where a file in .lost+found was before; None if it was no recording."""
    place = path.split("/", 2)[-1]
    return StoredPath(place) if place.startswith(f"{RECORDINGS}/") else None


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
