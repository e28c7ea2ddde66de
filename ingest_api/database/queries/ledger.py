"""Lists of chunks, in the order of recording: by index, however many there are."""

from typing import Any
from uuid import UUID

from ingest_api.database.pool import Connection
from ingest_api.database.statements import rows_unprepared
from ingest_api.models.chunks import ChunkPosition, ChunkProgress, ChunkSelection


def list_chunks(
    connection: Connection,
    selection: ChunkSelection,
    points: list[UUID] | None,
    *,
    after: ChunkPosition | None,
    page: int,
) -> list[ChunkProgress]:
    """Return up to `page` chunks of a device, a status, or these points (None: any), those after a
    position."""
    values = _values(selection, after, page) | {"point_ids": points}
    return rows_unprepared(connection, ChunkProgress, "ledger/list_chunks", **values)


def list_chunks_newest(
    connection: Connection,
    selection: ChunkSelection,
    points: list[UUID] | None,
    *,
    after: ChunkPosition | None,
    page: int,
) -> list[ChunkProgress]:
    """Return the same, the newest first."""
    values = _values(selection, after, page) | {"point_ids": points}
    return rows_unprepared(connection, ChunkProgress, "ledger/list_chunks_newest", **values)


def list_all_chunks(
    connection: Connection, selection: ChunkSelection, *, after: ChunkPosition | None, page: int
) -> list[ChunkProgress]:
    """Return up to `page` chunks of a time, those after a position."""
    values = _values(selection, after, page)
    return rows_unprepared(connection, ChunkProgress, "ledger/list_all_chunks", **values)


def list_all_chunks_newest(
    connection: Connection, selection: ChunkSelection, *, after: ChunkPosition | None, page: int
) -> list[ChunkProgress]:
    """Return the same, the newest first."""
    values = _values(selection, after, page)
    return rows_unprepared(connection, ChunkProgress, "ledger/list_all_chunks_newest", **values)


def _values(selection: ChunkSelection, after: ChunkPosition | None, page: int) -> dict[str, Any]:
    position = {"after_ts": after and after.start_ts, "after_id": after and after.chunk_id}
    return vars(selection) | position | {"page": page}
