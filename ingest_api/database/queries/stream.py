"""Chunks on their way into the stream in Redis."""

from datetime import datetime, timedelta
from uuid import UUID

from ingest_api.database.pool import Connection
from ingest_api.database.statements import rows, run
from ingest_api.models.chunks import Chunk
from ingest_api.models.queue import UploadedCount


def mark_queued(connection: Connection, chunk_ids: list[UUID]) -> int:
    """Return how many were marked; the others were no longer UPLOADED, or locked."""
    return run(connection, "stream/mark_queued", chunk_ids=chunk_ids)


def list_uploaded(
    connection: Connection, *, age: timedelta, after: tuple[datetime, UUID], page: int
) -> list[Chunk]:
    """Return up to `page` chunks that come after `after`, a start_ts and an id."""
    values = {"age": age, "after_time": after[0], "after_id": after[1], "page": page}
    return rows(connection, Chunk, "stream/list_uploaded", **values)


def list_unfinished(
    connection: Connection, *, after: tuple[datetime, UUID], page: int
) -> list[Chunk]:
    """Return up to `page` chunks that come after `after`, a start_ts and an id."""
    values = {"after_time": after[0], "after_id": after[1], "page": page}
    return rows(connection, Chunk, "stream/list_unfinished", **values)


def count_uploaded(connection: Connection) -> UploadedCount:
    return rows(connection, UploadedCount, "stream/count_uploaded")[0]
