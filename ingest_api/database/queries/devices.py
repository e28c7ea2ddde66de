"""Devices."""

from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from ingest_api.database.pool import Connection, statement
from ingest_api.models.devices import Device


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


def get_last_seen(connection: Connection) -> datetime | None:
    with connection.cursor(row_factory=scalar_row) as cursor:
        last: datetime | None = cursor.execute(statement("get_last_seen")).fetchone()
        return last
