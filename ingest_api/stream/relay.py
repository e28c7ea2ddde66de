"""The use case: announce in Redis, at least once, chunks that their upload could not announce, and
those that Redis has lost; remove entries that every group is done with.

Announcing takes no chunk from a worker. Repeating it is harmless, and so are two relays at a time.
Signals and the log's format are the command's business.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg

from ingest_api.database import queries
from ingest_api.database.pool import Database
from ingest_api.errors import DatabaseUnavailable
from ingest_api.models.chunks import FIRST_ID, Chunk, ChunkStatus
from ingest_api.settings import Settings
from ingest_api.stream.client import (
    STREAM,
    StreamError,
    add,
    connect,
    count_added,
    failures_told,
    trim,
)

if TYPE_CHECKING:
    from redis import Redis

PAGE = 500
YOUNG = timedelta(seconds=2)
"""The upload of a younger chunk may be about to announce it itself."""

RETRY_SECONDS = 1.0
ANSWER_SECONDS = 2.0
MARK = f"{STREAM}:relayed"
"""A key beside the stream, lost together with it; see `Mark`."""

FAILURES = (StreamError, DatabaseUnavailable, psycopg.Error)
"""Errors of a pass that a later one may not meet."""

Place = tuple[datetime, UUID]
_FIRST: Place = (datetime.min.replace(tzinfo=UTC), FIRST_ID)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mark:
    """What was announced to this run of the Redis server: a number of entries, and every unfinished
    chunk up to a place (start_ts and id; None: all). Another run may have forgotten some, even if
    it loaded its data from a file. So has a stream with fewer entries: it was created anew."""

    run_id: str
    entries: int  # that the stream has ever had
    after: Place | None

    @classmethod
    def read(cls, value: str | None) -> "Mark | None":
        try:
            run_id, entries, *place = (value or "").split(" ")
            after = (datetime.fromisoformat(place[0]), UUID(place[1])) if place else None
            return cls(run_id, int(entries), after)
        except (LookupError, ValueError):
            return None

    def __str__(self) -> str:
        place = f" {self.after[0].isoformat()} {self.after[1]}" if self.after else ""
        return f"{self.run_id} {self.entries}{place}"


class Relay:
    """Passes over the chunks to announce, one after the other.

    `stopping` is called between two pages. With `again` the first pass announces every unfinished
    chunk, as if Redis had lost it.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        *,
        stopping: Callable[[], bool],
        again: bool = False,
    ) -> None:
        self._settings = settings
        self._database = database
        self._stopping = stopping
        self._again = again
        self._client: Redis | None = None

    def run(self, pause: Callable[[float], bool], *, every: float) -> None:
        """Run pass after pass, `every` seconds apart, until `pause` returns true. A failure is
        logged once, and retried."""
        logged: set[str] = set()
        while True:
            try:
                self.run_once()
            except FAILURES as error:
                reason = explain(error)
                if reason not in logged:
                    _log.error("chunks are not announced, trying again: %s", reason)
                logged.add(reason)
            else:
                if logged:
                    _log.info("chunks are announced again")
                logged.clear()
            if pause(max(every, RETRY_SECONDS) if logged else every):
                return

    def run_once(self) -> None:
        """Run one pass. StreamError, DatabaseUnavailable, psycopg.Error."""
        try:
            client = self._client = self._client or connect(self._settings, seconds=ANSWER_SECONDS)
            with failures_told(self._settings):
                self._pass(client)
        except FAILURES:
            self.close()
            raise

    def close(self) -> None:
        client, self._client = self._client, None
        if client:
            with suppress(Exception):
                client.close()

    def _pass(self, client: "Redis") -> None:
        if self._again:
            client.delete(MARK)
            self._again = False
        # First, because it frees memory.
        trim(client)
        mark = self._mark(client)
        if mark.after:
            mark = self._announce_unfinished(client, mark)
        self._announce_uploaded(client)
        entries = count_added(client)
        if entries >= mark.entries:
            client.set(MARK, str(replace(mark, entries=entries)), xx=True)

    def _mark(self, client: "Redis") -> Mark:
        """Return what was announced to Redis, as far as it still knows."""
        run_id = client.info("server").get("run_id")
        if not run_id:
            raise StreamError("its INFO has no run_id", "use Redis 7 or Valkey 8, or newer")
        mark = Mark.read(_text(client.get(MARK)))
        if mark and mark.run_id == run_id and mark.entries <= count_added(client):
            return mark
        mark = Mark(run_id, 0, _FIRST)
        client.set(MARK, str(mark))
        return mark

    def _announce_uploaded(self, client: "Redis") -> None:
        after = _FIRST
        while not self._stopping():
            with self._database.connection() as connection:
                page = queries.stream.list_uploaded(connection, age=YOUNG, after=after, page=PAGE)
            if not page:
                return
            self._announce(client, page)
            after = (page[-1].start_ts, page[-1].chunk_id)

    def _announce_unfinished(self, client: "Redis", mark: Mark) -> Mark:
        """Announce unfinished chunks; return the mark reached. They include young UPLOADED chunks:
        an upload may have announced one before Redis forgot, and mark it only now."""
        while mark.after and not self._stopping():
            with self._database.connection() as connection:
                page = queries.stream.list_unfinished(connection, after=mark.after, page=PAGE)
            if page:
                self._announce(client, page)
            place = (page[-1].start_ts, page[-1].chunk_id) if page else None
            mark = replace(mark, after=place)
            # Only if the mark still exists: without it Redis has just forgotten once more.
            if not client.set(MARK, str(mark), xx=True):
                break
        return mark

    def _announce(self, client: "Redis", page: list[Chunk]) -> None:
        """Announce a page in one round trip. Mark chunks that Redis took, even if not all."""
        refusals = add(client, page, self._settings)
        taken = [chunk for chunk, refusal in zip(page, refusals, strict=True) if not refusal]
        uploaded = [chunk.chunk_id for chunk in taken if chunk.status == ChunkStatus.UPLOADED]
        if uploaded:
            with self._database.connection() as connection:
                queries.stream.mark_queued(connection, uploaded)
        if taken:
            again = len(taken) - len(uploaded)
            _log.info("announced", extra={"chunks": len(uploaded), "chunks_again": again})
        for refusal in filter(None, refusals):
            raise refusal


def explain(error: Exception) -> str:
    """Return why a pass failed, for an operator."""
    if isinstance(error, StreamError):
        return f"Redis (REDIS_URL): {error}"
    cause = error.cause if isinstance(error, DatabaseUnavailable) else str(error)
    return f"the database (DATABASE_URL): {' '.join(cause.split())}"


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
