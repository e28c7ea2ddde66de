"""Devices that upload while something else happens, each in a thread of its own."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from random import random, randrange
from ssl import SSLContext

from lab.recorder import TIMEOUT_SECONDS, Attempt, Chunk, Recorder, RecorderAgent

from support.ledger import Ledger
from support.recorder import SPEECH

PAUSE_SECONDS = 0.5
FINISH_SECONDS = 3 * TIMEOUT_SECONDS
START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=1)


class HungUp(OSError):
    """The client broke the connection on purpose."""


class Load:
    """So many chunks a second, all devices together; each is sent until it is accepted.

    With a rate of 0, a device sends the next chunk as soon as the last one is answered. Clumsiness
    is the share of the uploads that their client breaks on purpose.
    """

    def __init__(
        self,
        recorders: Sequence[Recorder],
        address: tuple[str, int],
        *,
        rate: float,
        sound: bytes = SPEECH,
        spacing: timedelta = timedelta(minutes=1),
        clumsiness: float = 0.0,
        tls: SSLContext | None = None,
    ) -> None:
        self.ledger = Ledger(proxied=tls is not None)
        self.seconds: list[float] = []  # how long each attempt took
        self._period = len(recorders) / rate if rate else 0.0
        self._sound, self._spacing = sound, spacing
        self._done = threading.Event()
        report, took = self.ledger.record, self.seconds.append
        self._agents = [
            _Agent(recorder, address, report, took=took, clumsiness=clumsiness, tls=tls)
            for recorder in recorders
        ]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Upload until the context ends, and then deliver each chunk that is in flight."""
        # daemon, because a thread may wait a minute for an answer that does not come
        threads = [
            threading.Thread(target=agent.run, args=[self._spool(agent.recorder)], daemon=True)
            for agent in self._agents
        ]
        for thread in threads:
            thread.start()
        patience = 0.0
        try:
            yield
            patience = FINISH_SECONDS
        finally:
            self._done.set()
            deadline = time.monotonic() + patience
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
            for agent in self._agents:
                agent.switch_off()

    def _spool(self, recorder: Recorder) -> Iterator[Chunk]:
        """Yield a chunk each period, and at once those that became due during the last upload.

        Now and then the device's clock is set back: another chunk with an earlier start.
        """
        start_ts, due = START, time.monotonic() + random() * self._period
        for number in count():
            if self._done.wait(max(0.0, due - time.monotonic())):
                return
            due += self._period
            self.ledger.recorded()
            tail = recorder.device_id.bytes + number.to_bytes(8, "big")
            yield Chunk(start_ts, self._sound, tail, declared=number % 2 == 1)
            start_ts += -self._spacing if random() < 0.01 else self._spacing


class _Agent(RecorderAgent):
    """Measures, and hangs up now and then: in mid-body, or before the answer, which is then lost.

    After that it sends the chunk again at once: the service may get it twice at the same time.
    """

    def __init__(
        self,
        recorder: Recorder,
        address: tuple[str, int],
        report: Callable[[Recorder, Attempt], None],
        *,
        took: Callable[[float], None],
        clumsiness: float,
        tls: SSLContext | None,
    ) -> None:
        super().__init__(recorder, address, report, pause=PAUSE_SECONDS, tls=tls)
        self._took, self._clumsiness = took, clumsiness

    def attempt(self, chunk: Chunk) -> Attempt:
        started = time.monotonic()
        try:
            return super().attempt(chunk)
        finally:
            self._took(time.monotonic() - started)

    def _exchange(self, body: bytes) -> tuple[int, bytes]:
        draw = random()
        if draw < self._clumsiness / 2:
            self._send(body[: randrange(len(body))], len(body))
            raise HungUp("in mid-body")
        if draw < self._clumsiness:
            self._send(body, len(body))
            raise HungUp("before the answer")
        return super()._exchange(body)

    def _pause_after(self, attempt: Attempt) -> float:
        return 0.0 if isinstance(attempt.error, HungUp) else super()._pause_after(attempt)
