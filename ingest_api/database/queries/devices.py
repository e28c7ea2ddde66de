"""Devices."""

from datetime import datetime
from uuid import UUID

from ingest_api.database.pool import Connection
from ingest_api.database.statements import row, rows, rows_unprepared, scalar, scalars
from ingest_api.models.devices import Device, DevicePosition, NewDevice
from ingest_api.models.fleet import Bounds, FleetSelection


def find_device_by_token(connection: Connection, token_hash: str) -> Device | None:
    return row(connection, Device, "devices/find_device_by_token", token_hash=token_hash)


def insert_device(connection: Connection, device: NewDevice, *, token_hash: str) -> Device:
    """Return the new device; psycopg.errors.UniqueViolation when its id or its token exists."""
    values = vars(device) | {"token_hash": token_hash}
    return rows(connection, Device, "devices/insert_device", **values)[0]


def list_devices(
    connection: Connection,
    bounds: Bounds,
    selection: FleetSelection,
    *,
    after: DevicePosition | None,
    page: int,
) -> list[Device]:
    """Return up to `page` devices, newest first: those after a position."""
    values = vars(bounds) | vars(selection) | {"page": page}
    position = {
        "after_time": after and after.created_at,
        "after_id": after and after.device_id,
    }
    return rows_unprepared(connection, Device, "devices/list_devices", **values, **position)


def get_device(connection: Connection, device_id: UUID) -> Device | None:
    return row(connection, Device, "devices/get_device", device_id=device_id)


def count_devices(connection: Connection) -> int:
    return scalars(connection, int, "devices/count_devices")[0]


def list_device_ids(connection: Connection, *, after: UUID, page: int) -> list[UUID]:
    """Return up to `page` ids in their order: those after a certain one."""
    return scalars(connection, UUID, "devices/list_device_ids", after=after, page=page)


def is_device_known(connection: Connection, device_id: UUID) -> bool:
    return scalars(connection, bool, "devices/is_device_known", device_id=device_id)[0]


def is_point_known(connection: Connection, point_id: UUID) -> bool:
    """Return whether a device is there, or a chunk from there is kept."""
    return scalars(connection, bool, "devices/is_point_known", point_id=point_id)[0]


def list_register_devices(connection: Connection, point_id: UUID, register_id: UUID) -> list[UUID]:
    """Return which devices may have recorded there."""
    values = {"point_id": point_id, "register_id": register_id}
    return scalars(connection, UUID, "devices/list_register_devices", **values)


def set_token_hash(connection: Connection, device_id: UUID, token_hash: str) -> Device | None:
    """Return the device without its names, or None if there is none."""
    values = {"device_id": device_id, "token_hash": token_hash}
    return row(connection, Device, "devices/set_token_hash", **values)


def list_register_points(connection: Connection, register_id: UUID) -> list[UUID]:
    """Return at which points the register's devices are."""
    return scalars(connection, UUID, "devices/list_register_points", register_id=register_id)


def update_device(
    connection: Connection,
    device_id: UUID,
    *,
    is_enabled: bool | None,
    token_hash: str | None,
    name: str | None,
) -> Device | None:
    """Return the changed device, or None if there is none; an empty name removes it."""
    values = {"is_enabled": is_enabled, "token_hash": token_hash, "name": name}
    return row(connection, Device, "devices/update_device", device_id=device_id, **values)


def get_last_seen(connection: Connection) -> datetime | None:
    return scalar(connection, datetime, "devices/get_last_seen")
