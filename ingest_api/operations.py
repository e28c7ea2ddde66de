"""What operators ask of the queue, and what it tells them, as frozen dataclasses. No behaviour.

The nouns of the whole service are in models.py.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from ingest_api.models import Scope


@dataclass(frozen=True)
class QueueState:
    """How many chunks have one status; the times are of the oldest of them, each for itself, and
    None of what is finished, as it is not looked at one by one."""

    status: str
    chunks: int
    estimated: bool  # they are too many to count
    received: int  # in the last hour
    oldest_recording: datetime | None
    oldest_received: datetime | None
    oldest_taken: datetime | None
    expired_leases: int


@dataclass(frozen=True)
class QueueWorker:
    """What a worker has in work, and what it finished in the last hour."""

    worker: str | None  # None: all that use plain SQL
    in_work: int
    oldest_taken: datetime | None
    done: int
    error: int


@dataclass(frozen=True)
class RequeueSelection(Scope):
    """Which chunks are to go into the queue again."""

    chunk_ids: tuple[UUID, ...] | None = None
    error_text: str | None = None  # is part of the error message, in any case
    in_work_for: timedelta | None = None  # at least


@dataclass(frozen=True)
class RequeueCount:
    """How many chunks of one status are selected, with a file or without."""

    status: str
    file_missing: bool
    chunks: int
