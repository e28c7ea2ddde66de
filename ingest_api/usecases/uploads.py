"""The use case: accept a chunk, so that once this returns neither its bytes nor its row can be
lost. Knows nothing of HTTP."""

import hashlib
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg

from ingest_api.database import queries
from ingest_api.database.pool import Connection, Database
from ingest_api.errors import (
    DatabaseUnavailable,
    DeviceMismatch,
    EmptyFile,
    IdentityMismatch,
    InvalidToken,
)
from ingest_api.failpoints import Failpoint, reached
from ingest_api.models.chunks import INTEGER_MAX, Chunk, Device, NewChunk, Receipt, Recording
from ingest_api.storage.disk.storage import DiskStorage
from ingest_api.storage.disk.temporary import Incoming
from ingest_api.storage.layout import file_path_for
from ingest_api.stream.announcer import Announcer

MARK_SECONDS = 0.9
"""For the statement that only completes an announcement; see database.USE_SECONDS."""

_log = logging.getLogger(__name__)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def accept_chunk(  # noqa: PLR0913  the last three are the service
    device: Device,
    recording: Recording,
    incoming: Incoming,
    *,
    storage: DiskStorage,
    database: Database,
    waiting_status: str,
) -> Receipt:
    """Store a received file under its final name, then record it. An upload that was accepted
    before gets the receipt of the first time, and its file back if that was lost.

    DeviceMismatch, IdentityMismatch, EmptyFile, InvalidToken; StorageFull, StorageUnavailable,
    DatabaseUnavailable: then the agent sends again, and that completes this upload.
    """
    _require_own(device, recording)
    if not incoming.size:
        raise EmptyFile
    chunk = new_chunk(recording, sha256=incoming.sha256, size=incoming.size)
    storage.commit(incoming, chunk.file_path, chunk.start_ts)
    try:
        with database.connection() as connection:
            inserted = queries.chunks.insert_chunk(connection, chunk, status=waiting_status)
            known = inserted or _known(connection, chunk, waiting_status)
    except psycopg.errors.ForeignKeyViolation:
        raise InvalidToken from None  # the device was deleted meanwhile
    if known is None:
        raise DatabaseUnavailable("The chunk was removed while it was being sent; try again")
    reached(Failpoint.COMMITTED)
    if not storage.holds(incoming, known.file_path):
        # It was recorded before its device was moved to another register, and that is its place;
        # or retention took away the file of the first time just before the row was written anew;
        # or the same upload came twice at once, and the other has put its own file there.
        storage.commit(incoming, known.file_path, known.start_ts)
    return Receipt(known, duplicate=inserted is None)


def announce_chunk(receipt: Receipt, *, announcer: Announcer | None, database: Database) -> Receipt:
    """Announce a chunk that waits for it in Redis; the receipt, which then says that it is queued.
    Raises nothing: the chunk is safe, and the relay announces what could not be announced here."""
    chunk = receipt.chunk
    if announcer is None or chunk.status != "UPLOADED" or not announcer.announce(chunk):
        return receipt
    try:
        with database.connection(MARK_SECONDS) as connection:
            queries.stream.mark_queued(connection, [chunk.chunk_id])
    except (DatabaseUnavailable, psycopg.Error) as error:
        cause = error.cause if isinstance(error, DatabaseUnavailable) else error
        _log.warning("a chunk will be announced twice, because it could not be marked: %s", cause)
        return receipt
    return replace(receipt, chunk=replace(chunk, status="QUEUED"))


def _known(connection: Connection, chunk: NewChunk, waiting_status: str) -> Chunk | None:
    """The row of the first time; if it was given up because its file was gone, no longer."""
    known, chunk_id = queries.chunks.get_chunk(connection, chunk.chunk_id), chunk.chunk_id
    if not known or known.status != "ERROR":
        return known
    restored = queries.files.restore_chunk(connection, chunk_id, waiting_status=waiting_status)
    return queries.chunks.get_chunk(connection, chunk_id) if restored else known


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
    """A UUIDv8 (RFC 9562, section 5.8) computed from the upload.

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
    """In whole seconds; a clock that was set during the recording makes it decades."""
    seconds = round((recording.end_ts - recording.start_ts).total_seconds())
    return min(seconds, INTEGER_MAX)


def _require_own(device: Device, recording: Recording) -> None:
    if recording.device_id != device.device_id:
        raise DeviceMismatch
    if (recording.point_id, recording.register_id) != (device.point_id, device.register_id):
        raise IdentityMismatch
