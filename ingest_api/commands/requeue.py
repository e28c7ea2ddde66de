"""`flask ingest requeue`."""

import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from time import monotonic
from uuid import UUID

import click

from ingest_api.commands.context import opened, require_known, require_schema
from ingest_api.commands.output import progress_bar
from ingest_api.commands.parameters import (
    DurationParameter,
    TextParameter,
    UuidParameter,
    as_json_option,
    require_order,
    scope_options,
)
from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.models.chunks import ChunkStatus
from ingest_api.models.queue import RequeueSelection
from ingest_api.usecases.requeue import Refusal, refusals, requeue

_STATUSES = tuple(status for status in ChunkStatus if status is not ChunkStatus.PRUNED)


@dataclass
class _Plan:
    """The selected chunks by status, and those that cannot be requeued."""

    selected: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)  # of a status that is not selected
    file_missing: int = 0
    refused: list[Refusal] = field(default_factory=list)

    @property
    def leaves_something_undone(self) -> bool:
        return self.file_missing > 0 or not all(refusal.waits for refusal in self.refused)


@dataclass
class _Done:
    """How many chunks were requeued so far, and which another session was holding."""

    requeued: int = 0
    held: list[UUID] = field(default_factory=list)


@click.command()
@click.argument("chunk_ids", metavar="[CHUNK_ID]...", type=UuidParameter(), nargs=-1)
@scope_options
@click.option(
    "--error",
    "error_text",
    type=TextParameter(),
    help="Only chunks with TEXT in the error message (case-insensitive).",
)
@click.option(
    "--in-work-for",
    type=DurationParameter(),
    help="Only chunks claimed longer ago, such as 2h; requires --status PROCESSING.",
)
@click.option(
    "--status",
    "statuses",
    type=click.Choice(_STATUSES, case_sensitive=False),
    metavar="STATUS",
    multiple=True,
    default=(ChunkStatus.ERROR,),
    show_default=True,
    help=f"Only chunks of this status ({', '.join(_STATUSES)}). Can be repeated.",
)
@click.option("--all", "everything", is_flag=True, help="All chunks of the status.")
@click.option("--dry-run", is_flag=True, help="Only count the chunks.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@as_json_option
def requeue_command(
    chunk_ids: tuple[UUID, ...],
    point_id: UUID | None,
    device_id: UUID | None,
    recorded_from: datetime | None,
    recorded_until: datetime | None,
    error_text: str | None,
    in_work_for: timedelta | None,
    statuses: tuple[str, ...],
    everything: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Put chunks back into the queue with fresh attempts.

    Select chunks either by id or by options, which must all apply. Only failed chunks (ERROR) are
    selected unless --status says otherwise: DONE, to process them once more; PROCESSING, to take
    them from a worker that will not come back. A leased chunk comes back by itself when its lease
    expires; if it is taken earlier, its worker's result is refused. The result of a worker with
    plain SQL is not: it has no lease.

    With QUEUE_BACKEND=redis, requeued chunks are announced again; --status QUEUED does this for
    chunks that are waiting already.
    Without Redis, --status UPLOADED queues chunks that were left unannounced.

    Chunks whose file is missing stay as they are: bring the file back and run flask ingest fsck
    --repair. The service and the workers may keep running.

    Exit status 1 if a selected chunk was not requeued: it does not exist, has another status, its
    file is missing, or another session was holding it. The message says which and why.
    """
    scope = (point_id, device_id, recorded_from, recorded_until)
    ids = tuple(dict.fromkeys(chunk_ids)) or None
    selection = RequeueSelection(statuses, *scope, ids, error_text, in_work_for)
    _require_sense(selection, everything)
    started = monotonic()
    with opened() as (components, connection):
        waiting_status = components.settings.waiting_status
        _require_not_waiting(statuses, waiting_status)
        require_schema(components, connection)
        require_known(connection, point_id, device_id)
        plan = _look(connection, selection, waiting_status, others=dry_run and not ids)
        if dry_run:
            done = _Done()
            _show_plan(plan, as_json)
        else:
            _confirm(plan, unasked=yes or ids is not None)
            done = _requeue(connection, selection, waiting_status, plan)
            _show_done(done, plan, waiting_status, monotonic() - started, as_json)
    if plan.leaves_something_undone or done.held:
        raise click.exceptions.Exit(1)


def _require_sense(selection: RequeueSelection, everything: bool) -> None:
    given = {name for name, value in vars(selection).items() if value is not None} - {"statuses"}
    if not given and not everything:
        raise click.UsageError(
            "Say which chunks: ids, --device, --point, --from, --to, --error or --in-work-for; or "
            "--all"
        )
    if "chunk_ids" in given and (everything or len(given) > 1):
        raise click.UsageError("Give either ids or options that select chunks, not both")
    if selection.in_work_for is not None and selection.statuses != (ChunkStatus.PROCESSING,):
        raise click.UsageError("--in-work-for requires --status PROCESSING alone")
    require_order(selection.recorded_from, selection.recorded_until)


def _require_not_waiting(statuses: tuple[str, ...], waiting_status: ChunkStatus) -> None:
    if waiting_status in statuses:
        raise click.UsageError(
            f"These chunks are already {waiting_status}; omit --status {waiting_status}"
        )


def _look(
    connection: Connection,
    selection: RequeueSelection,
    waiting_status: ChunkStatus,
    *,
    others: bool,
) -> _Plan:
    """Return what would be requeued. With `others` also count other statuses, which may be slow."""
    plan = _Plan(refused=refusals(connection, selection, waiting_status=waiting_status))
    whole = replace(selection, statuses=_STATUSES) if others else selection
    for count in queries.queue.count_requeueable(connection, whole):
        if count.status not in selection.statuses:
            plan.others[count.status] += count.chunks
        elif not count.file_missing:
            plan.selected[count.status] += count.chunks
        elif selection.chunk_ids is None:  # otherwise it is among those refused
            plan.file_missing += count.chunks
    return plan


def _confirm(plan: _Plan, *, unasked: bool) -> None:
    """Ask for confirmation on a terminal."""
    if plan.selected and not unasked and sys.stdin.isatty():
        _show_plan(plan, as_json=False, err=True)
        click.confirm("Requeue them?", abort=True, err=True)


def _requeue(
    connection: Connection, selection: RequeueSelection, waiting_status: ChunkStatus, plan: _Plan
) -> _Done:
    done = _Done()
    batches = requeue(connection, selection, waiting_status=waiting_status)
    try:
        with progress_bar(plan.selected.total(), "chunks") as advance:
            for batch in batches:
                done.requeued += sum(is_requeued for _, is_requeued in batch)
                done.held += [chunk_id for chunk_id, is_requeued in batch if not is_requeued]
                advance(len(batch))
    except BaseException:
        click.echo(f"requeued {_chunks(done.requeued)} before it stopped", err=True)
        raise
    return done


def _show_plan(plan: _Plan, as_json: bool, *, err: bool = False) -> None:
    if as_json:
        would = {"would_requeue": plan.selected, "would_keep": plan.others}
        click.echo(json.dumps(would | _left(plan), default=str))
        return
    click.echo(f"would requeue {_by_status(plan.selected)}", err=err)
    if plan.others:
        others = _by_status(plan.others)
        click.echo(f"would keep {others}; see --status", err=err)
    _show_left(plan)


def _show_done(
    done: _Done, plan: _Plan, waiting_status: ChunkStatus, seconds: float, as_json: bool
) -> None:
    if as_json:
        told = asdict(done) | _left(plan) | {"status": waiting_status, "seconds": round(seconds, 1)}
        click.echo(json.dumps(told, default=str))
        return
    click.echo(f"requeued {_chunks(done.requeued)} (now {waiting_status}) in {seconds:.1f} s")
    _show_left(plan)
    for chunk_id in done.held[:10]:
        click.echo(f"not requeued: {chunk_id}: another session is holding it", err=True)
    if done.held:
        click.echo(f"{_chunks(len(done.held))} held by other sessions. Run it again", err=True)


def _left(plan: _Plan) -> dict[str, object]:
    refused = [asdict(refusal) for refusal in plan.refused]
    return {"file_missing": plan.file_missing, "refused": refused}


def _show_left(plan: _Plan) -> None:
    for refusal in plan.refused:
        click.echo(f"not requeued: {refusal.chunk_id}: {refusal.reason}", err=True)
    if plan.file_missing:
        click.echo(
            f"left {_chunks(plan.file_missing)} whose file is missing: bring it back and run: "
            "flask ingest fsck --repair",
            err=True,
        )


def _by_status(counts: Counter[str]) -> str:
    statuses = ", ".join(f"{number:,} {status}" for status, number in sorted(counts.items()))
    return _chunks(counts.total()) + (f": {statuses}" if statuses else "")


def _chunks(number: int) -> str:
    return "1 chunk" if number == 1 else f"{number:,} chunks"
