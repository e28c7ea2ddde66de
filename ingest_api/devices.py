"""The use cases around devices: register one, change one, and their tokens.

Shared by the admin API and the commands.
"""

import hashlib
import re
import secrets
from uuid import UUID

import psycopg

from ingest_api import queries
from ingest_api.database import Connection
from ingest_api.errors import DeviceExists, DeviceNotFound, TokenInUse
from ingest_api.models import Device

TOKEN_PATTERN = re.compile(r"[\x21-\x7e]{16,256}")
TOKEN_RULE = "must be 16 to 256 printable ASCII characters without spaces"  # noqa: S105


def generate_token() -> str:
    """A new secret of 256 random bits, fit for an HTTP header and a YAML file."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """What the database keeps of a token: SHA-256, lower-case hex. No salt is needed for a
    secret that nobody chose, and the hash must be found by an index."""
    return hashlib.sha256(token.encode()).hexdigest()


def create_device(
    connection: Connection, *, device_id: UUID, point_id: UUID, register_id: UUID, token: str
) -> Device:
    """Register a device. DeviceExists, TokenInUse."""
    try:
        return queries.insert_device(
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
    """Enable, disable or give a new token; None leaves as it is. DeviceNotFound, TokenInUse."""
    token_hash = None if token is None else hash_token(token)
    try:
        device = queries.update_device(
            connection, device_id, is_enabled=is_enabled, token_hash=token_hash
        )
    except psycopg.errors.UniqueViolation as error:
        raise _conflict(error) from None
    if device is None:
        raise DeviceNotFound
    return device


def _conflict(error: psycopg.errors.UniqueViolation) -> DeviceExists | TokenInUse:
    if error.diag.constraint_name == "devices_token_hash_key":
        return TokenInUse()
    return DeviceExists()
