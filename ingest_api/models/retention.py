"""Retention: which chunks it removes, and what it keeps of them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from ingest_api.models.chunks import Scope

PRUNED_REMEMBERED = timedelta(days=7)
"""How long the ids of removed chunks are kept, so that a worker learns what became of its chunk."""


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
class Share:
    """How many chunks were received before a time, and since; of these no more are counted than of
    the others."""

    before: int
    since: int


@dataclass(frozen=True)
class PrunedChunk:
    """A chunk that retention has marked and is about to remove."""

    chunk_id: UUID
    point_id: UUID
    register_id: UUID
    start_ts: datetime
    file_path: str
    file_size_bytes: int
    sha256: bytes | None
    created_at: datetime


@dataclass(frozen=True)
class Reference:
    """A foreign key to `audio_chunks`; `on_delete` as in pg_constraint.confdeltype."""

    table_name: str
    on_delete: str
