"""Chunks as they come in."""

from uuid import UUID

from psycopg.rows import class_row

from ingest_api.database import Connection, statement
from ingest_api.models import Chunk, NewChunk


def insert_chunk(connection: Connection, chunk: NewChunk, *, status: str) -> Chunk | None:
    """The new row, or None when a row with this id was there already."""
    with connection.cursor(row_factory=class_row(Chunk)) as cursor:
        cursor.execute(statement("insert_chunk"), vars(chunk) | {"status": status})
        return cursor.fetchone()


def get_chunk(connection: Connection, chunk_id: UUID) -> Chunk | None:
    with connection.cursor(row_factory=class_row(Chunk)) as cursor:
        cursor.execute(statement("get_chunk"), {"chunk_id": chunk_id})
        return cursor.fetchone()


def probe(connection: Connection) -> None:
    connection.execute(statement("probe"))
