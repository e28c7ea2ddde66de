"""The use case: lease each queued chunk to one worker at a time.

The attempt number is the fence: a worker's report under an attempt that is over changes nothing
(see sql/README.md, also for workers that use plain SQL). Knows nothing of HTTP.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import cycle
from typing import NoReturn
from uuid import UUID

from ingest_api.database import queries
from ingest_api.database.pool import Connection, Database
from ingest_api.errors import (
    ChunkFinished,
    ChunkInWork,
    ChunkLocked,
    LeaseLost,
)
from ingest_api.models.chunks import FIRST_ID, ChunkProgress, ChunkStatus
from ingest_api.models.queue import Claim, ClaimedChunk, Failure, Turn
from ingest_api.usecases.downloads import find_chunk

CROWD = 100
"""Up to this many waiting chunks are claimed by age alone. With more, one device may have been
offline for days. Then every second chunk is the oldest of the device whose turn it is, so that no
device waits for another's backlog."""

_FIRST_TURN: Turn = (FIRST_ID, FIRST_ID)
_log = logging.getLogger(__name__)


class Leases:
    """Leases chunks in one process. Each process takes the devices in turn by itself: that is as
    fair as a shared order, and needs no statement."""

    def __init__(self, database: Database, *, max_attempts: int) -> None:
        self._database = database
        self._max_attempts = max_attempts
        self._last_turns: dict[UUID | None, Turn] = {}  # by the point that was asked for
        self._odd_one = cycle((0, 1))  # whether the odd chunk of a claim is in turn

    def claim(self, claim: Claim) -> list[ChunkProgress]:
        """Claim chunks for a worker; return them, oldest recording first. DatabaseUnavailable."""
        in_turn = (claim.limit + next(self._odd_one)) // 2
        after = self._last_turns.get(claim.point_id, _FIRST_TURN)
        with self._transaction() as connection:
            self._expire(connection)
            chunks = queries.leases.claim_chunks(
                connection, claim, in_turn=in_turn, after=after, crowd=CROWD
            )
        if in_turn and chunks:
            self._remember_turn(claim.point_id, after, chunks[0])
        return sorted(chunks, key=lambda chunk: (chunk.start_ts, chunk.chunk_id))

    def claim_one(self, chunk_id: UUID, *, worker: str, lease: timedelta) -> ChunkProgress:
        """Claim a chunk that a worker has heard of. ChunkFinished, ChunkInWork, ChunkPruned,
        ChunkNotFound, DatabaseUnavailable."""
        with self._transaction() as connection:
            self._expire(connection)
            claimed = queries.leases.claim_chunk(connection, chunk_id, worker=worker, lease=lease)
            chunk = claimed or find_chunk(connection, chunk_id)
        if claimed is None and chunk.status in {ChunkStatus.DONE, ChunkStatus.ERROR}:
            raise ChunkFinished(f"{ChunkFinished.message}: it is {chunk.status}")
        if claimed is None:
            raise ChunkInWork
        return claimed

    def extend(self, chunk_id: UUID, *, attempt: int, lease: timedelta) -> ChunkProgress:
        """Extend a lease to end that long from now. LeaseLost, ChunkLocked, ChunkPruned,
        ChunkNotFound, DatabaseUnavailable."""
        with self._database.connection() as connection:
            extended = queries.leases.extend_lease(
                connection, chunk_id, attempt=attempt, lease=lease
            )
            return extended or _lost(find_chunk(connection, chunk_id), attempt)

    def finish(self, chunk_id: UUID, *, attempt: int) -> ChunkProgress:
        """Mark a chunk as done; a repeated report changes nothing. Errors as for `extend`."""
        with self._database.connection() as connection:
            finished = queries.leases.finish_chunk(connection, chunk_id, attempt=attempt)
            chunk = finished or find_chunk(connection, chunk_id)
        said_before = (chunk.status, chunk.attempts) == (ChunkStatus.DONE, attempt) and chunk.worker
        if finished is None and not said_before:
            _lost(chunk, attempt)
        return chunk

    def fail(self, chunk_id: UUID, failure: Failure, *, attempt: int) -> ChunkProgress:
        """Queue a chunk again or mark it as failed; a repeated report changes nothing. Errors as
        for `extend`."""
        with self._database.connection() as connection:
            failed = queries.leases.fail_chunk(
                connection, chunk_id, failure, attempt=attempt, max_attempts=self._max_attempts
            )
            chunk = failed or find_chunk(connection, chunk_id)
        said_before = (chunk.attempts, chunk.error_message) == (attempt, failure.message)
        has_effect = chunk.worker or chunk.status == ChunkStatus.QUEUED
        if failed is None and not (said_before and has_effect):
            _lost(chunk, attempt)
        return chunk

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Open a transaction. A claim that takes too long, or cannot be read, is rolled back:
        its worker would never hear of it."""
        with self._database.connection() as connection, connection.transaction():
            yield connection

    def _remember_turn(self, point_id: UUID | None, after: Turn, chunk: ClaimedChunk) -> None:
        if chunk.turn_point_id is None or chunk.turn_device_id is None:
            return
        last = (chunk.turn_point_id, chunk.turn_device_id)
        # If no device came after the last one, the first is next.
        self._last_turns[point_id] = last if last != after else _FIRST_TURN

    def _expire(self, connection: Connection) -> None:
        for expired in queries.leases.expire_leases(connection, max_attempts=self._max_attempts):
            _log.warning("%s is %s: %s", expired.chunk_id, expired.status, expired.error_message)


def _lost(chunk: ChunkProgress, attempt: int) -> NoReturn:
    """Raise ChunkLocked if the lease is still good, else LeaseLost. Another session has the row
    locked then, and an upload may need the connection that would wait for it."""
    is_held = (chunk.status, chunk.attempts) == (ChunkStatus.PROCESSING, attempt)
    if is_held and chunk.lease_expires_at:
        raise ChunkLocked
    raise LeaseLost(
        f"{LeaseLost.message}: attempt {attempt} is over, the chunk is {chunk.status} after "
        f"attempt {chunk.attempts}"
    )
