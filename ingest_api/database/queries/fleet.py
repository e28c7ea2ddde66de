"""The fleet: what each device is doing."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from ingest_api.database.pool import Connection
from ingest_api.database.statements import rows, rows_unprepared, scalar
from ingest_api.models.fleet import (
    Bounds,
    DeviceState,
    FleetDevice,
    FleetPosition,
    FleetSelection,
    RecordedMinutes,
    StateCount,
)


def list_fleet(
    connection: Connection,
    bounds: Bounds,
    selection: FleetSelection,
    *,
    after: FleetPosition | None,
    page: int,
) -> list[FleetDevice]:
    """Return up to `page` devices, the worst first: those after a certain one."""
    values = vars(bounds) | vars(selection) | {"states": list(DeviceState), "page": page}
    position = {
        "after_rank": after and after.rank,
        "after_since": after and after.since,
        "after_id": after and after.device_id,
    }
    return rows_unprepared(connection, FleetDevice, "fleet/list_fleet", **values, **position)


def count_states(connection: Connection, bounds: Bounds) -> list[StateCount]:
    """Return the number of devices by state, without states that no device is in."""
    return rows(connection, StateCount, "fleet/count_states", **vars(bounds))


def count_recorded_minutes(
    connection: Connection, asked: Sequence[tuple[UUID, datetime, datetime]], now: datetime
) -> list[RecordedMinutes]:
    """Return what devices have recorded until `now`: `asked` has of each the midnight at which its
    day began, and the beginning of its week."""
    ids, midnights, week_starts = (list(column) for column in zip(*asked, strict=True))
    values = {"device_ids": ids, "midnights": midnights, "week_starts": week_starts, "now": now}
    return rows(connection, RecordedMinutes, "fleet/count_recorded_minutes", **values)


def get_coverage(connection: Connection, *, start: datetime, end: datetime) -> float | None:
    """Return the share of the minutes of a time that enabled devices have recorded, 0 to 1; None
    without any device that ever recorded."""
    return scalar(connection, float, "fleet/get_coverage", start=start, end=end)
