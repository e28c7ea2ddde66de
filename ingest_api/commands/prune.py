"""`flask ingest prune`."""

import json
import logging.config
import logging.handlers
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from uuid import UUID

import click

from ingest_api.commands.context import maintenance, opened, require_known, require_schema
from ingest_api.commands.output import progress_bar
from ingest_api.commands.parameters import (
    DurationParameter,
    as_json_option,
    require_order,
    scope_options,
)
from ingest_api.components import Components
from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.display import megabytes
from ingest_api.logs import logging_config
from ingest_api.models.chunks import ChunkStatus
from ingest_api.models.retention import Selection, StatusCount
from ingest_api.settings import Settings
from ingest_api.usecases import retention

ALL = "ALL"


class StatusParameter(click.ParamType[str]):
    """A status of this service (case-insensitive) or of the earlier one, or ALL."""

    name = "status"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value.upper() == ALL:
            return ALL
        if value.upper() == ChunkStatus.PRUNED:
            self.fail("PRUNED chunks are removed anyway", param, ctx)
        return value.upper() if value.upper() in ChunkStatus.__members__ else value


@click.command()
@click.option(
    "--older-than",
    type=DurationParameter(),
    help="Only chunks received longer ago, such as 90d.",
)
@scope_options
@click.option(
    "--status",
    "statuses",
    type=StatusParameter(),
    multiple=True,
    default=(ChunkStatus.DONE, ChunkStatus.ERROR),
    show_default=True,
    help="Only chunks of this status; all: of any. Can be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Only count the chunks.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option(
    "--batch",
    type=click.IntRange(1, 10_000),
    default=500,
    show_default=True,
    help="Chunks per batch.",
)
@click.option(
    "--rate",
    type=click.IntRange(min=0),
    default=500,
    show_default=True,
    help="Chunks per second, at most; 0: no limit.",
)
@click.option(
    "--cascade", is_flag=True, help="Also delete rows of other tables that reference the chunks."
)
@click.option(
    "--force",
    is_flag=True,
    help="Proceed even if files are missing, the clock seems wrong, or most chunks would go.",
)
@as_json_option
def prune(
    older_than: timedelta | None,
    point_id: UUID | None,
    device_id: UUID | None,
    recorded_from: datetime | None,
    recorded_until: datetime | None,
    statuses: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    batch: int,
    rate: int,
    cascade: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Remove chunks that are no longer wanted, rows and files.

    For retention: --older-than 90d. For a person's right to erasure: --device or --point, with
    --from and --to; a chunk that overlaps the time is removed whole. Unprocessed chunks are kept
    unless --status names theirs.

    The service may keep running. An interrupted run is finished first. Exit status 1 if anything
    could not be removed or, with --device or --point, a worker was holding it.
    """
    if older_than is None and not (point_id or device_id):
        raise click.UsageError("Say what to remove: --older-than, --device or --point")
    require_order(recorded_from, recorded_until)
    started = monotonic()
    with opened() as (components, connection):
        require_schema(components, connection)
        require_known(connection, point_id, device_id)
        retention.require_no_references(connection, cascade=cascade)
        before = _received_before(connection, older_than, force)
        scope = (point_id, device_id, recorded_from, recorded_until)
        selection = Selection(statuses, *scope, received_before=before)
        if ALL in statuses:
            selection = replace(selection, statuses=_every_status(connection, selection))
        if dry_run:
            _show_plan(queries.retention.count_prunable(connection, selection), selection, as_json)
            return
        retention.require_usual_share(connection, selection, force=force)
        expected = 0 if yes or not sys.stdin.isatty() else _confirm(connection, selection)
        with maintenance(components, connection, exclusive=True, force=force):
            removed = _remove(components, connection, selection, batch, rate, expected)
        look_again = point_id or device_id
        kept = queries.retention.count_prunable(connection, selection) if look_again else []
    _show_removed(removed, kept, monotonic() - started, as_json)
    if removed.failed or any(count.status in selection.statuses for count in kept):
        raise click.exceptions.Exit(1)


def _every_status(connection: Connection, selection: Selection) -> tuple[str, ...]:
    counts = queries.retention.count_prunable(connection, selection)
    return tuple({count.status for count in counts} - {ChunkStatus.PRUNED})


def _received_before(
    connection: Connection, older_than: timedelta | None, force: bool
) -> datetime | None:
    if older_than is None:
        return None
    return retention.received_before(connection, older_than, force=force)


def _confirm(connection: Connection, selection: Selection) -> int:
    """Ask for confirmation, and return the number of chunks to remove."""
    counts = queries.retention.count_prunable(connection, selection)
    _show_plan(counts, selection, as_json=False, err=True)
    click.confirm("Remove them?", abort=True, err=True)
    return sum(count.chunks for count in counts if count.status in selection.statuses)


def _remove(
    components: Components,
    connection: Connection,
    selection: Selection,
    batch: int,
    rate: int,
    expected: int,
) -> retention.Batch:
    _log_batches(components.settings)
    removed = retention.Batch()
    batches = retention.prune(
        connection, components.storage, selection, batch_size=batch, chunks_per_second=rate or None
    )
    try:
        with progress_bar(expected, "chunks") as advance:
            for done in batches:
                removed += done
                advance(done.chunks)
    except BaseException:
        told = f"removed {removed.chunks} chunks before it stopped"
        click.echo(f"{told}; the next run finishes the batch that it was at", err=True)
        raise
    return removed


def _log_batches(settings: Settings) -> None:
    """Log to standard error or, while a bar is drawn there, to the system's log."""
    config = logging_config(settings)
    if sys.stderr.isatty():
        system: dict[str, str] = {"class": "logging.handlers.SysLogHandler", "address": "/dev/log"}
        there = Path("/dev/log").exists()
        handler = system if there else {"class": "logging.NullHandler"}
        config["handlers"] = {"stderr": handler | {"formatter": "json"}}
    logging.config.dictConfig(config)


def _show_plan(
    counts: list[StatusCount], selection: Selection, as_json: bool, *, err: bool = False
) -> None:
    mentioned = {*selection.statuses, ChunkStatus.PRUNED}
    kinds = {
        "would_remove": [count for count in counts if count.status in selection.statuses],
        "would_finish": [count for count in counts if count.status == ChunkStatus.PRUNED],
        "would_keep": [count for count in counts if count.status not in mentioned],
    }
    if as_json:
        plan = {verb: [vars(count) for count in found] for verb, found in kinds.items()}
        click.echo(json.dumps(plan))
        return
    click.echo(f"would remove {_total(kinds['would_remove'])}", err=err)
    if finish := kinds["would_finish"]:
        click.echo(f"would finish an interrupted run first: {_total(finish)}", err=err)
    if keep := kinds["would_keep"]:
        click.echo(f"would keep {_total(keep)}; see --status", err=err)


def _show_removed(
    removed: retention.Batch, kept: list[StatusCount], seconds: float, as_json: bool
) -> None:
    if as_json:
        totals = vars(removed) | {"seconds": round(seconds, 1)}
        click.echo(json.dumps({"removed": totals, "kept": [vars(count) for count in kept]}))
        return
    click.echo(f"removed {removed.chunks} chunks ({megabytes(removed.bytes)}) in {seconds:.1f} s")
    if kept:
        click.echo(f"kept {_total(kept)}; see --status")
    if removed.failed:
        click.echo(f"{removed.failed} files could not be removed; the log says which", err=True)


def _total(counts: list[StatusCount]) -> str:
    chunks = sum(count.chunks for count in counts)
    statuses = ", ".join(f"{count.chunks} {count.status}" for count in counts)
    size = megabytes(sum(count.bytes for count in counts))
    return f"{chunks} chunks ({size})" + (f": {statuses}" if statuses else "")
