"""The use case: accept a chunk. Once this returns, neither its bytes nor its row can be lost. Knows
nothing of HTTP."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Generic
from uuid import UUID

import psycopg

from ingest_api.database import queries
from ingest_api.database.pool import Connection, Database
from ingest_api.errors import (
    ChecksumMismatch,
    DatabaseUnavailable,
    DeviceMismatch,
    EmptyFile,
    IdentityMismatch,
    InvalidToken,
)
from ingest_api.failpoints import Failpoint, reached
from ingest_api.models.chunks import (
    INTEGER_MAX,
    Chunk,
    ChunkStatus,
    NewChunk,
    Receipt,
    Recording,
    UploadForm,
)
from ingest_api.models.devices import Device
from ingest_api.storage.base import SpoolT, Store
from ingest_api.storage.layout import StoredPath, file_path_for
from ingest_api.stream.announcer import Announcer
from ingest_api.usecases.incoming import Incoming

MARK_SECONDS = 0.9
"""The limit of the statement that only completes an announcement; see database.pool.USE_SECONDS."""

_log = logging.getLogger(__name__)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Uploads(Generic[SpoolT]):
    """Uploads into one store: `receive` the bytes, `accept` the chunk, `announce` it."""

    def __init__(
        self,
        store: Store[SpoolT],
        database: Database,
        announcer: Announcer | None,  # None: chunks are not announced in Redis
        *,
        waiting_status: ChunkStatus,
        max_bytes: int,
    ) -> None:
        self._store = store
        self._database = database
        self._announcer = announcer
        self._waiting_status = waiting_status
        self._max_bytes = max_bytes

    @contextmanager
    def receive(self) -> Iterator[Incoming[SpoolT]]:
        """Lend a place for the bytes, removed at the end whatever happens. StorageFull,
        StorageUnavailable."""
        with self._store.spool() as spool:
            yield Incoming(spool, max_bytes=self._max_bytes)

    def accept(self, device: Device, form: UploadForm, incoming: Incoming[SpoolT]) -> Receipt:
        """Store a received recording under its final name, then record it.

        An upload that was accepted before gets its first receipt, and its file back if that was
        lost. DeviceMismatch, IdentityMismatch, ChecksumMismatch, EmptyFile, InvalidToken;
        StorageFull, StorageUnavailable, DatabaseUnavailable: then the agent sends again, which
        completes this upload.
        """
        recording = form.recording
        require_own(device, recording)
        if form.sha256 not in {None, incoming.sha256}:
            raise ChecksumMismatch
        if not incoming.size:
            raise EmptyFile
        chunk = new_chunk(recording, sha256=incoming.sha256, size=incoming.size)
        path = self._store.path_of(chunk)
        received = monotonic()
        version = self._store.store(incoming.spool, path, chunk.start_ts)
        stored = monotonic()
        inserted, known = self._record(chunk, form.clock_offset(incoming.begun_at))
        recorded = monotonic()
        reached(Failpoint.COMMITTED)
        if not inserted:
            # The id stands for this SHA-256, whatever the row says by now.
            path = self._store.path_of(replace(known, sha256=chunk.sha256))
            known = replace(known, file_path=path)
        if not self._holds(path, version):
            # The first upload came before its device moved to another register, and its path stays.
            # Or retention removed the first file just before the row was inserted again. Or the
            # same upload came twice at once, and the other has stored its own file there.
            self._store.store(incoming.spool, path, known.start_ts)
        return Receipt(known, not inserted, (incoming.begun, received, stored, recorded))

    def announce(self, receipt: Receipt) -> Receipt:
        """Announce an UPLOADED chunk in Redis; return the receipt, which then says queued.

        Raises nothing: the chunk is safe, and the relay announces it if this fails.
        """
        chunk = receipt.chunk
        if self._announcer is None or chunk.status != ChunkStatus.UPLOADED:
            return receipt
        if not self._announcer.announce(chunk):
            return receipt
        try:
            with self._database.upload_connection(chunk.device_id, MARK_SECONDS) as connection:
                queries.stream.mark_queued(connection, [chunk.chunk_id])
        except (DatabaseUnavailable, psycopg.Error) as error:
            cause = error.cause if isinstance(error, DatabaseUnavailable) else error
            _log.warning(
                "a chunk will be announced twice, because it could not be marked: %s", cause
            )
            return receipt
        return replace(receipt, chunk=replace(chunk, status=ChunkStatus.QUEUED))

    def _record(self, chunk: NewChunk, clock_offset: timedelta | None) -> tuple[bool, Chunk]:
        """Insert the row; return whether it is new, and the row."""
        try:
            with self._database.upload_connection(chunk.device_id) as connection:
                status = self._waiting_status
                inserted = queries.chunks.insert_chunk(
                    connection, chunk, status=status, clock_offset=clock_offset
                )
                known = inserted or self._known(connection, chunk.chunk_id)
        except psycopg.errors.ForeignKeyViolation:
            raise InvalidToken from None  # the device was deleted meanwhile
        if known is None:
            raise DatabaseUnavailable("The chunk was removed while it was being sent; try again")
        if known.status == ChunkStatus.PRUNED:
            raise DatabaseUnavailable("Retention is removing this chunk; try again")
        return inserted is not None, known

    def _known(self, connection: Connection, chunk_id: UUID) -> Chunk | None:
        """Return the first upload's row, restored if it failed because its file was missing."""
        known = queries.chunks.get_chunk(connection, chunk_id)
        if not known or known.status != ChunkStatus.ERROR:
            return known
        restored = queries.files.restore_chunk(
            connection, chunk_id, waiting_status=self._waiting_status
        )
        return queries.chunks.get_chunk(connection, chunk_id) if restored else known

    def _holds(self, path: StoredPath, version: str) -> bool:
        """Return whether the file under `path` is the one just stored. Another may have the same
        bytes, but may not be durable yet."""
        status = self._store.status(path)
        return status is not None and status.version == version


def new_chunk(recording: Recording, *, sha256: bytes, size: int) -> NewChunk:
    """Name a recording: the same upload always gets the same id and the same path."""
    chunk_id = chunk_id_for(recording.device_id, recording.start_ts, sha256)
    return NewChunk(
        **vars(recording),
        chunk_id=chunk_id,
        duration_sec=_duration_sec(recording),
        file_path=file_path_for(recording, chunk_id),
        file_size_bytes=size,
        sha256=sha256,
    )


def chunk_id_for(device_id: UUID, start_ts: datetime, sha256: bytes) -> UUID:
    """Compute a UUIDv8 (RFC 9562, section 5.8) from the upload.

    48 bits of Unix milliseconds, as in a UUIDv7, so that ids sort by recording time and new rows
    go to the end of the index; the rest is a hash. Before 1970 the time is 0.
    """
    microseconds = (start_ts - _EPOCH) // timedelta(microseconds=1)
    identity = device_id.bytes + microseconds.to_bytes(8, "big", signed=True) + sha256
    digest = int.from_bytes(hashlib.sha256(identity).digest()[:16], "big")
    milliseconds = max(0, microseconds // 1000)
    return UUID(
        int=(milliseconds << 80)
        | (0x8 << 76)
        | (digest & (0xFFF << 64))
        | (0b10 << 62)
        | (digest & ((1 << 62) - 1))
    )


def _duration_sec(recording: Recording) -> int:
    """Return whole seconds; a clock that was set during the recording makes them decades."""
    seconds = round((recording.end_ts - recording.start_ts).total_seconds())
    return min(seconds, INTEGER_MAX)


def require_own(device: Device, recording: Recording) -> None:
    """Refuse what is no recording of this device. DeviceMismatch, IdentityMismatch."""
    if recording.device_id != device.device_id:
        raise DeviceMismatch
    if (recording.point_id, recording.register_id) != (device.point_id, device.register_id):
        raise IdentityMismatch
