"""The schema, and the server that it is on."""

from datetime import datetime, timedelta

from ingest_api.database.pool import Connection
from ingest_api.database.statements import rows, run, scalars
from ingest_api.models.server import AppliedMigration, Grant, ServerSetting, Session


def create_schema_migrations(connection: Connection) -> None:
    run(connection, "server/create_schema_migrations")


def has_schema_migrations(connection: Connection) -> bool:
    return scalars(connection, bool, "server/has_schema_migrations")[0]


def try_lock_migrations(connection: Connection) -> bool:
    return scalars(connection, bool, "server/try_lock_migrations")[0]


def set_lock_timeout(connection: Connection, milliseconds: int) -> None:
    run(connection, "server/set_lock_timeout", milliseconds=milliseconds)


def list_lock_holders(connection: Connection) -> list[str]:
    return scalars(connection, str, "server/list_lock_holders")


def list_blockers(connection: Connection, pid: int) -> list[str]:
    """Return the sessions that the session of the server process `pid` waits for."""
    return scalars(connection, str, "server/list_blockers", pid=pid)


def list_wide_grants(connection: Connection) -> list[Grant]:
    return rows(connection, Grant, "server/list_wide_grants")


def list_applied_migrations(connection: Connection) -> list[AppliedMigration]:
    return rows(connection, AppliedMigration, "server/list_applied_migrations")


def insert_applied_migration(
    connection: Connection, *, version: int, name: str, sha256: str
) -> None:
    values = {"version": version, "name": name, "sha256": sha256}
    run(connection, "server/insert_applied_migration", **values)


def list_invalid_indexes(connection: Connection) -> list[str]:
    """Return their names, quoted where SQL needs it."""
    return scalars(connection, str, "server/list_invalid_indexes")


def list_old_snapshots(connection: Connection, *, age: timedelta) -> list[str]:
    """Return what has been open for longer than `age`."""
    return scalars(connection, str, "server/list_old_snapshots", age=age)


def get_server_clock(connection: Connection) -> datetime:
    return scalars(connection, datetime, "server/get_server_clock")[0]


def list_server_settings(connection: Connection) -> list[ServerSetting]:
    return rows(connection, ServerSetting, "server/list_server_settings")


def get_session(connection: Connection) -> Session:
    return rows(connection, Session, "server/get_session")[0]
