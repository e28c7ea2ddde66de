"""`flask ingest set-name`."""

import json
from uuid import UUID

import click

from ingest_api.commands.context import database
from ingest_api.commands.parameters import NAME, TIME_ZONE, UuidParameter, as_json_option
from ingest_api.database.pool import Connection
from ingest_api.display import printable
from ingest_api.errors import PointNotFound
from ingest_api.models.devices import Point
from ingest_api.schemas.devices import dump_device
from ingest_api.schemas.points import dump_point
from ingest_api.usecases import devices, points


@click.command()
@click.option("--device", "device_id", type=UuidParameter(), help="Name this device.")
@click.option("--point", "point_id", type=UuidParameter(), help="Name this point.")
@click.option("--time-zone", type=TIME_ZONE, help="The point's time zone, such as Europe/Berlin.")
@click.option("--clear", is_flag=True, help="Remove the name.")
@click.argument("name", type=NAME, required=False)
@as_json_option
def set_name(
    device_id: UUID | None,
    point_id: UUID | None,
    time_zone: str | None,
    clear: bool,
    name: str | None,
    as_json: bool,
) -> None:
    """Name a device or a point, or set a point's time zone.

    Names are for people: 1 to 200 printable characters, shown beside the ids. Days begin at
    midnight in the point's time zone, by default UTC.
    """
    if (device_id is None) == (point_id is None):
        raise click.UsageError("Name either --device or --point")
    if clear and name is not None:
        raise click.UsageError("--clear and a name are mutually exclusive")
    if device_id and time_zone:
        raise click.UsageError("--time-zone is a point's: use it with --point")
    if not (clear or name or time_zone):
        raise click.UsageError("Give a name, --clear or --time-zone")
    wanted = "" if clear else name
    with database() as connection:
        if device_id:
            values = dump_device(devices.update_device(connection, device_id, name=wanted))
        else:
            assert point_id  # noqa: S101
            values = dump_point(change_point(connection, point_id, wanted, time_zone))
    if as_json:
        click.echo(json.dumps(values, default=str))
    else:
        for key, value in values.items():
            click.echo(f"{key:13} {'-' if value is None else printable(str(value))}")


def change_point(
    connection: Connection, point_id: UUID, name: str | None, time_zone: str | None
) -> Point:
    """Change what is given, as `devices.update_device` does; return the point."""
    try:
        known = points.get_point(connection, point_id)
    except PointNotFound:
        known = Point(point_id)
    kept = known.name if name is None else name or None
    return points.put_point(connection, Point(point_id, kept, time_zone or known.time_zone))
