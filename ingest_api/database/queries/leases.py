"""What workers take, hold and give back."""

from datetime import timedelta
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from ingest_api.database.pool import Connection, statement
from ingest_api.models.chunks import ChunkProgress
from ingest_api.models.queue import Claim, ClaimedChunk, ExpiredLease, Failure, Turn
from ingest_api.models.retention import PRUNED_REMEMBERED


def get_chunk_progress(connection: Connection, chunk_id: UUID) -> ChunkProgress | None:
    with connection.cursor(row_factory=class_row(ChunkProgress)) as cursor:
        return cursor.execute(statement("get_chunk_progress"), {"chunk_id": chunk_id}).fetchone()


def is_pruned(connection: Connection, chunk_id: UUID) -> bool:
    values = {"chunk_id": chunk_id, "remembered": PRUNED_REMEMBERED}
    with connection.cursor(row_factory=scalar_row) as cursor:
        return bool(cursor.execute(statement("is_pruned"), values).fetchone())


def expire_leases(connection: Connection, *, max_attempts: int) -> list[ExpiredLease]:
    with connection.cursor(row_factory=class_row(ExpiredLease)) as cursor:
        cursor.execute(statement("expire_leases"), {"max_attempts": max_attempts})
        return cursor.fetchall()


def claim_chunks(
    connection: Connection, claim: Claim, *, in_turn: int, after: Turn, crowd: int
) -> list[ClaimedChunk]:
    """What is claimed, in no order. When more than `crowd` wait, up to `in_turn` of them are the
    oldest of the devices that come behind `after`."""
    point_id, device_id = after
    turn = {"in_turn": in_turn, "after_point": point_id, "after_device": device_id, "crowd": crowd}
    with connection.cursor(row_factory=class_row(ClaimedChunk)) as cursor:
        # Planned for these very values: only so can a shop's chunks be found by their index.
        cursor.execute(statement("claim_chunks"), vars(claim) | turn, prepare=False)
        return cursor.fetchall()


def claim_chunk(
    connection: Connection, chunk_id: UUID, *, worker: str, lease: timedelta
) -> ChunkProgress | None:
    """None when it does not wait."""
    values = {"chunk_id": chunk_id, "worker": worker, "lease": lease}
    with connection.cursor(row_factory=class_row(ChunkProgress)) as cursor:
        return cursor.execute(statement("claim_chunk"), values).fetchone()


def extend_lease(
    connection: Connection, chunk_id: UUID, *, attempt: int, lease: timedelta
) -> ChunkProgress | None:
    """None when it is not held under this attempt."""
    values = {"chunk_id": chunk_id, "attempt": attempt, "lease": lease}
    with connection.cursor(row_factory=class_row(ChunkProgress)) as cursor:
        return cursor.execute(statement("extend_lease"), values).fetchone()


def finish_chunk(connection: Connection, chunk_id: UUID, *, attempt: int) -> ChunkProgress | None:
    """None when it is not held under this attempt."""
    values = {"chunk_id": chunk_id, "attempt": attempt}
    with connection.cursor(row_factory=class_row(ChunkProgress)) as cursor:
        return cursor.execute(statement("finish_chunk"), values).fetchone()


def fail_chunk(
    connection: Connection, chunk_id: UUID, failure: Failure, *, attempt: int, max_attempts: int
) -> ChunkProgress | None:
    """None when it is not held under this attempt."""
    values = {"chunk_id": chunk_id, "attempt": attempt, "max_attempts": max_attempts}
    with connection.cursor(row_factory=class_row(ChunkProgress)) as cursor:
        return cursor.execute(statement("fail_chunk"), vars(failure) | values).fetchone()
