"""Announces chunks during their upload, at very little cost to it: what fails or takes longer, the
relay announces later (relay.py). The format of an entry is in client.py.
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
"""How long an upload waits. At most 0.1 s is promised; the rest is for thread scheduling."""

ANSWER_SECONDS = 1.0
"""How long the client waits for Redis, enough to connect over a slow line. The upload has gone by
then; the next one uses the connection."""

FAILURES = 3
PAUSE_SECONDS = 5.0

Call: TypeAlias = "tuple[Chunk, Future[None]]"
"""A chunk to announce, and the result that its upload awaits."""

_log = logging.getLogger(__name__)


class Breaker:
    """After FAILURES in succession, allows only one attempt in PAUSE_SECONDS until one succeeds.

    It also decides what to log: the first failure, and the first success that comes PAUSE_SECONDS
    after the last failure.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._failures = 0
        self._again = self._failed_at = 0.0  # monotonic
        self._logged = False

    def allows(self) -> bool:
        with self._lock:
            if self._failures < FAILURES:
                return True
            if monotonic() < self._again:
                return False
            self._again = monotonic() + PAUSE_SECONDS
            return True

    def failed(self) -> bool:
        """Count a failure; return whether to log it."""
        with self._lock:
            self._failures += 1
            self._failed_at = monotonic()
            self._again = self._failed_at + PAUSE_SECONDS
            first, self._logged = not self._logged, True
            return first

    def succeeded(self) -> bool:
        """Forget the failures; return whether to log that they are over."""
        with self._lock:
            self._failures = 0
            over = self._logged and monotonic() >= self._failed_at + PAUSE_SECONDS
            self._logged &= not over
            return over


class Announcer:
    """The announcements of one server process, over one connection in one thread. Both are made at
    the first announcement, and so never before gunicorn's fork.

    The thread bounds the time of everything, even of name resolution, which has no timeout. It is a
    daemon: a process that ends does not wait for it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._breaker = Breaker()
        self._calls: SimpleQueue[Call] = SimpleQueue()
        self._starting = Lock()
        self._thread: Thread | None = None
        self._client: Redis | None = None

    def announce(self, chunk: Chunk) -> bool:
        """Announce a chunk; return whether it is in the stream. If not, it may still get there.
        Raises nothing."""
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
                _log.error("uploads are not announced in Redis but left to the relay: %s", cause)
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
            while not self._calls.empty():  # all that arrived meanwhile, in one round trip
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
        """Close the client: the next one resolves the address anew, which a failover changes."""
        client, self._client = self._client, None
        if client:
            with suppress(Exception):
                client.close()
