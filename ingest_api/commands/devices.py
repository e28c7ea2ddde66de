"""`flask ingest add-device` and its siblings."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from uuid import UUID, uuid4

import click

from ingest_api.commands.context import database, opened
from ingest_api.commands.names import change_point
from ingest_api.commands.parameters import (
    NAME,
    TIME_ZONE,
    TextParameter,
    TokenParameter,
    UuidParameter,
    as_json_option,
)
from ingest_api.display import age, printable
from ingest_api.models.devices import Device, NewDevice
from ingest_api.models.fleet import DeviceState, FleetSelection
from ingest_api.schemas.devices import dump_device, dump_devices
from ingest_api.tokens import generate_token
from ingest_api.usecases import devices

_token_option = click.option(
    "--token",
    type=TokenParameter(),
    help="The bearer token, or - to read it from standard input. Default: a random one.",
)
_device_argument = click.argument("device_id", type=UuidParameter())


@click.command()
@click.option("--point-id", type=UuidParameter(), help="The point's id. Default: a new one.")
@click.option(
    "--register-id", type=UuidParameter(), help="The cash register's id. Default: a new one."
)
@click.option("--device-id", type=UuidParameter(), help="The device's id. Default: a new one.")
@click.option("--name", type=NAME, help="The device's name, for people.")
@click.option("--point-name", type=NAME, help="The point's name, for people.")
@click.option("--time-zone", type=TIME_ZONE, help="The point's time zone, such as Europe/Berlin.")
@_token_option
@as_json_option
@click.option("--agent-config", is_flag=True, help="Print the agent's configuration (YAML).")
@click.option(
    "--base-url",
    default="http://127.0.0.1:8000",
    show_default=True,
    help="With --agent-config: the URL at which agents reach this service.",
)
def add_device(
    point_id: UUID | None,
    register_id: UUID | None,
    device_id: UUID | None,
    name: str | None,
    point_name: str | None,
    time_zone: str | None,
    token: str | None,
    as_json: bool,
    agent_config: bool,
    base_url: str,
) -> None:
    """Register a device and print its token.

    The token is shown only this once.
    """
    if as_json and agent_config:
        raise click.UsageError("--json and --agent-config are mutually exclusive")
    token = token or generate_token()
    new = NewDevice(device_id or uuid4(), point_id or uuid4(), register_id or uuid4(), name)
    with database() as connection, connection.transaction():
        if point_name or time_zone:
            change_point(connection, new.point_id, point_name, time_zone)
        device = devices.create_device(connection, new, token=token)
    if agent_config:
        click.echo(_agent_config(device, token, base_url))
    else:
        _show_device(device, token, as_json)


@click.command()
@click.option("--text", type=TextParameter(), help="Only devices with this in a name or an id.")
@click.option(
    "--state",
    type=click.Choice([state.value for state in DeviceState]),
    help="Only devices in this state; see flask ingest fleet.",
)
@click.option("--point", "point_id", type=UuidParameter(), help="Only devices of this point.")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
@click.option("--after", type=UuidParameter(), help="Only those after this device: the next page.")
@as_json_option
def list_devices(
    text: str | None,
    state: str | None,
    point_id: UUID | None,
    limit: int | None,
    after: UUID | None,
    as_json: bool,
) -> None:
    """List devices, newest first."""
    selection = FleetSelection(text, DeviceState(state) if state else None, point_id)
    is_whole = selection == FleetSelection() and after is None
    with opened() as (components, connection):
        pages = devices.list_selected(
            connection, components.settings.bounds, selection, after=after, limit=limit
        )
        if as_json:
            for lines in dump_devices(pages):
                click.echo(lines, nl=False)
        else:
            _show_devices(chain.from_iterable(pages), is_whole=is_whole)


@click.command()
@_device_argument
@as_json_option
def enable_device(device_id: UUID, as_json: bool) -> None:
    """Accept a disabled device's uploads again."""
    _set_enabled(device_id, True, as_json)


@click.command()
@_device_argument
@as_json_option
def disable_device(device_id: UUID, as_json: bool) -> None:
    """Refuse a device's uploads from now on.

    Chunks that it has sent stay.
    """
    _set_enabled(device_id, False, as_json)


@click.command()
@_device_argument
@_token_option
@as_json_option
def rotate_token(device_id: UUID, token: str | None, as_json: bool) -> None:
    """Give a device a new token.

    The old one stops working at once.
    """
    token = token or generate_token()
    with database() as connection:
        device = devices.rotate_token(connection, device_id, token)
    _show_device(device, token, as_json)


def _set_enabled(device_id: UUID, is_enabled: bool, as_json: bool) -> None:
    with database() as connection:
        device = devices.update_device(connection, device_id, is_enabled=is_enabled)
    _show_device(device, None, as_json)


def _show_devices(found: Iterator[Device], *, is_whole: bool) -> None:
    row, now = "{:36}  {:36}  {:36}  {:8}  {:10}  {}", datetime.now(UTC)
    number = 0
    for number, device in enumerate(found, 1):
        if number == 1:
            click.echo(row.format("DEVICE", "POINT", "REGISTER", "STATE", "LAST SEEN", "NAME"))
        ids = map(str, (device.device_id, device.point_id, device.register_id))
        state = "enabled" if device.is_enabled else "disabled"
        names = ", ".join(printable(name) for name in (device.point_name, device.name) if name)
        click.echo(row.format(*ids, state, _ago(device.last_seen_at, now), names).rstrip())
    if not number and is_whole:
        click.echo("no devices yet; add one with: flask ingest add-device")
    elif not number:
        click.echo("no such device")


def _show_device(device: Device, token: str | None, as_json: bool) -> None:
    values = dump_device(device) | ({"token": token} if token else {})
    if as_json:
        click.echo(json.dumps(values, default=str))
        return
    for name, value in values.items():
        click.echo(f"{name:13} {'-' if value is None else printable(str(value))}")
    if token:
        click.echo("Save the token now: it cannot be shown again.", err=True)


def _agent_config(device: Device, token: str, base_url: str) -> str:
    # A JSON string is valid YAML.
    return "\n".join(
        (
            "identifiers:",
            f"  point_id: {json.dumps(str(device.point_id))}",
            f"  register_id: {json.dumps(str(device.register_id))}",
            f"  device_id: {json.dumps(str(device.device_id))}",
            "ingest:",
            f"  ingest_base_url: {json.dumps(base_url)}",
            f"  ingest_token: {json.dumps(token)}",
        )
    )


def _ago(instant: datetime | None, now: datetime) -> str:
    return f"{age((now - instant).total_seconds())} ago" if instant else "never"
