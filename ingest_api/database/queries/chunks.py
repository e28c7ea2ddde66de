"""Chunks, one at a time."""

from datetime import datetime, timedelta
from uuid import UUID

from ingest_api.database.pool import Connection
from ingest_api.database.statements import row, run, scalar, scalars
from ingest_api.models.chunks import (
    Chunk,
    ChunkProgress,
    ChunkStatus,
    NewChunk,
)
from ingest_api.models.retention import PRUNED_REMEMBERED


def insert_chunk(
    connection: Connection,
    chunk: NewChunk,
    *,
    status: ChunkStatus,
    clock_offset: timedelta | None = None,
) -> Chunk | None:
    """Return the new row, or None when a row with this id was there already."""
    values = vars(chunk) | {"status": status}
    created_at = scalar(
        connection, datetime, "chunks/insert_chunk", clock_offset=clock_offset, **values
    )
    return Chunk(**values, created_at=created_at) if created_at else None


def get_chunk(connection: Connection, chunk_id: UUID) -> Chunk | None:
    return row(connection, Chunk, "chunks/get_chunk", chunk_id=chunk_id)


def get_chunk_progress(connection: Connection, chunk_id: UUID) -> ChunkProgress | None:
    return row(connection, ChunkProgress, "chunks/get_chunk_progress", chunk_id=chunk_id)


def is_pruned(connection: Connection, chunk_id: UUID) -> bool:
    values = {"chunk_id": chunk_id, "remembered": PRUNED_REMEMBERED}
    return scalars(connection, bool, "chunks/is_pruned", **values)[0]


def probe(connection: Connection) -> None:
    run(connection, "chunks/probe")
