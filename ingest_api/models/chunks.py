"""Recorders, and what they record."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

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
class Receipt:
    """The outcome of an upload: the stored chunk, and whether it was known before."""

    chunk: Chunk
    duplicate: bool
