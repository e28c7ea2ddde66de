"""One function a file of `sql/queries`, under the same name: parameters in, rows out.

No decisions here. Errors are psycopg's.
"""

from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from ingest_api.database import Connection, statement
from ingest_api.models import (
    AppliedMigration,
    Chunk,
    ChunkFile,
    Device,
    NewChunk,
    PrunedChunk,
    Reference,
    Selection,
    ServerSetting,
    Session,
    StatusCount,
)


def find_device_by_token(connection: Connection, token_hash: str) -> Device | None:
    with connection.cursor(row_factory=class_row(Device)) as cursor:
        cursor.execute(statement("find_device_by_token"), {"token_hash": token_hash})
        return cursor.fetchone()


def insert_device(
    connection: Connection,
    *,
    device_id: UUID,
    point_id: UUID,
    register_id: UUID,
    token_hash: str,
) -> Device:
    """The new device; psycopg.errors.UniqueViolation when its id or its token exists."""
    with connection.cursor(row_factory=class_row(Device)) as cursor:
        cursor.execute(
            statement("insert_device"),
            {
                "device_id": device_id,
                "point_id": point_id,
                "register_id": register_id,
                "token_hash": token_hash,
            },
        )
        return cursor.fetchall()[0]


def list_devices(connection: Connection) -> list[Device]:
    with connection.cursor(row_factory=class_row(Device)) as cursor:
        return cursor.execute(statement("list_devices")).fetchall()


def update_device(
    connection: Connection, device_id: UUID, *, is_enabled: bool | None, token_hash: str | None
) -> Device | None:
    with connection.cursor(row_factory=class_row(Device)) as cursor:
        cursor.execute(
            statement("update_device"),
            {"device_id": device_id, "is_enabled": is_enabled, "token_hash": token_hash},
        )
        return cursor.fetchone()


def insert_chunk(connection: Connection, chunk: NewChunk) -> Chunk | None:
    """The new row, or None when a row with this id was there already."""
    with connection.cursor(row_factory=class_row(Chunk)) as cursor:
        cursor.execute(statement("insert_chunk"), vars(chunk))
        return cursor.fetchone()


def get_chunk(connection: Connection, chunk_id: UUID) -> Chunk | None:
    with connection.cursor(row_factory=class_row(Chunk)) as cursor:
        cursor.execute(statement("get_chunk"), {"chunk_id": chunk_id})
        return cursor.fetchone()


def probe(connection: Connection) -> None:
    connection.execute(statement("probe"))


def create_schema_migrations(connection: Connection) -> None:
    connection.execute(statement("create_schema_migrations"))


def has_schema_migrations(connection: Connection) -> bool:
    with connection.cursor(row_factory=scalar_row) as cursor:
        return bool(cursor.execute(statement("has_schema_migrations")).fetchone())


def try_lock_migrations(connection: Connection) -> bool:
    with connection.cursor(row_factory=scalar_row) as cursor:
        return bool(cursor.execute(statement("try_lock_migrations")).fetchone())


def limit_lock_waits(connection: Connection) -> None:
    connection.execute(statement("limit_lock_waits"))


def list_applied_migrations(connection: Connection) -> list[AppliedMigration]:
    with connection.cursor(row_factory=class_row(AppliedMigration)) as cursor:
        return cursor.execute(statement("list_applied_migrations")).fetchall()


def insert_applied_migration(
    connection: Connection, *, version: int, name: str, sha256: str
) -> None:
    connection.execute(
        statement("insert_applied_migration"),
        {"version": version, "name": name, "sha256": sha256},
    )


def get_server_clock(connection: Connection) -> datetime:
    with connection.cursor(row_factory=scalar_row) as cursor:
        now: datetime = cursor.execute(statement("get_server_clock")).fetchall()[0]
        return now


def list_server_settings(connection: Connection) -> list[ServerSetting]:
    with connection.cursor(row_factory=class_row(ServerSetting)) as cursor:
        return cursor.execute(statement("list_server_settings")).fetchall()


def get_session(connection: Connection) -> Session:
    with connection.cursor(row_factory=class_row(Session)) as cursor:
        return cursor.execute(statement("get_session")).fetchall()[0]


def list_invalid_indexes(connection: Connection) -> list[str]:
    """Their names, as SQL takes them."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(statement("list_invalid_indexes")).fetchall()


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


def mark_file_missing(connection: Connection, chunk_id: UUID) -> bool:
    """Whether it was marked."""
    return connection.execute(statement("mark_file_missing"), {"chunk_id": chunk_id}).rowcount > 0


def restore_chunk(connection: Connection, chunk_id: UUID) -> str | None:
    """Its status from now on; None when it was not given up."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        status: str | None = cursor.execute(
            statement("restore_chunk"), {"chunk_id": chunk_id}
        ).fetchone()
        return status


def list_newest_files(connection: Connection) -> list[ChunkFile]:
    with connection.cursor(row_factory=class_row(ChunkFile)) as cursor:
        return cursor.execute(statement("list_newest_files")).fetchall()


def list_references(connection: Connection) -> list[Reference]:
    with connection.cursor(row_factory=class_row(Reference)) as cursor:
        return cursor.execute(statement("list_references")).fetchall()


def get_last_seen(connection: Connection) -> datetime | None:
    with connection.cursor(row_factory=scalar_row) as cursor:
        last: datetime | None = cursor.execute(statement("get_last_seen")).fetchone()
        return last


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


def filter_promised_paths(connection: Connection, file_paths: list[str]) -> list[str]:
    with connection.cursor(row_factory=scalar_row) as cursor:
        cursor.execute(statement("filter_promised_paths"), {"file_paths": file_paths})
        return cursor.fetchall()


def delete_pruned(connection: Connection, chunk_ids: list[UUID]) -> None:
    connection.execute(statement("delete_pruned"), {"chunk_ids": chunk_ids})
