"""Devices."""

from datetime import datetime
from uuid import UUID

from ingest_api.database.pool import Connection
from ingest_api.database.statements import row, rows, scalar, scalars
from ingest_api.models.devices import Device


def find_device_by_token(connection: Connection, token_hash: str) -> Device | None:
    return row(connection, Device, "devices/find_device_by_token", token_hash=token_hash)


def insert_device(
    connection: Connection,
    *,
    device_id: UUID,
    point_id: UUID,
    register_id: UUID,
    token_hash: str,
) -> Device:
    """Return the new device; psycopg.errors.UniqueViolation when its id or its token exists."""
    values = {"point_id": point_id, "register_id": register_id, "token_hash": token_hash}
    return rows(connection, Device, "devices/insert_device", device_id=device_id, **values)[0]


def list_devices(connection: Connection, *, after: Device | None, page: int) -> list[Device]:
    """Return up to `page` devices, newest first: those after a certain one."""
    values = {
        "after_time": after and after.created_at,
        "after_id": after and after.device_id,
        "page": page,
    }
    return rows(connection, Device, "devices/list_devices", **values)


def is_device_known(connection: Connection, device_id: UUID) -> bool:
    return scalars(connection, bool, "devices/is_device_known", device_id=device_id)[0]


def is_point_known(connection: Connection, point_id: UUID) -> bool:
    """Return whether a device is there, or a chunk from there is kept."""
    return scalars(connection, bool, "devices/is_point_known", point_id=point_id)[0]


def list_register_devices(connection: Connection, point_id: UUID, register_id: UUID) -> list[UUID]:
    """Return which devices may have recorded there."""
    values = {"point_id": point_id, "register_id": register_id}
    return scalars(connection, UUID, "devices/list_register_devices", **values)


def update_device(
    connection: Connection, device_id: UUID, *, is_enabled: bool | None, token_hash: str | None
) -> Device | None:
    values = {"device_id": device_id, "is_enabled": is_enabled, "token_hash": token_hash}
    return row(connection, Device, "devices/update_device", **values)


def get_last_seen(connection: Connection) -> datetime | None:
    return scalar(connection, datetime, "devices/get_last_seen")
