"""Chunks as they come in."""

from uuid import UUID

from psycopg.rows import class_row, scalar_row

from ingest_api.database.pool import Connection, statement
from ingest_api.models.chunks import Chunk, NewChunk


def insert_chunk(connection: Connection, chunk: NewChunk, *, status: str) -> Chunk | None:
    """The new row, or None when a row with this id was there already."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        cursor.execute(statement("insert_chunk"), vars(chunk) | {"status": status})
        created_at = cursor.fetchone()
    return Chunk(**vars(chunk), status=status, created_at=created_at) if created_at else None


def get_chunk(connection: Connection, chunk_id: UUID) -> Chunk | None:
    with connection.cursor(row_factory=class_row(Chunk)) as cursor:
        cursor.execute(statement("get_chunk"), {"chunk_id": chunk_id})
        return cursor.fetchone()


def probe(connection: Connection) -> None:
    connection.execute(statement("probe"))
