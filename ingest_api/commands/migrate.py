"""`flask ingest migrate`."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from threading import Event, Thread
from time import monotonic

import click
import psycopg

from ingest_api.commands.context import opened
from ingest_api.commands.parameters import as_json_option
from ingest_api.database import migrations, queries
from ingest_api.database.pool import Connection, connect
from ingest_api.settings import Settings

LOOK_SECONDS = 0.5
NOTICE_SECONDS = 5.0
"""How often migrate looks for what it waits for, and how often it reports that."""

_OPERATORS = "01ING"  # the SQLSTATE of a notice for operators


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
    with opened() as (components, connection):
        if status:
            _show_status(connection, as_json)
        elif dry_run:
            _show_migrations("would apply", migrations.pending(connection), as_json)
        else:
            with _waits_reported(components.settings, connection):
                _apply(connection, as_json)


def _apply(connection: Connection, as_json: bool) -> None:
    done = []
    connection.add_notice_handler(_show_notice)
    for migration in migrations.apply(connection):
        done.append(migration)
        if not as_json:
            click.echo(f"applied {migration.name}")
    if as_json or not done:
        _show_migrations("applied", done, as_json)


def _show_notice(notice: psycopg.errors.Diagnostic) -> None:
    """Print what a migration says to operators; PostgreSQL's own notices have another code."""
    if notice.sqlstate == _OPERATORS:
        click.echo(notice.message_primary, err=True)


@contextmanager
def _waits_reported(settings: Settings, connection: Connection) -> Iterator[None]:
    """Report on standard error, every few seconds, which sessions `connection` waits for."""
    ended = Event()
    arguments = (settings, connection.info.backend_pid, ended)
    reporter = Thread(target=_report_waits, args=arguments, daemon=True)
    reporter.start()
    try:
        yield
    finally:
        ended.set()
        reporter.join()


def _report_waits(settings: Settings, pid: int, ended: Event) -> None:
    """Look over a second connection, because the first one is waiting, and report."""
    notice_at = monotonic()
    with suppress(psycopg.Error), closing(connect(settings, seconds=None)) as connection:
        while not ended.wait(LOOK_SECONDS):
            if monotonic() < notice_at:
                continue
            if blockers := queries.server.list_blockers(connection, pid):
                click.echo(f"waiting for {', '.join(blockers)}", err=True)
                notice_at = monotonic() + NOTICE_SECONDS


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
