"""What devices have recorded, by minute."""

from datetime import datetime, timedelta
from uuid import UUID

from ingest_api.database.pool import Connection
from ingest_api.database.statements import rows_unprepared, run, scalar
from ingest_api.models.coverage import Break, LostRecording, RecordedHour
from ingest_api.models.devices import Place


def list_places(
    connection: Connection,
    *,
    point_id: UUID | None,
    register_id: UUID | None,
    device_id: UUID | None,
) -> list[Place]:
    """Return the devices of a point, of a register, or one."""
    values = {"point_id": point_id, "register_id": register_id, "device_id": device_id}
    return rows_unprepared(connection, Place, "coverage/list_places", **values)


def list_recorded_hours(
    connection: Connection, device_ids: list[UUID], *, start: datetime, end: datetime
) -> list[RecordedHour]:
    values = {"device_ids": device_ids, "start": start, "end": end}
    return rows_unprepared(connection, RecordedHour, "coverage/list_recorded_hours", **values)


def list_missing_files(
    connection: Connection, device_ids: list[UUID], *, start: datetime, end: datetime
) -> list[LostRecording]:
    values = {"device_ids": device_ids, "start": start, "end": end}
    return rows_unprepared(connection, LostRecording, "coverage/list_missing_files", **values)


def list_breaks(
    connection: Connection,
    device_ids: list[UUID],
    shortest_overlap: timedelta,
    *,
    start: datetime,
    end: datetime,
) -> list[Break]:
    """Return where recordings do not follow each other, by device and start."""
    values = {"device_ids": device_ids, "shortest_overlap": shortest_overlap}
    return rows_unprepared(
        connection, Break, "coverage/list_breaks", start=start, end=end, **values
    )


def get_next_start(connection: Connection, device_id: UUID, start: datetime) -> datetime | None:
    """Return when the first chunk from then on starts."""
    values = {"device_id": device_id, "start": start}
    return scalar(connection, datetime, "coverage/get_next_start", **values)


def lock_hours(connection: Connection, device_id: UUID, start: datetime, end: datetime) -> None:
    """Lock the hours of the chunks that start in a time, until the transaction ends."""
    run(connection, "coverage/lock_hours", device_id=device_id, start=start, end=end)


def enter_chunks(connection: Connection, device_id: UUID, start: datetime, end: datetime) -> int:
    """Return the number of hours that the chunks that start in a time touch."""
    return run(connection, "coverage/enter_chunks", device_id=device_id, start=start, end=end)
