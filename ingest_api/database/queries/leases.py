"""What workers claim, hold and give back."""

from datetime import timedelta
from uuid import UUID

from ingest_api.database.pool import Connection
from ingest_api.database.statements import row, rows, rows_unprepared
from ingest_api.models.chunks import ChunkProgress
from ingest_api.models.queue import Claim, ClaimedChunk, ExpiredLease, Failure, Turn


def expire_leases(connection: Connection, *, max_attempts: int) -> list[ExpiredLease]:
    return rows(connection, ExpiredLease, "leases/expire_leases", max_attempts=max_attempts)


def claim_chunks(
    connection: Connection, claim: Claim, *, in_turn: int, after: Turn, crowd: int
) -> list[ClaimedChunk]:
    """Return the claimed chunks, in no order. When more than `crowd` wait, up to `in_turn` of them
    are the oldest of the devices that come after `after`."""
    point_id, device_id = after
    turn = {"in_turn": in_turn, "after_point": point_id, "after_device": device_id, "crowd": crowd}
    values = vars(claim) | turn
    return rows_unprepared(connection, ClaimedChunk, "leases/claim_chunks", **values)


def claim_chunk(
    connection: Connection, chunk_id: UUID, *, worker: str, lease: timedelta
) -> ChunkProgress | None:
    """Return None when the chunk does not wait."""
    values = {"chunk_id": chunk_id, "worker": worker, "lease": lease}
    return row(connection, ChunkProgress, "leases/claim_chunk", **values)


def extend_lease(
    connection: Connection, chunk_id: UUID, *, attempt: int, lease: timedelta
) -> ChunkProgress | None:
    """Return None when the chunk is not leased under this attempt."""
    values = {"chunk_id": chunk_id, "attempt": attempt, "lease": lease}
    return row(connection, ChunkProgress, "leases/extend_lease", **values)


def finish_chunk(connection: Connection, chunk_id: UUID, *, attempt: int) -> ChunkProgress | None:
    """Return None when the chunk is not leased under this attempt."""
    values = {"chunk_id": chunk_id, "attempt": attempt}
    return row(connection, ChunkProgress, "leases/finish_chunk", **values)


def fail_chunk(
    connection: Connection, chunk_id: UUID, failure: Failure, *, attempt: int, max_attempts: int
) -> ChunkProgress | None:
    """Return None when the chunk is not leased under this attempt."""
    values = {"chunk_id": chunk_id, "attempt": attempt, "max_attempts": max_attempts}
    return row(connection, ChunkProgress, "leases/fail_chunk", **vars(failure), **values)
