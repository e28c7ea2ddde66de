"""Lists of chunks, in the order of recording: by index, however many there are."""

from typing import Any
from uuid import UUID

from ingest_api.database.pool import Connection
from ingest_api.database.statements import scalars_unprepared, tuples
from ingest_api.models.chunks import ChunkPosition, ChunkSelection


def list_chunk_ids(
    connection: Connection, selection: ChunkSelection, *, after: ChunkPosition | None, page: int
) -> list[UUID]:
    """Return up to `page` chunks of a device, a point or a status: those after a position."""
    return _list(connection, "ledger/list_chunk_ids", selection, after, page)


def list_all_chunk_ids(
    connection: Connection, selection: ChunkSelection, *, after: ChunkPosition | None, page: int
) -> list[UUID]:
    """Return up to `page` chunks of any device, point and status: those after a position."""
    return _list(connection, "ledger/list_all_chunk_ids", selection, after, page)


def get_chunks(
    connection: Connection, chunk_ids: list[UUID], *, newest_first: bool
) -> list[tuple[Any, ...]]:
    """Return what is known of chunks as plain values, in the order of `ChunkProgress`."""
    values = {"chunk_ids": chunk_ids}
    return tuples(connection, "ledger/get_chunks", backwards=newest_first, **values)


def _list(
    connection: Connection,
    name: str,
    selection: ChunkSelection,
    after: ChunkPosition | None,
    page: int,
) -> list[UUID]:
    values = vars(selection) | {
        "after_ts": after and after.start_ts,
        "after_id": after and after.chunk_id,
        "page": page,
    }
    return scalars_unprepared(connection, UUID, name, backwards=selection.newest_first, **values)
