"""The use case: list the chunks of a selection, in the order of recording."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.errors import RegisterNotFound
from ingest_api.models.chunks import ChunkPosition, ChunkProgress, ChunkSelection

EXPORTED_AT_ONCE = 5000
"""Chunks that an export reads at a time: about 10 MiB of memory."""

ChunkRow = tuple[Any, ...]
"""What is known of a chunk: plain values in the order of `ChunkProgress`."""

_FIELDS = [field.name for field in fields(ChunkProgress)]
_START_TS, _CHUNK_ID = _FIELDS.index("start_ts"), _FIELDS.index("chunk_id")


def list_chunks(
    connection: Connection, selection: ChunkSelection, *, after: ChunkPosition | None, limit: int
) -> tuple[list[ChunkRow], ChunkPosition | None]:
    """Return up to `limit` chunks after a position, and the position of the last one if there are
    more. RegisterNotFound."""
    selection = _with_point(connection, selection)
    narrow = selection.device_id or selection.point_id or selection.status
    find = queries.ledger.list_chunk_ids if narrow else queries.ledger.list_all_chunk_ids
    found = find(connection, selection, after=after, page=limit + 1)
    chunks = queries.ledger.get_chunks(
        connection, found[:limit], newest_first=selection.newest_first
    )
    more = len(found) > limit and chunks
    return chunks, _position(chunks[-1]) if more else None


def export_chunks(
    connected: Callable[[], AbstractContextManager[Connection]],
    selection: ChunkSelection,
    *,
    page: int = EXPORTED_AT_ONCE,
) -> Iterator[list[ChunkRow]]:
    """Yield the chunks of a selection in pages, at least one. RegisterNotFound.

    Each page has a connection of its own, which nobody waits for while it is sent, and a snapshot
    of its own: a slow reader must not keep PostgreSQL from cleaning up. A chunk that is there all
    the time comes once.
    """
    after: ChunkPosition | None = None
    while True:
        with connected() as connection:
            found, after = list_chunks(connection, selection, after=after, limit=page)
        yield found
        if after is None:
            return


def _position(row: ChunkRow) -> ChunkPosition:
    return ChunkPosition(datetime.fromisoformat(row[_START_TS]), UUID(row[_CHUNK_ID]))


def _with_point(connection: Connection, selection: ChunkSelection) -> ChunkSelection:
    """Add the register's point: no index has the registers."""
    if selection.register_id is None or selection.point_id or selection.device_id:
        return selection
    points = queries.devices.list_register_points(connection, selection.register_id)
    if len(points) != 1:
        raise RegisterNotFound
    return replace(selection, point_id=points[0])
