"""Uploads that were refused for what they contain."""

from uuid import UUID

from ingest_api.database.pool import Connection
from ingest_api.database.statements import run


def record_refusal(
    connection: Connection, device_id: UUID, *, code: str, detail: str, count: int
) -> bool:
    """Return whether it was written: not within 10 seconds after another of this device."""
    values = {"device_id": device_id, "code": code, "detail": detail, "count": count}
    return run(connection, "refusals/record_refusal", **values) > 0
