"""The use cases of devices: register one, change one.

Shared by the admin API and the commands.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from uuid import UUID

import psycopg

from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.errors import DeviceExists, DeviceNotFound, TokenInUse
from ingest_api.models.devices import Device, DevicePosition, NewDevice
from ingest_api.models.fleet import Bounds, FleetSelection
from ingest_api.tokens import hash_token

PAGE = 2000
"""Devices that are read at once: no index has their order, so each page reads the whole table."""


def list_devices(
    connected: Callable[[], AbstractContextManager[Connection]], *, page: int = PAGE
) -> Iterator[list[Device]]:
    """Yield all devices, newest first, in pages. Each is read with a connection of its own, which
    nobody waits for while the page is sent."""
    after: DevicePosition | None = None
    while True:
        with connected() as connection:
            found = queries.devices.list_devices(
                connection, Bounds(), FleetSelection(), after=after, page=page
            )
        yield found
        if len(found) < page:
            return
        after = found[-1].position


def list_page(
    connection: Connection,
    bounds: Bounds,
    selection: FleetSelection,
    *,
    after: DevicePosition | None,
    limit: int,
) -> tuple[list[Device], DevicePosition | None]:
    """Return up to `limit` devices after a position, newest first, and the position of the last one
    if there are more."""
    found = queries.devices.list_devices(connection, bounds, selection, after=after, page=limit + 1)
    devices = found[:limit]
    return devices, devices[-1].position if len(found) > limit else None


def list_selected(
    connection: Connection,
    bounds: Bounds,
    selection: FleetSelection,
    *,
    after: UUID | None,
    limit: int | None,
) -> Iterator[list[Device]]:
    """Yield the selected devices, newest first, in pages: up to `limit` after a device.
    DeviceNotFound."""
    position: DevicePosition | None = None
    if after is not None:
        device = queries.devices.get_device(connection, after)
        if device is None:
            raise DeviceNotFound
        position = device.position
    left = limit
    while True:
        found, position = list_page(
            connection, bounds, selection, after=position, limit=min(left or PAGE, PAGE)
        )
        yield found
        left = left and left - len(found)
        if position is None or left == 0:
            return


def create_device(connection: Connection, device: NewDevice, *, token: str) -> Device:
    """Register a device. DeviceExists, TokenInUse."""
    try:
        return queries.devices.insert_device(connection, device, token_hash=hash_token(token))
    except psycopg.errors.UniqueViolation as error:
        raise _conflict(error) from None


def update_device(
    connection: Connection,
    device_id: UUID,
    *,
    is_enabled: bool | None = None,
    token: str | None = None,
    name: str | None = None,
) -> Device:
    """Enable or disable a device, give it a new token or a name; None changes nothing, an empty
    name removes it. DeviceNotFound, TokenInUse."""
    token_hash = None if token is None else hash_token(token)
    try:
        device = queries.devices.update_device(
            connection, device_id, is_enabled=is_enabled, token_hash=token_hash, name=name
        )
    except psycopg.errors.UniqueViolation as error:
        raise _conflict(error) from None
    if device is None:
        raise DeviceNotFound
    return device


def rotate_token(connection: Connection, device_id: UUID, token: str) -> Device:
    """Give a device a new token, also before a migration. DeviceNotFound, TokenInUse."""
    try:
        device = queries.devices.set_token_hash(connection, device_id, hash_token(token))
    except psycopg.errors.UniqueViolation as error:
        raise _conflict(error) from None
    if device is None:
        raise DeviceNotFound
    return device


def _conflict(error: psycopg.errors.UniqueViolation) -> DeviceExists | TokenInUse:
    # By the column: the names of constraints in an adopted database are unknown.
    if "(token_hash)" in (error.diag.message_detail or ""):
        return TokenInUse()
    return DeviceExists()
