"""Announces chunks while they are uploaded, which may cost an upload very little: what does not
work within that time, the relay does later (relay.py). What is announced is in stream.py.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias

from ingest_api.models.chunks import Chunk
from ingest_api.settings import Settings
from ingest_api.stream.client import add, connect

if TYPE_CHECKING:
    from redis import Redis

ANNOUNCE_SECONDS = 0.08
"""How long an upload waits. It is promised to be at most 0.1 s slower; the rest is for the threads
to be scheduled."""

ANSWER_SECONDS = 1.0
"""How long the client waits for Redis, so that a connection can be made over a slow line: the
upload has gone by then, the next one finds it."""

FAILURES = 3
PAUSE_SECONDS = 5.0

Call: TypeAlias = "tuple[Chunk, Future[None]]"
"""A chunk to announce, and its upload, which waits."""

_log = logging.getLogger(__name__)


class Breaker:
    """After FAILURES in succession lets only one try in PAUSE_SECONDS pass, until that succeeds.

    It also says what is worth a line in the log: the first failure, and the first success that
    comes PAUSE_SECONDS after the last one.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._failures = 0
        self._again = self._failed_at = 0.0  # monotonic
        self._told = False

    def allows(self) -> bool:
        with self._lock:
            if self._failures < FAILURES:
                return True
            if monotonic() < self._again:
                return False
            self._again = monotonic() + PAUSE_SECONDS
            return True

    def failed(self) -> bool:
        """Whether it is to be told."""
        with self._lock:
            self._failures += 1
            self._failed_at = monotonic()
            self._again = self._failed_at + PAUSE_SECONDS
            first, self._told = not self._told, True
            return first

    def succeeded(self) -> bool:
        """Whether it is to be told."""
        with self._lock:
            self._failures = 0
            over = self._told and monotonic() >= self._failed_at + PAUSE_SECONDS
            self._told &= not over
            return over


class Announcer:
    """The announcements of one worker process: one connection and one thread, both made at the
    first of them, and so never before gunicorn's fork.

    In a thread of its own everything is bounded in time, also what knows no timeout: the look-up of
    a name. It is a daemon, so that a process that ends does not wait for it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._breaker = Breaker()
        self._calls: SimpleQueue[Call] = SimpleQueue()
        self._starting = Lock()
        self._thread: Thread | None = None
        self._client: Redis | None = None

    def announce(self, chunk: Chunk) -> bool:
        """Whether the chunk is in the stream; if not, it may still get there. Raises nothing."""
        if not self._breaker.allows():
            return False
        future: Future[None] = Future()
        try:
            self._ensure_thread()
            self._calls.put((chunk, future))
            future.result(ANNOUNCE_SECONDS)
        except Exception as error:
            future.cancel()
            if self._breaker.failed():
                cause = str(error) or f"no answer within {ANNOUNCE_SECONDS} s"
                _log.error("uploads are not announced in Redis, the relay has to: %s", cause)
            return False
        if self._breaker.succeeded():
            _log.info("uploads are announced in Redis again")
        return True

    def _ensure_thread(self) -> None:
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = Thread(target=self._work, name="announcer", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            calls = [self._calls.get()]
            while not self._calls.empty():  # all that came meanwhile, in the same round trip
                calls.append(self._calls.get())
            if wanted := [call for call in calls if call[1].set_running_or_notify_cancel()]:
                self._add(wanted)

    def _add(self, calls: list[Call]) -> None:
        refusals: Sequence[Exception | None]
        try:
            self._client = self._client or connect(self._settings, seconds=ANSWER_SECONDS)
            refusals = add(self._client, [chunk for chunk, _ in calls], self._settings)
        except Exception as error:
            refusals = [error] * len(calls)
        for (_, future), refusal in zip(calls, refusals, strict=True):
            if refusal:
                future.set_exception(refusal)
            else:
                future.set_result(None)
        if any(refusals):
            self._drop_client()

    def _drop_client(self) -> None:
        """The next one finds out anew where Redis is: after a failover that is elsewhere."""
        client, self._client = self._client, None
        if client:
            with suppress(Exception):
                client.close()
