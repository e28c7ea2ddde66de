"""`flask ingest coverage`."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

import click

from ingest_api.commands.context import opened, require_schema
from ingest_api.commands.output import progress_bar
from ingest_api.commands.parameters import UuidParameter, as_json_option
from ingest_api.database.pool import Connection
from ingest_api.display import printable
from ingest_api.models.coverage import DeviceCoverage, GapReason, Interval, Timeline
from ingest_api.models.days import day_of, zone_of
from ingest_api.models.devices import DeviceSelection, Place
from ingest_api.schemas.coverage import dump_coverage
from ingest_api.schemas.fields import parse_uuid
from ingest_api.usecases.coverage import find_point, get_coverage, list_places
from ingest_api.usecases.recorded_hours import count_devices, rebuild

HOUR = timedelta(hours=1)

_CELLS = {
    GapReason.MISSING: ".",
    GapReason.NOT_YET: "~",
    GapReason.FILE_MISSING: "x",
    GapReason.REMOVED: "o",
}
_LEGEND = "# recorded  . missing  ~ not sent yet  x file missing  o removed by retention"


@click.command()
@click.option("--point", metavar="NAME|UUID", help="All devices of this point.")
@click.option(
    "--register", "register_id", type=UuidParameter(), help="All devices registered there."
)
@click.option("--device", "device_id", type=UuidParameter(), help="This device.")
@click.option(
    "--day",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The day, in the point's time zone.  [default: today]",
)
@click.option("--rebuild", "do_rebuild", is_flag=True, help="Enter the chunks that are there.")
@as_json_option
def coverage(
    point: str | None,
    register_id: UUID | None,
    device_id: UUID | None,
    day: datetime | None,
    do_rebuild: bool,
    as_json: bool,
) -> None:
    """Show which minutes of a day were recorded, and why others are missing.

    Each line is an hour, each character a minute. Gaps are listed below with their exact times.

    --rebuild enters the chunks of versions that did not keep the minutes. It runs beside the
    service, takes a few minutes for ten million chunks, and may be interrupted and run again.
    """
    chosen = [value for value in (point, register_id, device_id) if value]
    if do_rebuild and (chosen or day):
        raise click.UsageError("--rebuild is for all devices and days: use it alone")
    if not do_rebuild and len(chosen) != 1:
        raise click.UsageError("Give one of --point, --register and --device")
    with opened() as (components, connection):
        require_schema(components, connection)
        if do_rebuild:
            _rebuild(connection, as_json)
            return
        point_id = _point(connection, point) if point else None
        places = list_places(connection, DeviceSelection(point_id, register_id, device_id))
        zone = zone_of(places[0].time_zone)
        asked = day_of(day.date() if day else datetime.now(zone).date(), zone)
        found = get_coverage(connection, places, asked, HOUR)
    if as_json:
        click.echo(json.dumps(dump_coverage(found, asked, HOUR), default=str))
    else:
        click.echo("\n".join(_drawn(found, asked)))


def _point(connection: Connection, text: str) -> UUID:
    try:
        return parse_uuid(text)
    except ValueError:
        return find_point(connection, text)


def _rebuild(connection: Connection, as_json: bool) -> None:
    devices = hours = 0
    with progress_bar(count_devices(connection), "devices") as advance:
        for number in rebuild(connection):
            devices, hours = devices + 1, hours + number
            advance(1)
    if as_json:
        click.echo(json.dumps({"devices": devices, "hours": hours}))
    else:
        click.echo(f"entered all chunks; devices: {devices:,}, hours with recordings: {hours:,}")


def _drawn(found: list[DeviceCoverage], asked: Interval) -> Iterator[str]:
    for covered in found:
        yield _title(covered.place)
        yield from _hours(covered, asked)
        yield from _gaps(covered)
        yield ""
    yield _LEGEND


def _title(place: Place) -> str:
    names = [printable(name) for name in (place.point_name, place.name) if name]
    return f"{', '.join([*names, str(place.device_id)])} ({place.time_zone})"


def _hours(covered: DeviceCoverage, asked: Interval) -> Iterator[str]:
    """Yield a line for each hour that has begun, a character for each minute."""
    zone, timeline = zone_of(covered.place.time_zone), Timeline(asked)
    cells = dict.fromkeys(range(timeline.number(asked.start), timeline.number(asked.end)), "#")
    for gap in covered.gaps:
        for number in range(timeline.number(gap.start), timeline.number(gap.end)):
            cells[number] = _CELLS[gap.reason]
    for step in covered.steps:
        if step.share is not None:
            first = timeline.number(step.start)
            line = "".join(cells[number] for number in range(first, first + 60))
            yield f"{step.start.astimezone(zone):%H:%M}  {line}"


def _gaps(covered: DeviceCoverage) -> Iterator[str]:
    zone = zone_of(covered.place.time_zone)
    share = "no minute is over" if covered.share is None else f"{100 * covered.share:.1f} %"
    yield f"recorded: {share}; gaps: {len(covered.gaps)}; overlaps: {len(covered.overlaps)}"
    shown = [(gap, gap.reason.replace("_", " ")) for gap in covered.gaps]
    for part, what in [*shown, *((overlap, "overlap") for overlap in covered.overlaps)]:
        begin, end = (instant.astimezone(zone) for instant in (part.start, part.end))
        yield f"  {begin:%H:%M:%S} to {end:%H:%M:%S}  {what}"
