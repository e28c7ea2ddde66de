"""Where a worker's chunks come from: the queue over HTTP, or the stream in Redis.

What is done with a chunk does not belong here.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .api import Api, Chunk, Refused, Stop, complain, describe, growing

STREAM, GROUP = "ingest:chunks", "workers"
WAIT_SECONDS = 2  # for an entry of the stream; a signal has to wait for it too
NOTHING_TO_DO = {"chunk_finished", "chunk_not_found", "chunk_pruned"}
Entry = tuple[str, dict[str, str] | None]  # an id and its fields


@dataclass(frozen=True)
class Job:
    """A chunk that the worker holds, and what to call once it is finished."""

    chunk: Chunk
    over: Callable[[], None] = lambda: None


class Source(Protocol):
    def jobs(self) -> Iterator[Job]:
        """Yield the waiting chunks; end after a while in which there were none."""


class Queue:
    """The queue, by way of the API; `limit` chunks at a time."""

    def __init__(self, api: Api, stop: Stop, limit: int = 1, point: UUID | None = None) -> None:
        self._api, self._stop = api, stop
        self._wish = {"limit": limit} | ({"point_id": str(point)} if point else {})
        self._pause = 0.0

    def jobs(self) -> Iterator[Job]:
        self._stop.wait(self._pause)
        self._pause = min(self._pause * 1.5 or 1.0, 5.0)
        for job in self.jobs_now():
            self._pause = 0.0
            yield job

    def jobs_now(self) -> Iterator[Job]:
        """Yield the waiting chunks, without a pause."""
        while not self._stop.asked and (chunks := self._api.claim(**self._wish)):
            yield from map(Job, chunks)


class Stream:
    """The stream in Redis, which announces chunks without being asked.

    An entry is a hint: the service decides whether its chunk is still to be processed. It stays
    pending until its chunk is finished; after the time of a lease another worker takes it. While
    the stream is silent, the queue is polled as well, for chunks that were not announced.
    """

    def __init__(self, url: str, api: Api, stop: Stop, *, queue_seconds: float) -> None:
        self._redis: Any = redis.Redis.from_url(
            url,
            protocol=2,  # which decides on the shape of the answers
            decode_responses=True,
            encoding_errors="replace",
            socket_connect_timeout=5,
            socket_timeout=WAIT_SECONDS + 5,
            retry=Retry(NoBackoff(), 1),  # a kept connection may have been closed meanwhile
        )
        self._api, self._stop = api, stop
        self._queue, self._queue_seconds = Queue(api, stop), queue_seconds
        self._look_at_queue = 0.0
        self._cursor = "0-0"  # how far it has looked for what was left behind
        self._failures = 0

    def jobs(self) -> Iterator[Job]:
        while not self._stop.asked and (entry := self._next()):
            chunk = self._claim(*entry)
            if chunk:
                yield Job(chunk, partial(self._acknowledge, entry[0]))
        if time.monotonic() >= self._look_at_queue:
            yield from self._queue.jobs_now()
            self._look_at_queue = time.monotonic() + self._queue_seconds

    def _claim(self, entry_id: str, fields: dict[str, str] | None) -> Chunk | None:
        """Claim the chunk of an entry, unless it is finished or another worker has it."""
        try:
            return self._api.claim_one(UUID((fields or {}).get("chunk_id", "")))
        except ValueError:
            complain(f"entry {entry_id} names no chunk")
            self._acknowledge(entry_id)
        except Refused as refused:
            if refused.code in NOTHING_TO_DO:
                self._acknowledge(entry_id)
            elif refused.code != "chunk_in_work":
                raise
        return None

    def _next(self) -> Entry | None:
        try:
            entry: Entry | None = self._read()
        except redis.RedisError as error:
            pause, self._failures = growing(self._failures), self._failures + 1
            complain(f"Redis again in {pause:.1f} s: {describe(error)}")
            self._look_at_queue = 0.0
            self._stop.wait(pause)
            return None
        self._failures = 0
        return entry

    def _read(self) -> Any:
        try:
            return self._left_behind() or self._new()
        except redis.ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
        self._make_group()
        return self._new()

    def _make_group(self) -> None:
        """Make the group: the first time, and when Redis has lost everything."""
        try:
            self._redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # another worker was faster
                raise

    def _left_behind(self) -> Any:
        """Return an entry that some worker has had for the time of a lease.

        Redis looks at ten each call.
        """
        lease_ms = 1000 * self._api.lease_sec
        while True:
            self._cursor, entries, *_ = self._redis.xautoclaim(
                STREAM, GROUP, self._api.worker, lease_ms, self._cursor, count=1
            )
            if entries or self._cursor == "0-0":
                return entries[0] if entries else None

    def _new(self) -> Any:
        streams = self._redis.xreadgroup(
            GROUP, self._api.worker, {STREAM: ">"}, count=1, block=1000 * WAIT_SECONDS
        )
        return streams[0][1][0] if streams else None

    def _acknowledge(self, entry_id: str) -> None:
        try:
            self._redis.xack(STREAM, GROUP, entry_id)
        except redis.RedisError as error:
            complain(f"entry {entry_id} will be delivered again: {describe(error)}")
