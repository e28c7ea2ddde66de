"""What fsck, retention and migrations work with."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

FILE_MISSING = "file missing (was "
"""How the `error_message` begins of a chunk that was given up because its file is gone; see
mark_file_missing.sql and restore_chunk.sql."""

FIRST_ID = UUID(int=0)
"""Before all that are given."""

PRUNED_REMEMBERED = timedelta(days=7)
"""How long the ids of removed chunks are kept, so that a worker is told what became of its own."""


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
