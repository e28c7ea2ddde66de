"""Puts chunks into the queue again, as if they had never been tried.

Batch by batch, so that uploads and claims hardly notice. A worker loses its chunk: the attempt
number is its fence, and with plain SQL it has none (see sql/README.md). Knows nothing of prompts
and output.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.models.chunks import FIRST_ID, ChunkFile, ChunkStatus
from ingest_api.models.queue import RequeuedChunk, RequeueSelection

BATCH = 1000
_BRING_BACK = "its file is missing: bring it back and run: flask ingest fsck --repair"


@dataclass(frozen=True)
class Refusal:
    """Why a named chunk cannot go into the queue."""

    chunk_id: UUID
    status: str | None  # None: there is no such chunk
    reason: str
    waits: bool = False  # because it is there already


def refusals(
    connection: Connection, selection: RequeueSelection, *, waiting_status: ChunkStatus
) -> list[Refusal]:
    """Return why `requeue` will pass over some of the selection's ids, in their order."""
    ids = list(selection.chunk_ids or ())
    found = {chunk.chunk_id: chunk for chunk in queries.files.get_chunk_files(connection, ids)}
    refused = (
        _refusal(found[chunk_id], selection.statuses, waiting_status)
        if chunk_id in found
        else _absence(connection, chunk_id)
        for chunk_id in ids
    )
    return [refusal for refusal in refused if refusal]


def _absence(connection: Connection, chunk_id: UUID) -> Refusal:
    removed = queries.chunks.is_pruned(connection, chunk_id)
    reason = "retention has removed it" if removed else "there is no such chunk"
    return Refusal(chunk_id, None, reason)


def _refusal(
    chunk: ChunkFile, statuses: tuple[str, ...], waiting_status: ChunkStatus
) -> Refusal | None:
    chunk_id, status = chunk.chunk_id, chunk.status
    if chunk.file_missing_since:
        return Refusal(chunk_id, status, _BRING_BACK)
    if status in statuses:
        return None
    if status == waiting_status:
        return Refusal(chunk_id, status, f"it is already {status}", waits=True)
    if status == ChunkStatus.PRUNED:
        return Refusal(chunk_id, status, "it is PRUNED: retention is removing it")
    return Refusal(chunk_id, status, f"it is {status}; to requeue it: --status {status}")


def requeue(
    connection: Connection, selection: RequeueSelection, *, waiting_status: ChunkStatus
) -> Iterator[list[RequeuedChunk]]:
    """Requeue the selection in the order of the ids; yield the ids of each batch, and whether they
    are requeued: not if another session holds them. `connection` must be in autocommit mode.

    Chunks that fsck marked for a missing file are passed over: a worker could not read them.
    """
    after = FIRST_ID
    while batch := queries.queue.requeue_chunks(
        connection, selection, waiting_status=waiting_status, after=after, batch=BATCH
    ):
        yield batch
        after = batch[-1].chunk_id
