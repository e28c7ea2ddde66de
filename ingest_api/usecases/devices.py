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
from ingest_api.models.devices import Device
from ingest_api.tokens import hash_token

PAGE = 2000
"""Devices that are read at once: no index has their order, so each page reads the whole table."""


def list_devices(
    connected: Callable[[], AbstractContextManager[Connection]], *, page: int = PAGE
) -> Iterator[list[Device]]:
    """Yield all devices, newest first, in pages. Each is read with a connection of its own, which
    nobody waits for while the page is sent."""
    after: Device | None = None
    while True:
        with connected() as connection:
            found = queries.devices.list_devices(connection, after=after, page=page)
        yield found
        if len(found) < page:
            return
        after = found[-1]


def create_device(
    connection: Connection, *, device_id: UUID, point_id: UUID, register_id: UUID, token: str
) -> Device:
    """Register a device. DeviceExists, TokenInUse."""
    try:
        return queries.devices.insert_device(
            connection,
            device_id=device_id,
            point_id=point_id,
            register_id=register_id,
            token_hash=hash_token(token),
        )
    except psycopg.errors.UniqueViolation as error:
        raise _conflict(error) from None


def update_device(
    connection: Connection,
    device_id: UUID,
    *,
    is_enabled: bool | None = None,
    token: str | None = None,
) -> Device:
    """Enable, disable or give a new token; None changes nothing. DeviceNotFound, TokenInUse."""
    token_hash = None if token is None else hash_token(token)
    try:
        device = queries.devices.update_device(
            connection, device_id, is_enabled=is_enabled, token_hash=token_hash
        )
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
