"""The use case: enter the chunks that are there into `recorded_hours`, beside a running service.

Uploads enter their own. This is for the chunks of versions that did not, and adds nothing twice.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.models.chunks import FIRST_ID

DAY = timedelta(days=1)
_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
_DEVICES = 1000


def count_devices(connection: Connection) -> int:
    """Return how many devices there are."""
    return queries.devices.count_devices(connection)


def rebuild(connection: Connection) -> Iterator[int]:
    """Enter the chunks of every device; yield for each the number of its hours.

    `connection` must be in autocommit mode. An upload waits for one day of its device at most.
    """
    after = FIRST_ID
    while found := queries.devices.list_device_ids(connection, after=after, page=_DEVICES):
        for device_id in found:
            yield _rebuild_device(connection, device_id)
        after = found[-1]


def _rebuild_device(connection: Connection, device_id: UUID) -> int:
    hours, start = 0, _BEGINNING
    while first := queries.coverage.get_next_start(connection, device_id, start):
        day = first.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        start = day + DAY
        with connection.transaction():
            # Locked first: what an upload adds meanwhile is not yet visible, and added afterwards.
            queries.coverage.lock_hours(connection, device_id, day, start)
            hours += queries.coverage.enter_chunks(connection, device_id, day, start)
    return hours
