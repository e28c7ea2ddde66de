"""Chunks on their way into the stream in Redis."""

from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import class_row

from ingest_api.database.pool import Connection, statement
from ingest_api.models.chunks import Chunk
from ingest_api.models.queue import UploadedCount


def mark_queued(connection: Connection, chunk_ids: list[UUID]) -> int:
    """How many it became; the others were not UPLOADED any more, or in somebody's hands."""
    return connection.execute(statement("mark_queued"), {"chunk_ids": chunk_ids}).rowcount


def list_uploaded(
    connection: Connection, *, age: timedelta, after: tuple[datetime, UUID], page: int
) -> list[Chunk]:
    """Up to `page` chunks that come behind `after`, a start_ts and an id."""
    values = {"age": age, "after_time": after[0], "after_id": after[1], "page": page}
    with connection.cursor(row_factory=class_row(Chunk)) as cursor:
        return cursor.execute(statement("list_uploaded"), values).fetchall()


def list_unfinished(
    connection: Connection, *, after: tuple[datetime, UUID], page: int
) -> list[Chunk]:
    """Up to `page` chunks that come behind `after`, a start_ts and an id."""
    values = {"after_time": after[0], "after_id": after[1], "page": page}
    with connection.cursor(row_factory=class_row(Chunk)) as cursor:
        return cursor.execute(statement("list_unfinished"), values).fetchall()


def count_uploaded(connection: Connection) -> UploadedCount:
    with connection.cursor(row_factory=class_row(UploadedCount)) as cursor:
        return cursor.execute(statement("count_uploaded")).fetchall()[0]
