"""`flask ingest migrate`."""

import json

import click

from ingest_api.commands.context import database
from ingest_api.commands.parameters import as_json_option
from ingest_api.database import migrations
from ingest_api.database.pool import Connection


@click.command()
@click.option(
    "--status", is_flag=True, help="Only show what is applied; exit status 1 unless current."
)
@click.option("--dry-run", is_flag=True, help="Only show what would be applied.")
@as_json_option
def migrate(status: bool, dry_run: bool, as_json: bool) -> None:
    """Bring the database's schema up to date.

    Safe to run again, and from several machines at once. Adopts the database of the earlier,
    Alembic-managed service in place.
    """
    if status and dry_run:
        raise click.UsageError("--status and --dry-run are mutually exclusive")
    with database() as connection:
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
