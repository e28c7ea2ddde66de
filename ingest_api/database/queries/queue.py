"""What operators ask of the queue, and do to it."""

from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from ingest_api.database.pool import Connection, statement
from ingest_api.models.queue import QueueState, QueueWorker, RequeueCount, RequeueSelection


def list_queue_states(connection: Connection, *, countable: int) -> list[QueueState]:
    """What is finished is counted up to `countable` of each status."""
    with connection.cursor(row_factory=class_row(QueueState)) as cursor:
        return cursor.execute(statement("list_queue_states"), {"countable": countable}).fetchall()


def list_queue_workers(connection: Connection) -> list[QueueWorker]:
    with connection.cursor(row_factory=class_row(QueueWorker)) as cursor:
        return cursor.execute(statement("list_queue_workers"), {}).fetchall()


def count_requeueable(connection: Connection, selection: RequeueSelection) -> list[RequeueCount]:
    with connection.cursor(row_factory=class_row(RequeueCount)) as cursor:
        # Planned for these very values, here and below: only so can the partial indexes be used.
        return cursor.execute(
            statement("count_requeueable"), _values(selection), prepare=False
        ).fetchall()


def requeue_chunks(
    connection: Connection,
    selection: RequeueSelection,
    *,
    waiting_status: str,
    after: UUID,
    batch: int,
) -> list[tuple[UUID, bool]]:
    """The next ids of the selection behind `after`, up to `batch`, and whether each is requeued:
    not what another session has locked, or has just changed."""
    values = _values(selection) | {"waiting_status": waiting_status, "after": after, "batch": batch}
    with connection.cursor() as cursor:
        return cursor.execute(statement("requeue_chunks"), values, prepare=False).fetchall()


def _values(selection: RequeueSelection) -> dict[str, Any]:
    """Lists are what psycopg takes for arrays."""
    ids = None if selection.chunk_ids is None else list(selection.chunk_ids)
    return vars(selection) | {"statuses": list(selection.statuses), "chunk_ids": ids}
