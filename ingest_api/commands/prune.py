"""`flask ingest prune`."""

import json
import logging.config
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from uuid import UUID

import click

from ingest_api import migrations, queries, retention
from ingest_api.commands.common import (
    DurationParameter,
    InstantParameter,
    UuidParameter,
    as_json_option,
    database,
    progress_bar,
)
from ingest_api.database import Connection
from ingest_api.logs import logging_config
from ingest_api.models import Selection, StatusCount
from ingest_api.settings import Settings
from ingest_api.stored_files import StoredFiles

STATUSES = ("UPLOADED", "QUEUED", "PROCESSING", "DONE", "ERROR")


@click.command()
@click.option("--older-than", type=DurationParameter(), help="Received longer ago, such as 90d.")
@click.option("--point", "point_id", type=UuidParameter(), help="Only of this shop.")
@click.option("--device", "device_id", type=UuidParameter(), help="Only of this recorder.")
@click.option(
    "--from", "recorded_from", type=InstantParameter(), help="Only what was recorded after."
)
@click.option(
    "--to", "recorded_until", type=InstantParameter(), help="Only what was recorded before."
)
@click.option(
    "--status",
    "statuses",
    type=click.Choice(STATUSES, case_sensitive=False),
    multiple=True,
    default=("DONE", "ERROR"),
    show_default=True,
    help="Only of this status; can be given several times.",
)
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--yes", is_flag=True, help="Do not ask, on a terminal, whether to go on.")
@click.option(
    "--batch", type=click.IntRange(1, 10_000), default=500, show_default=True, help="Chunks a step."
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    default=500,
    show_default=True,
    help="Chunks a second, at most; 0: as fast as it goes.",
)
@as_json_option
def prune(
    older_than: timedelta | None,
    point_id: UUID | None,
    device_id: UUID | None,
    recorded_from: datetime | None,
    recorded_until: datetime | None,
    statuses: Sequence[str],
    dry_run: bool,
    yes: bool,
    batch: int,
    rate: float,
    as_json: bool,
) -> None:
    """Remove chunks, rows and files, that are no longer wanted.

    For retention: --older-than 90d. For a person's right to erasure: --device or --point, with
    --from and --to; a chunk that overlaps the time goes whole. What has not been processed is kept
    unless its status is named.

    The service may go on running, and an interrupted run is finished by the next one.
    """
    if not (older_than or point_id or device_id):
        raise click.UsageError("say what to remove: --older-than, --device or --point")
    received_before = datetime.now(UTC) - older_than if older_than else None
    selection = Selection(
        tuple(statuses), received_before, point_id, device_id, recorded_from, recorded_until
    )
    with database() as connection:
        migrations.require_current(connection)
        if dry_run:
            _show_plan(queries.count_prunable(connection, selection), selection, as_json)
            return
        expected = 0 if yes or not sys.stdin.isatty() else _confirm(connection, selection)
        started = monotonic()
        removed = _remove(connection, selection, batch, rate, expected)
        _show_removed(removed, monotonic() - started, as_json)


def _confirm(connection: Connection, selection: Selection) -> int:
    """Ask the person who is watching; how many chunks it will be."""
    counts = queries.count_prunable(connection, selection)
    _show_plan(counts, selection, as_json=False)
    click.confirm("Remove them?", abort=True, err=True)
    return sum(count.chunks for count in counts if count.status in selection.statuses)


def _remove(
    connection: Connection, selection: Selection, batch: int, rate: float, expected: int
) -> retention.Batch:
    settings = Settings.from_environ()
    if not sys.stderr.isatty():  # where a bar would be drawn
        logging.config.dictConfig(logging_config(settings.log_level))
    files = StoredFiles(settings.audio_storage_dir)
    files.require_recordings()
    removed = retention.Batch(0, 0)
    batches = retention.prune(
        connection, files, selection, batch_size=batch, chunks_per_second=rate or None
    )
    with progress_bar(expected, "chunks") as advance:
        for done in batches:
            removed = retention.Batch(removed.chunks + done.chunks, removed.bytes + done.bytes)
            advance(done.chunks)
    return removed


def _show_plan(counts: list[StatusCount], selection: Selection, as_json: bool) -> None:
    chosen = [count for count in counts if count.status in selection.statuses]
    others = [count for count in counts if count.status not in selection.statuses]
    if as_json:
        plan = {"would_remove": chosen, "would_keep": others}
        click.echo(
            json.dumps({verb: [vars(count) for count in found] for verb, found in plan.items()})
        )
        return
    click.echo(f"would remove {_total(chosen)}")
    if others:
        click.echo(f"would keep, because of its status, {_total(others)}; see --status")


def _show_removed(removed: retention.Batch, seconds: float, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"removed": vars(removed) | {"seconds": round(seconds, 1)}}))
    else:
        size = _megabytes(removed.bytes)
        click.echo(f"removed {removed.chunks} chunks ({size}) in {seconds:.1f} s")


def _total(counts: list[StatusCount]) -> str:
    chunks = sum(count.chunks for count in counts)
    statuses = ", ".join(f"{count.chunks} {count.status}" for count in counts)
    size = _megabytes(sum(count.bytes for count in counts))
    return f"{chunks} chunks ({size})" + (f": {statuses}" if statuses else "")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
