"""What operators ask of the queue, and do to it."""

from typing import Any
from uuid import UUID

from ingest_api.database.pool import Connection
from ingest_api.database.statements import rows, rows_unprepared
from ingest_api.models.chunks import ChunkStatus
from ingest_api.models.queue import (
    QueueState,
    QueueWorker,
    RequeueCount,
    RequeuedChunk,
    RequeueSelection,
)


def list_queue_states(connection: Connection, *, countable: int) -> list[QueueState]:
    """Return a state for each status; finished chunks are counted up to `countable`."""
    return rows(connection, QueueState, "queue/list_queue_states", countable=countable)


def list_queue_workers(connection: Connection) -> list[QueueWorker]:
    return rows(connection, QueueWorker, "queue/list_queue_workers")


def count_requeueable(connection: Connection, selection: RequeueSelection) -> list[RequeueCount]:
    values = _values(selection)
    return rows_unprepared(connection, RequeueCount, "queue/count_requeueable", **values)


def requeue_chunks(
    connection: Connection,
    selection: RequeueSelection,
    *,
    waiting_status: ChunkStatus,
    after: UUID,
    batch: int,
) -> list[RequeuedChunk]:
    """Requeue and return up to `batch` chunks of the selection whose ids come after `after`; those
    that another session has locked, or has just changed, are returned and not requeued."""
    values = _values(selection) | {"waiting_status": waiting_status, "after": after, "batch": batch}
    return rows_unprepared(connection, RequeuedChunk, "queue/requeue_chunks", **values)


def _values(selection: RequeueSelection) -> dict[str, Any]:
    """Return the selection with lists, which psycopg sends as arrays."""
    ids = None if selection.chunk_ids is None else list(selection.chunk_ids)
    return vars(selection) | {"statuses": list(selection.statuses), "chunk_ids": ids}
