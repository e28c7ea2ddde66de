"""What fsck and retention ask and change."""

from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from ingest_api.database.pool import Connection, statement
from ingest_api.models.chunks import ChunkFile
from ingest_api.models.retention import (
    PRUNED_REMEMBERED,
    PrunedChunk,
    Reference,
    Selection,
    StatusCount,
)


def estimate_chunks(connection: Connection) -> int:
    with connection.cursor(row_factory=scalar_row) as cursor:
        chunks: int = cursor.execute(statement("estimate_chunks")).fetchall()[0]
        return chunks


def list_chunk_files(connection: Connection, *, after: UUID, page: int) -> list[ChunkFile]:
    """Up to `page` rows whose ids come behind `after`."""
    with connection.cursor(row_factory=class_row(ChunkFile)) as cursor:
        cursor.execute(statement("list_chunk_files"), {"after": after, "page": page})
        return cursor.fetchall()


def get_chunk_files(connection: Connection, chunk_ids: list[UUID]) -> list[ChunkFile]:
    with connection.cursor(row_factory=class_row(ChunkFile)) as cursor:
        cursor.execute(statement("get_chunk_files"), {"chunk_ids": chunk_ids})
        return cursor.fetchall()


def filter_known_paths(connection: Connection, file_paths: list[str]) -> list[str]:
    with connection.cursor(row_factory=scalar_row) as cursor:
        cursor.execute(statement("filter_known_paths"), {"file_paths": file_paths})
        return cursor.fetchall()


def filter_promised_paths(connection: Connection, file_paths: list[str]) -> list[str]:
    with connection.cursor(row_factory=scalar_row) as cursor:
        cursor.execute(statement("filter_promised_paths"), {"file_paths": file_paths})
        return cursor.fetchall()


def mark_file_missing(connection: Connection, chunk_id: UUID) -> bool:
    """Whether it was marked."""
    return connection.execute(statement("mark_file_missing"), {"chunk_id": chunk_id}).rowcount > 0


def restore_chunk(connection: Connection, chunk_id: UUID, *, waiting_status: str) -> str | None:
    """Its status from now on, `waiting_status` if it was not finished; None when it was not given
    up."""
    values = {"chunk_id": chunk_id, "waiting_status": waiting_status}
    with connection.cursor(row_factory=scalar_row) as cursor:
        status: str | None = cursor.execute(statement("restore_chunk"), values).fetchone()
        return status


def list_newest_files(connection: Connection) -> list[ChunkFile]:
    with connection.cursor(row_factory=class_row(ChunkFile)) as cursor:
        return cursor.execute(statement("list_newest_files")).fetchall()


def list_references(connection: Connection) -> list[Reference]:
    with connection.cursor(row_factory=class_row(Reference)) as cursor:
        return cursor.execute(statement("list_references")).fetchall()


def count_prunable(connection: Connection, selection: Selection) -> list[StatusCount]:
    """Of every status, whatever the selection's."""
    with connection.cursor(row_factory=class_row(StatusCount)) as cursor:
        return cursor.execute(statement("count_prunable"), vars(selection)).fetchall()


def mark_pruned(
    connection: Connection,
    selection: Selection,
    *,
    status: str,
    received_from: datetime | None,
    batch: int,
) -> list[PrunedChunk]:
    """Up to `batch` chunks of one status, received not before `received_from`."""
    values = vars(selection) | {"status": status, "received_from": received_from, "batch": batch}
    with connection.cursor(row_factory=class_row(PrunedChunk)) as cursor:
        # Planned for these very values: only so can the partial indexes be used.
        return cursor.execute(statement("mark_pruned"), values, prepare=False).fetchall()


def list_pruned(connection: Connection, *, after: UUID, batch: int) -> list[PrunedChunk]:
    with connection.cursor(row_factory=class_row(PrunedChunk)) as cursor:
        cursor.execute(statement("list_pruned"), {"after": after, "batch": batch})
        return cursor.fetchall()


def delete_pruned(connection: Connection, chunk_ids: list[UUID]) -> None:
    connection.execute(statement("delete_pruned"), {"chunk_ids": chunk_ids})


def forget_pruned(connection: Connection, *, batch: int) -> int:
    """How many it were."""
    values = {"remembered": PRUNED_REMEMBERED, "batch": batch}
    return connection.execute(statement("forget_pruned"), values).rowcount
