"""The use case: announce in Redis, at least once, what its upload could not announce, and what a
Redis that lost its memory has forgotten; remove from the stream what every group is done with.

Nothing here takes a chunk out of anybody's hands: to announce it twice is harmless, which is why
two relays at a time are. Signals and the log's form are the command's business.
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
"""Until then an upload may be about to announce its chunk itself."""

RETRY_SECONDS = 1.0
ANSWER_SECONDS = 2.0
MARK = f"{STREAM}:relayed"
"""A key beside the stream, lost when that is lost; see `Mark`."""

FAILURES = (StreamError, DatabaseUnavailable, psycopg.Error)
"""What a pass can fail of, and a later one need not."""

Place = tuple[datetime, UUID]
_FIRST: Place = (datetime.min.replace(tzinfo=UTC), FIRST_ID)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mark:
    """What this run of the Redis server was told: so many entries, and everything unfinished up to
    a chunk (a start_ts and an id; None: all). Another run, even one that has read a file, may have
    forgotten some; and so has a stream with fewer entries, which somebody has made anew."""

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
    """Passes, one after the other, over all that is to be announced.

    `stopping` is asked between two pages. With `again` the first pass announces everything that is
    not finished, as if Redis had lost it.
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
        """Pass after pass, with `every` seconds between them, until `pause` returns true. What
        fails is told once, and tried again."""
        told: set[str] = set()
        while True:
            try:
                self.run_once()
            except FAILURES as error:
                reason = explain(error)
                if reason not in told:
                    _log.error("chunks are not announced, trying again: %s", reason)
                told.add(reason)
            else:
                if told:
                    _log.info("chunks are announced again")
                told.clear()
            if pause(max(every, RETRY_SECONDS) if told else every):
                return

    def run_once(self) -> None:
        """One pass. StreamError, DatabaseUnavailable, psycopg.Error."""
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
        # First, because it makes room.
        trim(client)
        mark = self._mark(client)
        if mark.after:
            mark = self._announce_unfinished(client, mark)
        self._announce_uploaded(client)
        entries = count_added(client)
        if entries >= mark.entries:
            client.set(MARK, str(replace(mark, entries=entries)), xx=True)

    def _mark(self, client: "Redis") -> Mark:
        """What Redis was told, as far as it still knows."""
        run_id = client.info("server").get("run_id")
        if not run_id:
            raise StreamError("its INFO has no run_id: use Redis 7 or Valkey 8, or newer")
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
        """How far it came. Also what is UPLOADED and young: its upload may have announced it before
        Redis forgot, and mark it only now."""
        while mark.after and not self._stopping():
            with self._database.connection() as connection:
                page = queries.stream.list_unfinished(connection, after=mark.after, page=PAGE)
            if page:
                self._announce(client, page)
            place = (page[-1].start_ts, page[-1].chunk_id) if page else None
            mark = replace(mark, after=place)
            # Only where the mark still is: without it Redis has just forgotten once more.
            if not client.set(MARK, str(mark), xx=True):
                break
        return mark

    def _announce(self, client: "Redis", page: list[Chunk]) -> None:
        """In one round trip. Those that Redis took are marked, also when it did not take all."""
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
    """What made a pass fail, for an operator."""
    if isinstance(error, StreamError):
        return f"Redis (REDIS_URL): {error}"
    cause = error.cause if isinstance(error, DatabaseUnavailable) else str(error)
    return f"the database (DATABASE_URL): {' '.join(cause.split())}"


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
