"""`flask ingest prune`."""

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
from ingest_api.commands.prune_report import show_plan, show_removed
from ingest_api.components import Components
from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.logs import logging_config
from ingest_api.models.chunks import ChunkStatus
from ingest_api.models.retention import Selection, StatusCount
from ingest_api.settings import Settings
from ingest_api.usecases import retention
from ingest_api.usecases.adoption import Adoption
from ingest_api.usecases.lost_files import LostFiles

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
    unless --status names theirs. What fsck has set aside, in .lost+found, is removed likewise, by
    the time of its file and by what its name says, but not if --status selects.

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
        lost = _lost_files(components, connection, selection)
        selection = _with_every_status(connection, selection)
        if dry_run:
            show_plan(_count(connection, selection), lost.count(), selection, as_json)
            return
        retention.require_usual_share(connection, selection, force=force)
        expected = 0 if yes or not sys.stdin.isatty() else _confirm(connection, selection, lost)
        with maintenance(components, connection, exclusive=True, force=force):
            removed = _remove(components, connection, selection, batch, rate, expected)
            set_aside = lost.remove()
        kept = _kept(connection, selection)
    show_removed(removed, set_aside, kept, monotonic() - started, as_json)
    if removed.failed or set_aside.failed or _is_any(kept, selection.statuses):
        raise click.exceptions.Exit(1)


def _count(connection: Connection, selection: Selection) -> list[StatusCount]:
    return queries.retention.count_prunable(connection, selection)


def _is_any(counts: list[StatusCount], statuses: tuple[str, ...]) -> bool:
    return any(count.status in statuses for count in counts)


def _with_every_status(connection: Connection, selection: Selection) -> Selection:
    """Return the selection with the statuses that there are in place of `ALL`."""
    if ALL not in selection.statuses:
        return selection
    found = {count.status for count in _count(connection, selection)} - {ChunkStatus.PRUNED}
    return replace(selection, statuses=tuple(found))


def _kept(connection: Connection, selection: Selection) -> list[StatusCount]:
    """Return what is left after an erasure."""
    is_erasure = selection.point_id or selection.device_id
    return _count(connection, selection) if is_erasure else []


def _received_before(
    connection: Connection, older_than: timedelta | None, force: bool
) -> datetime | None:
    if older_than is None:
        return None
    return retention.received_before(connection, older_than, force=force)


def _lost_files(components: Components, connection: Connection, selection: Selection) -> LostFiles:
    """Return those that go; none if only some statuses are selected, because they have none."""
    files, waiting = components.storage, components.settings.waiting_status
    adoption = Adoption(connection, files, waiting_status=waiting)
    statuses = set(selection.statuses)
    whole = ALL in statuses or {ChunkStatus.DONE, ChunkStatus.ERROR} <= statuses
    return LostFiles(files, selection if whole else None, adoption)


def _confirm(connection: Connection, selection: Selection, lost: LostFiles) -> int:
    """Ask for confirmation, and return the number of chunks to remove."""
    counts = _count(connection, selection)
    show_plan(counts, lost.count(), selection, as_json=False, err=True)
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
