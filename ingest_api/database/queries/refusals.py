"""Uploads that were refused for what they contain."""

from datetime import timedelta
from uuid import UUID

from ingest_api.database.pool import Connection
from ingest_api.database.statements import run
from ingest_api.models.fleet import Refusal


def record_refusal(
    connection: Connection, device_id: UUID, refusal: Refusal, *, pause: timedelta
) -> bool:
    """Return whether it was written: not within `pause` after another of this device."""
    values = vars(refusal) | {"device_id": device_id, "pause": pause}
    return run(connection, "refusals/record_refusal", **values) > 0
