"""The commands for operators: `flask ingest ...`. Needs no FLASK_APP: it is a plugin of flask's.

Output is for people; with `--json`, for programs. Exit status 0: done; 1: not done, and the
message says why; 2: wrong usage.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import click
import psycopg

from ingest_api import devices, migrations, queries
from ingest_api.database import Connection, connect
from ingest_api.errors import IngestError
from ingest_api.models import Device
from ingest_api.schemas import dump_device, parse_uuid
from ingest_api.settings import Settings, SettingsError


class UuidParameter(click.ParamType[UUID]):
    name = "uuid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> UUID:
        try:
            return value if isinstance(value, UUID) else parse_uuid(value)
        except ValueError:
            self.fail(f"{value!r} is not a UUID", param, ctx)


class TokenParameter(click.ParamType[str]):
    name = "token"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        token = sys.stdin.readline().strip() if value == "-" else str(value)
        if not devices.TOKEN_PATTERN.fullmatch(token):
            self.fail(f"a token {devices.TOKEN_RULE}", param, ctx)
        return token


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_token_option = click.option(
    "--token",
    type=TokenParameter(),
    help="The bearer token, or - to read it from standard input. Default: a new random one.",
)
_device_argument = click.argument("device_id", type=UuidParameter())


@click.group()
def ingest() -> None:
    """Operate the ingest service: its schema and its devices.

    The database is the one that DATABASE_URL names.
    """


@contextmanager
def _database() -> Iterator[Connection]:
    """A connection, with every expected failure turned into a sentence and exit status 1."""
    try:
        with connect(Settings.from_environ()) as connection:
            yield connection
    except SettingsError as error:
        raise click.ClickException(f"these settings must be changed:\n{error}") from None
    except (migrations.SchemaError, IngestError) as error:
        raise click.ClickException(str(error)) from None
    except psycopg.errors.UndefinedTable:
        raise click.ClickException("the schema is missing; run: flask ingest migrate") from None
    except psycopg.Error as error:
        reason = str(error).strip() or type(error).__name__
        raise click.ClickException(f"the database failed (DATABASE_URL): {reason}") from None


@ingest.command()
@click.option("--status", is_flag=True, help="Only show what is applied; exit 1 if not current.")
@click.option("--dry-run", is_flag=True, help="Only show what would be applied.")
@_as_json
def migrate(status: bool, dry_run: bool, as_json: bool) -> None:
    """Bring the database's schema up to date.

    Safe to run again and from several machines at once. Adopts the database of the earlier,
    Alembic-managed service in place.
    """
    if status and dry_run:
        raise click.UsageError("--status and --dry-run exclude each other")
    with _database() as connection:
        if status:
            _show_status(connection, as_json)
        elif dry_run:
            _show_migrations("would apply", migrations.pending(connection), as_json)
        else:
            _apply(connection, as_json)


def _apply(connection: Connection, as_json: bool) -> None:
    done = []
    for migration in migrations.apply(connection):
        done.append(migration)
        if not as_json:
            click.echo(f"applied {migration.name}")
    if as_json or not done:
        _show_migrations("applied", done, as_json)


def _show_migrations(verb: str, found: list[migrations.Migration], as_json: bool) -> None:
    names = [migration.name for migration in found]
    if as_json:
        click.echo(json.dumps({verb.replace(" ", "_"): names}))
    elif names:
        click.echo("\n".join(f"{verb} {name}" for name in names))
    else:
        click.echo("the schema is up to date")


def _show_status(connection: Connection, as_json: bool) -> None:
    applied = {row.name: row.applied_at.isoformat() for row in migrations.applied(connection)}
    pending = [migration.name for migration in migrations.pending(connection)]
    if as_json:
        click.echo(json.dumps({"applied": applied, "pending": pending}))
    else:
        for name, when in applied.items():
            click.echo(f"{name}  applied {when}")
        for name in pending:
            click.echo(f"{name}  pending")
    if pending:
        raise click.exceptions.Exit(1)


@ingest.command()
@click.option("--point-id", type=UuidParameter(), help="The shop. Default: a new id.")
@click.option("--register-id", type=UuidParameter(), help="The cash register. Default: a new id.")
@click.option("--device-id", type=UuidParameter(), help="The recorder. Default: a new id.")
@_token_option
@_as_json
@click.option("--agent-config", is_flag=True, help="Print the agent's configuration (YAML).")
@click.option(
    "--base-url",
    default="http://127.0.0.1:8000",
    show_default=True,
    help="For --agent-config: where agents reach this service.",
)
def add_device(
    point_id: UUID | None,
    register_id: UUID | None,
    device_id: UUID | None,
    token: str | None,
    as_json: bool,
    agent_config: bool,
    base_url: str,
) -> None:
    """Register a recorder and print its token, which is shown this once."""
    if as_json and agent_config:
        raise click.UsageError("--json and --agent-config exclude each other")
    token = token or devices.generate_token()
    with _database() as connection:
        device = devices.create_device(
            connection,
            device_id=device_id or uuid4(),
            point_id=point_id or uuid4(),
            register_id=register_id or uuid4(),
            token=token,
        )
    if agent_config:
        click.echo(_agent_config(device, token, base_url))
    else:
        _show_device(device, token, as_json)


@ingest.command()
@_as_json
def list_devices(as_json: bool) -> None:
    """Show every recorder, newest first."""
    with _database() as connection:
        found = queries.list_devices(connection)
    if as_json:
        click.echo(json.dumps([dump_device(device) for device in found], default=str))
        return
    if not found:
        click.echo("no devices yet; add one with: flask ingest add-device")
        return
    row = "{:36}  {:36}  {:36}  {:8}  {}"
    click.echo(row.format("DEVICE", "POINT", "REGISTER", "STATE", "LAST SEEN"))
    now = datetime.now(UTC)
    for device in found:
        ids = map(str, (device.device_id, device.point_id, device.register_id))
        state = "enabled" if device.is_enabled else "disabled"
        click.echo(row.format(*ids, state, _ago(device.last_seen_at, now)))


@ingest.command()
@_device_argument
@_as_json
def enable_device(device_id: UUID, as_json: bool) -> None:
    """Let a disabled recorder upload again."""
    _set_enabled(device_id, True, as_json)


@ingest.command()
@_device_argument
@_as_json
def disable_device(device_id: UUID, as_json: bool) -> None:
    """Refuse a recorder's uploads from now on; what it sent stays."""
    _set_enabled(device_id, False, as_json)


@ingest.command()
@_device_argument
@_token_option
@_as_json
def rotate_token(device_id: UUID, token: str | None, as_json: bool) -> None:
    """Give a recorder a new token; the old one stops working at once."""
    token = token or devices.generate_token()
    with _database() as connection:
        device = devices.update_device(connection, device_id, token=token)
    _show_device(device, token, as_json)


def _set_enabled(device_id: UUID, is_enabled: bool, as_json: bool) -> None:
    with _database() as connection:
        device = devices.update_device(connection, device_id, is_enabled=is_enabled)
    _show_device(device, None, as_json)


def _show_device(device: Device, token: str | None, as_json: bool) -> None:
    values = dump_device(device) | ({"token": token} if token else {})
    if as_json:
        click.echo(json.dumps(values, default=str))
        return
    for name, value in values.items():
        click.echo(f"{name:13} {value}")
    if token:
        click.echo("Keep the token now: it cannot be shown again.", err=True)


def _agent_config(device: Device, token: str, base_url: str) -> str:
    # Quoted as JSON, which is YAML as well.
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
    if instant is None:
        return "never"
    seconds = max(0, int((now - instant).total_seconds()))
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"
