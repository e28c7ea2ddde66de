"""The use case: list the chunks of a selection, in the order of recording."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from uuid import UUID

from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.errors import RegisterNotFound
from ingest_api.models.chunks import ChunkPosition, ChunkProgress, ChunkSelection

EXPORTED_AT_ONCE = 5000
"""Chunks that an export reads at a time, about 5 MB of memory."""


def list_chunks(
    connection: Connection, selection: ChunkSelection, *, after: ChunkPosition | None, limit: int
) -> tuple[list[ChunkProgress], ChunkPosition | None]:
    """Return up to `limit` chunks after a position, and the position of the last one if there are
    more. RegisterNotFound."""
    found = _list(connection, selection, after, limit + 1)
    chunks = found[:limit]
    return chunks, chunks[-1].position if len(found) > limit else None


def export_chunks(
    connected: Callable[[], AbstractContextManager[Connection]],
    selection: ChunkSelection,
    *,
    page: int = EXPORTED_AT_ONCE,
) -> Iterator[list[ChunkProgress]]:
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


def _list(
    connection: Connection, selection: ChunkSelection, after: ChunkPosition | None, page: int
) -> list[ChunkProgress]:
    ledger, newest = queries.ledger, selection.newest_first
    points = _points(connection, selection)
    if points is not None or selection.device_id or selection.status:
        narrow = ledger.list_chunks_newest if newest else ledger.list_chunks
        return narrow(connection, selection, points, after=after, page=page)
    wide = ledger.list_all_chunks_newest if newest else ledger.list_all_chunks
    return wide(connection, selection, after=after, page=page)


def _points(connection: Connection, selection: ChunkSelection) -> list[UUID] | None:
    """Return the points at which the chunks are; None for any. No index has the registers, but a
    register belongs to a point."""
    if selection.point_id is not None:
        return [selection.point_id]
    if selection.register_id is None or selection.device_id is not None:
        return None
    points = queries.devices.list_register_points(connection, selection.register_id)
    if not points:
        raise RegisterNotFound
    return points
