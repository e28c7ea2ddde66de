"""One function a file of `sql/queries`, under the same name: parameters in, rows out.

No decisions here. Errors are psycopg's.
"""

from uuid import UUID

from psycopg.rows import class_row, scalar_row

from ingest_api.database import Connection, statement
from ingest_api.models import AppliedMigration, Chunk, Device, NewChunk


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


def ping(connection: Connection) -> None:
    connection.execute(statement("ping"))


def create_schema_migrations(connection: Connection) -> None:
    connection.execute(statement("create_schema_migrations"))


def has_schema_migrations(connection: Connection) -> bool:
    with connection.cursor(row_factory=scalar_row) as cursor:
        return bool(cursor.execute(statement("has_schema_migrations")).fetchone())


def lock_migrations(connection: Connection) -> None:
    connection.execute(statement("lock_migrations"))


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
