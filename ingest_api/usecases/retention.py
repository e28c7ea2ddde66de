"""Removes chunks that are no longer wanted. At no time does a row promise a file that is gone.

Batch by batch: mark the rows PRUNED, which ends every claim; remove the files; delete the rows. A
crash leaves marked rows, which the next run finishes. The caller holds the lock of `DiskUpkeep`:
another run must not delete a row, and so let an upload store the chunk anew, while this one is
still about to remove the file.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic, sleep
from typing import Any

from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.errors import OperatorError, StorageUnavailable
from ingest_api.models.chunks import FIRST_ID
from ingest_api.models.retention import PrunedChunk, Selection
from ingest_api.storage.base import Store

MOST_CLOCK_SECONDS = 60.0
LEAST_LEAP = timedelta(hours=1)  # of a clock, that is noticed
FEW = 100  # chunks that raise no doubt about the clock: two hours of a device

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """The totals of one step. The log names the files that could not be removed."""

    chunks: int = 0
    bytes: int = 0
    failed: int = 0

    def __add__(self, other: "Batch") -> "Batch":
        return Batch(
            self.chunks + other.chunks, self.bytes + other.bytes, self.failed + other.failed
        )


class Refused(OperatorError):
    """The run would remove more than was meant."""


def received_before(connection: Connection, older_than: timedelta, *, force: bool) -> datetime:
    """Return the time before which chunks of that age were received, by PostgreSQL's clock, which
    dated them. Refused when a clock is wrong, or every chunk would be that old."""
    now = queries.server.get_server_clock(connection)
    off = abs(now - datetime.now(UTC)).total_seconds()
    if off > MOST_CLOCK_SECONDS:
        raise Refused(
            f"The clocks of this machine and of PostgreSQL are {off:.0f} s apart", "correct them"
        )
    if not force:
        _require_plausible_clock(connection, now, older_than)
    return now - older_than


def require_usual_share(connection: Connection, selection: Selection, *, force: bool) -> None:
    """Raise Refused if all chunks of some age are to go and they are more than those that stay."""
    if force or not selection.received_before or selection.device_id or selection.point_id:
        return
    share = queries.retention.get_share(
        connection, statuses=selection.statuses, received_before=selection.received_before
    )
    if share.before > FEW and share.before > share.since:
        raise Refused(
            f"It would remove {share.before} of {share.before + share.since} chunks",
            "check the clock and --older-than; if so many are meant, as at the first time in an "
            "old store, add --force",
        )


def _require_plausible_clock(connection: Connection, now: datetime, older_than: timedelta) -> None:
    """Raise Refused if the clock that dates receipts seems to be ahead.

    Since a clock has leapt ahead, each recording seems to be received long after its end. The
    median of the devices tells that from a clock behind in one of them, or a spool that arrives
    late. A leap of a tenth of `older_than` is not noticed.
    """
    told = f"check the clock, which says {now:%Y-%m-%d %H:%M}; if it is right, add --force"
    last = queries.devices.get_last_seen(connection)
    if last and last < now - older_than:
        raise Refused(
            f"No device was seen since {last:%Y-%m-%d %H:%M} UTC, so every chunk would be removed",
            told,
        )
    most = max(older_than / 10, LEAST_LEAP)
    delay = queries.retention.get_usual_delay(connection, received_from=now - most)
    if delay and delay > most:
        raise Refused(
            f"Most devices' latest recordings were received {_in_words(delay)} after their end",
            told,
        )


def _in_words(delay: timedelta) -> str:
    return f"{delay.days} days" if delay.days > 1 else f"{delay / timedelta(hours=1):.0f} h"


def require_no_references(connection: Connection, *, cascade: bool) -> None:
    """Raise Refused if other tables reference chunks, unless their rows may be deleted too."""
    references = queries.retention.list_references(connection)
    blocking = [found.table_name for found in references if found.on_delete in {"a", "r"}]
    if blocking:
        raise Refused(
            f"{', '.join(blocking)} references chunks, and its foreign key prevents their deletion",
            "make the foreign key ON DELETE CASCADE or SET NULL",
        )
    if references and not cascade:
        names = ", ".join(found.table_name for found in references)
        raise Refused(
            f"Rows in {names} reference these chunks", "pass --cascade to delete them as well"
        )


def prune(
    connection: Connection,
    store: Store[Any],
    selection: Selection,
    *,
    batch_size: int,
    chunks_per_second: float | None = None,
) -> Iterator[Batch]:
    """Remove chunks that an earlier run has left, then the selection, oldest first; yield each
    batch when it is gone for good. `connection` must be in autocommit mode.

    A file that cannot be removed stays, with its marked row, for the next run. StorageUnavailable
    if that happens to a whole batch just marked: then the disk is at fault.
    """
    while queries.retention.forget_pruned(connection, batch=batch_size):
        pass
    seconds = 1 / chunks_per_second if chunks_per_second else 0.0
    for chunks in _left_behind(connection, batch_size):
        with _paced(seconds * len(chunks)):
            yield _remove(connection, store, chunks)
    for chunks in _mark(connection, selection, batch_size):
        with _paced(seconds * len(chunks)):
            batch = _remove(connection, store, chunks)
            yield batch
        if not batch.chunks:
            raise StorageUnavailable("No file can be removed; the log says why")


def _left_behind(connection: Connection, batch_size: int) -> Iterator[list[PrunedChunk]]:
    after = FIRST_ID
    while left := queries.retention.list_pruned(connection, after=after, batch=batch_size):
        after = left[-1].chunk_id
        yield left


def _mark(
    connection: Connection, selection: Selection, batch_size: int
) -> Iterator[list[PrunedChunk]]:
    for status in selection.statuses:
        received_from = None  # to skip dead rows, which each batch would read again
        while marked := queries.retention.mark_pruned(
            connection, selection, status=status, received_from=received_from, batch=batch_size
        ):
            received_from = max(chunk.created_at for chunk in marked)
            yield marked


@contextmanager
def _paced(seconds: float) -> Iterator[None]:
    """Take no less than this long. A batch is yielded before the wait, so that one that is
    interrupted there has been counted."""
    started = monotonic()
    yield
    sleep(max(0.0, seconds - (monotonic() - started)))


def _remove(connection: Connection, store: Store[Any], chunks: list[PrunedChunk]) -> Batch:
    paths = {chunk.chunk_id: store.path_of(chunk) for chunk in chunks}
    promised = _promised_by_others(connection, chunks)
    failures = store.remove(
        {
            paths[chunk.chunk_id]: chunk.start_ts
            for chunk in chunks
            if chunk.file_path not in promised
        }
    )
    removed = [chunk for chunk in chunks if paths[chunk.chunk_id] not in failures]
    queries.retention.delete_pruned(connection, [chunk.chunk_id for chunk in removed])
    size = sum(chunk.file_size_bytes for chunk in removed)
    batch = Batch(len(removed), size, len(failures))
    _log.info("pruned", extra=vars(batch))
    for file_path, reason in failures.items():
        _log.error("not removed: %s: %s", file_path, reason)
    return batch


def _promised_by_others(connection: Connection, chunks: list[PrunedChunk]) -> set[str]:
    """Return the paths that other rows still name. Only rows of the earlier service may share a
    file."""
    odd = [chunk.file_path for chunk in chunks if chunk.sha256 is None]
    return set(queries.retention.filter_promised_paths(connection, odd)) if odd else set()
