"""The queue: what workers ask for and hold, and what operators see of it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, TypeAlias
from uuid import UUID

from ingest_api.models.chunks import ChunkProgress, Scope


@dataclass(frozen=True)
class Claim:
    """What a worker asks for."""

    worker: str
    limit: int
    lease: timedelta
    point_id: UUID | None  # only chunks of this point


@dataclass(frozen=True)
class Failure:
    """Why a worker could not process a chunk, and whether it may be tried again."""

    message: str
    retry: bool


Turn: TypeAlias = tuple[UUID, UUID]
"""A device's place in the order in which claims go to the devices in turn: its point and its id."""


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
class UploadedCount:
    """How many chunks are to be announced in Redis, and for how long the oldest has waited."""

    chunks: int
    oldest_seconds: float


@dataclass(frozen=True)
class QueueState:
    """How many chunks have one status. Each of the times is that of the chunk which is oldest by
    that measure; None for finished chunks, which are not looked at one by one."""

    status: str
    chunks: int
    estimated: bool  # too many to count
    received: int  # in the last hour
    oldest_recording: datetime | None
    oldest_received: datetime | None
    oldest_taken: datetime | None
    expired_leases: int


@dataclass(frozen=True)
class QueueWorker:
    """How many chunks a worker has in progress, and how many it finished in the last hour."""

    worker: str | None  # None: all that use plain SQL
    in_work: int
    oldest_taken: datetime | None
    done: int
    error: int


@dataclass(frozen=True)
class RequeueSelection(Scope):
    """Which chunks are to go into the queue again."""

    chunk_ids: tuple[UUID, ...] | None = None
    error_text: str | None = None  # part of the error message, ignoring case
    in_work_for: timedelta | None = None  # at least


@dataclass(frozen=True)
class RequeueCount:
    """How many chunks of one status are selected, with a file or without."""

    status: str
    file_missing: bool
    chunks: int


class RequeuedChunk(NamedTuple):
    """A selected chunk, and whether it was put into the queue again."""

    chunk_id: UUID
    is_requeued: bool
