"""Chunks, one at a time."""

from datetime import datetime, timedelta
from uuid import UUID

from ingest_api.database.pool import Connection
from ingest_api.database.statements import row, rows, run, scalar, scalars
from ingest_api.models.chunks import (
    Chunk,
    ChunkFile,
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


def confirm_chunk(
    connection: Connection, chunk_id: UUID, *, clock_offset: timedelta | None
) -> Chunk | None:
    values = {"chunk_id": chunk_id, "clock_offset": clock_offset}
    return row(connection, Chunk, "chunks/confirm_chunk", **values)


def confirm_chunks(connection: Connection, chunk_ids: list[UUID]) -> list[ChunkFile]:
    return rows(connection, ChunkFile, "chunks/confirm_chunks", chunk_ids=chunk_ids)


def get_chunk(connection: Connection, chunk_id: UUID) -> Chunk | None:
    return row(connection, Chunk, "chunks/get_chunk", chunk_id=chunk_id)


def get_chunk_progress(connection: Connection, chunk_id: UUID) -> ChunkProgress | None:
    return row(connection, ChunkProgress, "chunks/get_chunk_progress", chunk_id=chunk_id)


def is_pruned(connection: Connection, chunk_id: UUID) -> bool:
    values = {"chunk_id": chunk_id, "remembered": PRUNED_REMEMBERED}
    return scalars(connection, bool, "chunks/is_pruned", **values)[0]


def probe(connection: Connection) -> None:
    run(connection, "chunks/probe")
