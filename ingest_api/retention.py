"""Removes chunks that are no longer wanted, so that at no time a row promises a file that is gone.

Batch by batch: mark the rows PRUNED and commit, which takes them out of everybody's hands; then, in
one transaction, delete the rows, remove the files, and commit. A crash in between leaves marked
rows, which the next run finishes. An upload of the very same chunk waits for that commit and then
stores it anew (`ingest.accept_chunk` looks whether its file was still there).
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic, sleep
from uuid import UUID

from ingest_api import queries
from ingest_api.database import Connection
from ingest_api.models import Selection
from ingest_api.stored_files import StoredFiles

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """What was removed in one step."""

    chunks: int
    bytes: int


def prune(
    connection: Connection,
    files: StoredFiles,
    selection: Selection,
    *,
    batch_size: int,
    chunks_per_second: float | None = None,
) -> Iterator[Batch]:
    """Remove what is selected, oldest first, yielding each batch when it is gone for good.

    `connection` must be in autocommit mode. StorageUnavailable when the disk fails: what is marked
    by then is finished by the next run.
    """
    for ids in _mark(connection, selection, batch_size):
        started = monotonic()
        yield _remove(connection, files, ids)
        if chunks_per_second:
            sleep(max(0.0, len(ids) / chunks_per_second - (monotonic() - started)))


def _mark(connection: Connection, selection: Selection, batch_size: int) -> Iterator[list[UUID]]:
    """The ids of what is to be removed next: first what an earlier run has left behind."""
    while ids := queries.list_pruned(connection, batch=batch_size):
        yield ids
    for status in selection.statuses:
        received_from = None  # so that what is dead already is not read again and again
        while marked := queries.mark_pruned(
            connection, selection, status=status, received_from=received_from, batch=batch_size
        ):
            received_from = max(chunk.created_at for chunk in marked)
            yield [chunk.chunk_id for chunk in marked]


def _remove(connection: Connection, files: StoredFiles, ids: list[UUID]) -> Batch:
    with connection.transaction():
        pruned = queries.delete_pruned(connection, ids)
        files.remove(pruned)
    batch = Batch(len(pruned), sum(file.file_size_bytes for file in pruned))
    _log.info("pruned", extra=vars(batch))
    return batch
