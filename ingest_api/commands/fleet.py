"""`flask ingest fleet`."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import click

from ingest_api.commands.context import CouldNotRun, opened, require_schema
from ingest_api.commands.output import WATCH_SECONDS, columns, repeat
from ingest_api.commands.parameters import (
    TextParameter,
    UuidParameter,
    as_json_option,
    require_watch,
    watch_options,
)
from ingest_api.database.pool import Connection
from ingest_api.display import age, printable
from ingest_api.models.fleet import (
    ALARMING,
    Bounds,
    CoveredDevice,
    DeviceState,
    FleetPosition,
    FleetSelection,
)
from ingest_api.schemas.fleet import dump_covered
from ingest_api.usecases.fleet import count_states, list_fleet

PAGE = 1000
MOST_WATCHED = 40

_CLOCK_NOTED = timedelta(seconds=30)


@click.command()
@click.option("--state", type=click.Choice([state.value for state in DeviceState]))
@click.option("--point", "point_id", type=UuidParameter(), help="Only devices of this point.")
@click.option("--text", type=TextParameter(), help="Only devices with this in a name or an id.")
@watch_options
@as_json_option
def fleet(
    state: str | None,
    point_id: UUID | None,
    text: str | None,
    watch: bool,
    every: int | None,
    as_json: bool,
) -> None:
    """Show what each device is doing, the worst first.

    \b
    refused     its last upload was refused for what it contains
    silent      nothing was heard of it for SILENT_AFTER_SECONDS
    late        it sends, but its newest recording is older than LATE_AFTER_SECONDS
    never       it has not been heard of yet
    recording
    disabled

    TODAY and 7 DAYS are the shares of minutes that were recorded: of the day so far in the point's
    time zone, and of the last 7 days.

    Exit status 1: an enabled device is silent or refused; 2: the check could not run. --watch shows
    the first 40 and ends with status 0.
    """
    require_watch(watch, every)
    selection = FleetSelection(text, DeviceState(state) if state else None, point_id)
    with opened(CouldNotRun) as (components, connection):
        require_schema(components, connection)
        bounds = components.settings.bounds
        if watch:
            repeat(
                lambda: _shown(connection, bounds, selection, as_json, most=MOST_WATCHED),
                every or WATCH_SECONDS,
                as_json=as_json,
            )
            return
        click.echo(_shown(connection, bounds, selection, as_json))
        counts = count_states(connection, bounds)
    if any(counts[state] for state in ALARMING):
        raise click.exceptions.Exit(1)


def _shown(
    connection: Connection,
    bounds: Bounds,
    selection: FleetSelection,
    as_json: bool,
    *,
    most: int | None = None,
) -> str:
    counts = count_states(connection, bounds)
    found = _devices(connection, bounds, selection, most)
    if as_json:
        devices = [dump_covered(device) for device in found]
        return json.dumps({"counts": counts, "devices": devices}, default=str)
    told = ", ".join(f"{number:,} {state}" for state, number in counts.items() if number)
    told = told or "no devices yet; add one with: flask ingest add-device"
    return "\n".join([told, *_lines(found)])


def _devices(
    connection: Connection, bounds: Bounds, selection: FleetSelection, most: int | None
) -> list[CoveredDevice]:
    found: list[CoveredDevice] = []
    after: FleetPosition | None = None
    while True:
        page = list_fleet(connection, bounds, selection, after=after, limit=most or PAGE)
        found += page.devices
        after = page.next
        if after is None or most:
            return found


def _lines(found: list[CoveredDevice]) -> list[str]:
    if not found:
        return []
    now = datetime.now(UTC)
    head = ("DEVICE", "NAME", "POINT", "STATE", "SINCE", "RECORDED", "TODAY", "7 DAYS", "")
    rows = [head, *(_row(covered, now) for covered in found)]
    right = (False, False, False, False, True, True, True, True, False)
    return ["", *columns(rows, right)]


def _row(covered: CoveredDevice, now: datetime) -> tuple[str, ...]:
    device = covered.device
    return (
        str(device.device_id),
        printable(device.name or "-"),
        printable(device.point_name or str(device.point_id)),
        device.state,
        _ago(device.since, now),
        _ago(device.recorded_until, now),
        _percent(covered.today),
        _percent(covered.week),
        _remark(covered),
    )


def _remark(covered: CoveredDevice) -> str:
    device, remarks = covered.device, []
    if device.refusal_code:
        remarks.append(f"{device.refusals:,} x {device.refusal_code}: {device.refusal_detail}")
    if device.clock_offset and abs(device.clock_offset) > _CLOCK_NOTED:
        seconds = device.clock_offset.total_seconds()
        remarks.append(f"clock {age(abs(seconds))} {'ahead' if seconds > 0 else 'behind'}")
    return printable("; ".join(remarks))


def _ago(instant: datetime | None, now: datetime) -> str:
    return age((now - instant).total_seconds()) if instant else "-"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
