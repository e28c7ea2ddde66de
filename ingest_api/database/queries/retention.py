"""What retention selects, marks and removes."""

from datetime import datetime, timedelta
from uuid import UUID

from ingest_api.database.pool import Connection
from ingest_api.database.statements import rows, rows_unprepared, run, scalar, scalars
from ingest_api.models.retention import (
    PRUNED_REMEMBERED,
    PrunedChunk,
    Reference,
    Selection,
    Share,
    StatusCount,
)


def count_prunable(connection: Connection, selection: Selection) -> list[StatusCount]:
    """Return the count of every status, whatever the selection's statuses."""
    return rows(connection, StatusCount, "retention/count_prunable", **vars(selection))


def get_usual_delay(connection: Connection, *, received_from: datetime) -> timedelta | None:
    """Return how long after its end a recording was received lately; None if none was."""
    return scalar(connection, timedelta, "retention/get_usual_delay", received_from=received_from)


def get_share(
    connection: Connection, *, statuses: tuple[str, ...], received_before: datetime
) -> Share:
    values = {"statuses": list(statuses), "received_before": received_before}
    return rows_unprepared(connection, Share, "retention/get_share", **values)[0]


def mark_pruned(
    connection: Connection,
    selection: Selection,
    *,
    status: str,
    received_from: datetime | None,
    batch: int,
) -> list[PrunedChunk]:
    """Mark and return up to `batch` chunks of one status, received not before `received_from`."""
    values = vars(selection) | {"status": status, "received_from": received_from, "batch": batch}
    return rows_unprepared(connection, PrunedChunk, "retention/mark_pruned", **values)


def list_pruned(connection: Connection, *, after: UUID, batch: int) -> list[PrunedChunk]:
    return rows(connection, PrunedChunk, "retention/list_pruned", after=after, batch=batch)


def delete_pruned(connection: Connection, chunk_ids: list[UUID]) -> None:
    run(connection, "retention/delete_pruned", chunk_ids=chunk_ids)


def forget_pruned(connection: Connection, *, batch: int) -> int:
    """Return how many ids were forgotten."""
    values = {"remembered": PRUNED_REMEMBERED, "batch": batch}
    return run(connection, "retention/forget_pruned", **values)


def list_references(connection: Connection) -> list[Reference]:
    return rows(connection, Reference, "retention/list_references")


def filter_promised_paths(connection: Connection, file_paths: list[str]) -> list[str]:
    return scalars(connection, str, "retention/filter_promised_paths", file_paths=file_paths)
