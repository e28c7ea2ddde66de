"""The schema, and the server that it is on."""

from datetime import datetime

from psycopg.rows import class_row, scalar_row

from ingest_api.database.pool import Connection, statement
from ingest_api.models.server import AppliedMigration, ServerSetting, Session


def create_schema_migrations(connection: Connection) -> None:
    connection.execute(statement("create_schema_migrations"))


def has_schema_migrations(connection: Connection) -> bool:
    with connection.cursor(row_factory=scalar_row) as cursor:
        return bool(cursor.execute(statement("has_schema_migrations")).fetchone())


def try_lock_migrations(connection: Connection) -> bool:
    with connection.cursor(row_factory=scalar_row) as cursor:
        return bool(cursor.execute(statement("try_lock_migrations")).fetchone())


def set_lock_timeout(connection: Connection, milliseconds: int) -> None:
    connection.execute(statement("set_lock_timeout"), {"milliseconds": milliseconds})


def list_lock_holders(connection: Connection) -> list[str]:
    with connection.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(statement("list_lock_holders"), {}).fetchall()


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


def list_invalid_indexes(connection: Connection) -> list[str]:
    """Their names, as SQL takes them."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(statement("list_invalid_indexes")).fetchall()


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
