"""What `flask ingest prune` says that it would do, and that it has done."""

import json

import click

from ingest_api.display import megabytes
from ingest_api.models.chunks import ChunkStatus
from ingest_api.models.retention import Selection, StatusCount
from ingest_api.usecases import retention
from ingest_api.usecases.lost_files import LostTotals


def show_plan(
    counts: list[StatusCount],
    lost: LostTotals,
    selection: Selection,
    as_json: bool,
    *,
    err: bool = False,
) -> None:
    mentioned = {*selection.statuses, ChunkStatus.PRUNED}
    kinds = {
        "would_remove": [count for count in counts if count.status in selection.statuses],
        "would_finish": [count for count in counts if count.status == ChunkStatus.PRUNED],
        "would_keep": [count for count in counts if count.status not in mentioned],
    }
    if as_json:
        plan = {verb: [vars(count) for count in found] for verb, found in kinds.items()}
        click.echo(json.dumps(plan | {"lost_and_found": _dump_lost(lost)}))
        return
    click.echo(f"would remove {_total(kinds['would_remove'])}", err=err)
    if lost.files:
        click.echo(f"would remove {_lost_total(lost)}", err=err)
    if finish := kinds["would_finish"]:
        click.echo(f"would finish an interrupted run first: {_total(finish)}", err=err)
    if keep := kinds["would_keep"]:
        click.echo(f"would keep {_total(keep)}; see --status", err=err)


def show_removed(
    removed: retention.Batch,
    lost: LostTotals,
    kept: list[StatusCount],
    seconds: float,
    as_json: bool,
) -> None:
    if as_json:
        totals = vars(removed) | {"seconds": round(seconds, 1)}
        rest = {"lost_and_found": vars(lost), "kept": [vars(count) for count in kept]}
        click.echo(json.dumps({"removed": totals} | rest))
        return
    click.echo(f"removed {removed.chunks} chunks ({megabytes(removed.bytes)}) in {seconds:.1f} s")
    if lost.files:
        click.echo(f"removed {_lost_total(lost)}")
    if kept:
        click.echo(f"kept {_total(kept)}; see --status")
    if failed := removed.failed + lost.failed:
        click.echo(f"{failed} files could not be removed; the log says which", err=True)


def _dump_lost(lost: LostTotals) -> dict[str, int]:
    return {"files": lost.files, "bytes": lost.bytes}


def _lost_total(lost: LostTotals) -> str:
    return f"{lost.files} files ({megabytes(lost.bytes)}) that fsck had set aside"


def _total(counts: list[StatusCount]) -> str:
    chunks = sum(count.chunks for count in counts)
    statuses = ", ".join(f"{count.chunks} {count.status}" for count in counts)
    size = megabytes(sum(count.bytes for count in counts))
    return f"{chunks} chunks ({size})" + (f": {statuses}" if statuses else "")
