"""The nouns of the service as frozen dataclasses. No behaviour."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

FILE_MISSING = "file missing (was "
"""How the `error_message` begins of a chunk that was given up because its file is gone; see
mark_file_missing.sql and restore_chunk.sql."""

FIRST_ID = UUID(int=0)
"""Before all that are given."""

INTEGER_MAX = 2**31 - 1
"""The largest number in a column of type `integer`."""


@dataclass(frozen=True)
class Device:
    """A recorder as registered. Its token, even hashed, stays in the database."""

    device_id: UUID
    point_id: UUID
    register_id: UUID
    is_enabled: bool
    created_at: datetime
    last_seen_at: datetime | None


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
    status: str  # UPLOADED, QUEUED, PROCESSING, DONE, ERROR or PRUNED
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


@dataclass(frozen=True)
class Claim:
    """What a worker asks for."""

    worker: str
    limit: int
    lease: timedelta
    point_id: UUID | None  # only of this shop


@dataclass(frozen=True)
class Failure:
    """Why a worker could not process a chunk, and whether it may be tried again."""

    message: str
    retry: bool


Turn: TypeAlias = tuple[UUID, UUID]
"""A device's place in the order in which claims go to the devices in turn: its shop and its id."""


@dataclass(frozen=True)
class ClaimedChunk(ChunkProgress):
    """A chunk that was just given to a worker, and how far the claim went through the devices in
    turn. None: few chunks wait, and nobody has a turn."""

    turn_point_id: UUID | None
    turn_device_id: UUID | None


@dataclass(frozen=True)
class ExpiredLease:
    """A chunk that was taken back from a worker that fell silent, and what became of it."""

    chunk_id: UUID
    status: str
    attempts: int
    error_message: str


@dataclass(frozen=True)
class Receipt:
    """The outcome of an upload: the stored chunk, and whether it was known before."""

    chunk: Chunk
    duplicate: bool


@dataclass(frozen=True)
class UploadedCount:
    """How many chunks are to be announced in Redis, and for how long the oldest has waited."""

    chunks: int
    oldest_seconds: float


@dataclass(frozen=True)
class ChunkFile:
    """What a row says of its file."""

    chunk_id: UUID
    file_path: str
    file_size_bytes: int
    sha256: bytes | None
    status: str
    error_message: str | None


@dataclass(frozen=True)
class Scope:
    """Which chunks a command is to take: those to which all of it applies."""

    statuses: tuple[str, ...]
    point_id: UUID | None = None
    device_id: UUID | None = None
    recorded_from: datetime | None = None  # what overlaps the time from here
    recorded_until: datetime | None = None  # to here


@dataclass(frozen=True)
class Selection(Scope):
    """Which chunks retention is to remove."""

    received_before: datetime | None = None


@dataclass(frozen=True)
class StatusCount:
    """How many chunks of one status, and how large."""

    status: str
    chunks: int
    bytes: int


@dataclass(frozen=True)
class PrunedChunk:
    """A chunk that retention has marked and is about to remove."""

    chunk_id: UUID
    file_path: str
    file_size_bytes: int
    start_ts: datetime
    created_at: datetime


@dataclass(frozen=True)
class Reference:
    """A foreign key to `audio_chunks`; `on_delete` as in pg_constraint.confdeltype."""

    table_name: str
    on_delete: str


@dataclass(frozen=True)
class AppliedMigration:
    """A row of `schema_migrations`."""

    version: int
    name: str
    sha256: str
    applied_at: datetime


@dataclass(frozen=True)
class ServerSetting:
    """A setting of PostgreSQL, and where its value comes from: a row of `pg_settings`."""

    name: str
    value: str
    source: str


@dataclass(frozen=True)
class Session:
    """Whom PostgreSQL takes us for, and which limits we meet there. -1: no limit."""

    role: str
    database: str
    is_superuser: bool
    role_connection_limit: int
    database_connection_limit: int
    in_recovery: bool  # a standby, which cannot be written
