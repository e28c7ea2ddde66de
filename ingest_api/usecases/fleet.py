"""The use case: what each device of the fleet is doing, the worst first."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.models.days import midnight, zone_of
from ingest_api.models.fleet import (
    Bounds,
    CoveredDevice,
    DeviceState,
    FleetDevice,
    FleetPage,
    FleetPosition,
    FleetSelection,
)

WEEK = timedelta(days=7)
MINUTE = timedelta(minutes=1)


def count_states(connection: Connection, bounds: Bounds) -> dict[DeviceState, int]:
    """Return the number of devices in each state, the worst first."""
    found = {row.state: row.devices for row in queries.fleet.count_states(connection, bounds)}
    return {state: found.get(state, 0) for state in DeviceState}


def list_fleet(
    connection: Connection,
    bounds: Bounds,
    selection: FleetSelection,
    *,
    after: FleetPosition | None,
    limit: int,
) -> FleetPage:
    """Return up to `limit` devices, the worst first: those after a certain one."""
    found = queries.fleet.list_fleet(connection, bounds, selection, after=after, page=limit + 1)
    devices = found[:limit]
    more = len(found) > limit
    return FleetPage(_covered(connection, devices), devices[-1].position if more else None)


def _covered(connection: Connection, devices: Sequence[FleetDevice]) -> list[CoveredDevice]:
    if not devices:
        return []
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    days = {zone: _midnight(now, zone) for zone in {device.time_zone for device in devices}}
    asked = [(device.device_id, days[device.time_zone], now - WEEK) for device in devices]
    rows = queries.fleet.count_recorded_minutes(connection, asked, now)
    minutes = {row.device_id: row for row in rows}
    covered = []
    for device in devices:
        row = minutes.get(device.device_id)
        passed = (now - days[device.time_zone]) // MINUTE
        today = (row.today if row else 0) / passed if passed else None
        covered.append(CoveredDevice(device, today, (row.week if row else 0) / (WEEK // MINUTE)))
    return covered


def _midnight(now: datetime, time_zone: str) -> datetime:
    zone = zone_of(time_zone)
    return midnight(now.astimezone(zone).date(), zone)
