"""Chunks: what agents upload, and what the database knows of it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

INTEGER_MAX = 2**31 - 1
"""The largest number in a column of type `integer`."""

FIRST_ID = UUID(int=0)
"""Sorts before every id that is in use."""


FENCE_STEP = 1000
"""How far attempts go on after a loss: more than any chunk is given out between a backup and a
loss. So no worker's attempt of before matches."""


class ChunkStatus(StrEnum):
    """How far a chunk has come; see sql/README.md for who may move it. A row of an adopted database
    may have another status, so what rows say is `str`; members compare equal to it."""

    UPLOADED = "UPLOADED"  # waits to be announced in Redis
    QUEUED = "QUEUED"  # waits for a worker
    PROCESSING = "PROCESSING"
    DONE = "DONE"
    ERROR = "ERROR"
    PRUNED = "PRUNED"  # retention is removing it


@dataclass(frozen=True)
class Recording:
    """What an agent says of a chunk, validated. Instants are in UTC."""

    device_id: UUID
    point_id: UUID
    register_id: UUID
    start_ts: datetime
    end_ts: datetime
    codec: str
    sample_rate: int  # Hz
    channels: int


@dataclass(frozen=True)
class UploadForm:
    """The fields of an upload, validated: the recording, and what the agent says of the upload."""

    recording: Recording
    sent_at: datetime | None = None  # by the device's clock; None: not said
    sha256: bytes | None = None  # which the recording must have; None: not said

    def clock_offset(self, now: datetime) -> timedelta | None:
        """Return how far the device's clock is ahead of `now`, which is when the upload began, or
        None if nothing proves it: a recording that ends in the future does."""
        if self.sent_at is not None:
            return self.sent_at - now
        ahead = self.recording.end_ts - now
        return ahead if ahead > timedelta(0) else None


@dataclass(frozen=True)
class KeptRecording:
    """A recording that a device has kept, and asks about."""

    starts: tuple[datetime, ...]  # in UTC; two when clocks went back
    sha256: bytes


@dataclass(frozen=True)
class NewChunk(Recording):
    """A recording whose file is durable and whose row is to be written."""

    chunk_id: UUID
    duration_sec: int
    file_path: str  # relative to AUDIO_STORAGE_DIR
    file_size_bytes: int
    sha256: bytes


@dataclass(frozen=True)
class Chunk(Recording):
    """A row of `audio_chunks`."""

    chunk_id: UUID
    duration_sec: int
    file_path: str
    file_size_bytes: int
    sha256: bytes | None  # None: stored by the earlier service
    status: str  # a ChunkStatus, or what the earlier service left
    created_at: datetime


@dataclass(frozen=True)
class ChunkProgress(Chunk):
    """A row of `audio_chunks`, with how its processing stands."""

    attempts: int  # how often it was given to a worker; the fence of a lease
    worker: str | None  # who has it, or had it last; None: plain SQL
    processing_started_at: datetime | None
    lease_expires_at: datetime | None  # None: no lease
    error_message: str | None
    finished_at: datetime | None

    @property
    def position(self) -> "ChunkPosition":
        return ChunkPosition(self.start_ts, self.chunk_id)


@dataclass(frozen=True)
class Receipt:
    """The outcome of an upload: the stored chunk, and whether it was known before."""

    chunk: Chunk
    duplicate: bool
    moments: tuple[float, ...] = ()  # monotonic: begun, received, durable, committed


@dataclass(frozen=True)
class ChunkFile:
    """What a row says of its file. Only storage/layout.py makes a path of it."""

    chunk_id: UUID
    point_id: UUID
    register_id: UUID
    start_ts: datetime
    file_path: str
    file_size_bytes: int
    sha256: bytes | None
    status: str
    file_missing_since: datetime | None  # fsck has given it up; None: it has not


@dataclass(frozen=True)
class ChunkSelection:
    """Which chunks are listed, and in which order: those to which every given field applies."""

    point_id: UUID | None = None
    register_id: UUID | None = None
    device_id: UUID | None = None
    status: ChunkStatus | None = None
    recorded_from: datetime | None = None  # chunks that overlap the time from here
    recorded_until: datetime | None = None  # to here
    newest_first: bool = False


@dataclass(frozen=True)
class ChunkPosition:
    """The last chunk of a page, in the order of recording."""

    start_ts: datetime
    chunk_id: UUID


@dataclass(frozen=True)
class Scope:
    """Which chunks a command selects: those to which every given field applies."""

    statuses: tuple[str, ...]
    point_id: UUID | None = None
    device_id: UUID | None = None
    recorded_from: datetime | None = None  # chunks that overlap the time from here
    recorded_until: datetime | None = None  # to here
