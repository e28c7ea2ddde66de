"""The load of a soak: recorders that upload chunks of their own, now and then clumsily, and a tally
of what they saw.

What is right, and what is broken meanwhile, does not belong here.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from random import random, randrange
from typing import NamedTuple
from uuid import UUID

from lab.recorder import TIMEOUT_SECONDS, Attempt, Chunk, Recorder, RecorderAgent

SPEECH = Path(__file__).resolve().parent.parent / "tests" / "data" / "speech-60s.ogg"
TAIL_BYTES = 24  # the device and a number: no two chunks have the same bytes
PAUSE_SECONDS = 0.5
FINISH_SECONDS = 2 * TIMEOUT_SECONDS
FIRST_START = datetime(2026, 1, 28, 10, tzinfo=UTC)


class Acknowledged(NamedTuple):
    """What a client was told with status 200, beside the SHA-256 of what it had sent."""

    device_id: UUID
    start_ts: datetime
    size: int
    chunk_id: str
    stored_path: str


class HungUp(OSError):
    """The client broke the connection on purpose."""


class Tally:
    """What the clients saw. Any thread may add to it."""

    def __init__(self, journal: Journal) -> None:
        self.chunks = 0  # made
        self.sent = 0  # attempts
        self.resent = 0  # of those, not the first of their chunk
        self.duplicates = 0  # answers that the chunk was known
        self.hung_up = 0  # attempts that the client broke on purpose
        self.failures: Counter[str] = Counter()  # the other attempts without a 200
        self.acknowledged: dict[bytes, Acknowledged] = {}  # by SHA-256
        self.longest_silence = 0.0  # seconds without any acknowledgement
        self._journal = journal
        self._last: float | None = None  # when the last one came
        self._trying_again: set[UUID] = set()
        self._lock = threading.Lock()

    @property
    def failed(self) -> int:
        with self._lock:
            return sum(self.failures.values())

    def made(self) -> None:
        with self._lock:
            self.chunks += 1

    def record(self, recorder: Recorder, attempt: Attempt) -> None:
        """Count one attempt."""
        chunk = attempt.chunk
        sha256 = hashlib.sha256(chunk.data).digest() if attempt.accepted else b""
        with self._lock:
            self.sent += 1
            self.resent += recorder.device_id in self._trying_again
            if attempt.accepted:
                self._trying_again.discard(recorder.device_id)
                self._acknowledge(sha256, recorder, attempt)
            else:
                self._trying_again.add(recorder.device_id)
                self._fail(recorder, attempt)

    def _acknowledge(self, sha256: bytes, recorder: Recorder, attempt: Attempt) -> None:
        now, chunk, answer = time.monotonic(), attempt.chunk, attempt.answer or {}
        self.longest_silence = max(self.longest_silence, now - (self._last or now))
        self._last = now
        self.duplicates += bool(answer.get("duplicate"))
        self.acknowledged[sha256] = Acknowledged(
            recorder.device_id,
            chunk.start_ts,
            len(chunk.data),
            str(answer.get("chunk_id")),
            str(answer.get("stored_path")),
        )

    def _fail(self, recorder: Recorder, attempt: Attempt) -> None:
        if isinstance(attempt.error, HungUp):
            self.hung_up += 1
            return
        self.failures[attempt.outcome] += 1
        detail = attempt.error or attempt.answer
        self._journal.write(f"failed  {recorder.device_id}  {attempt.outcome}  {detail}")


class Journal:
    """A file with a line an event, in seconds since the start. Any thread may write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._started = time.monotonic()

    def write(self, line: str) -> None:
        with self._path.open("a") as file:
            file.write(f"{time.monotonic() - self._started:9.3f}  {line}\n")


class ClumsyAgent(RecorderAgent):
    """Hangs up on purpose now and then, as happens in the field: in mid-body, or before the answer,
    which is then lost. Its chunk is sent again at once, so that the service may get it twice at the
    same time."""

    def __init__(
        self,
        recorder: Recorder,
        address: tuple[str, int],
        report: Callable[[Recorder, Attempt], None],
        *,
        clumsiness: float,
    ) -> None:
        super().__init__(recorder, address, report, pause=PAUSE_SECONDS)
        self._clumsiness = clumsiness

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


@dataclass(frozen=True)
class Habits:
    """How the recorders of a soak behave, all of them together."""

    rate: float = 30.0  # chunks a second; 0: as fast as they are answered
    chunk_bytes: int = SPEECH.stat().st_size
    clumsiness: float = 0.02  # the share of the uploads that their clients break on purpose


class Load:
    """Recorders, each with a thread that uploads."""

    def __init__(
        self,
        recorders: Sequence[Recorder],
        address: tuple[str, int],
        tally: Tally,
        habits: Habits,
    ) -> None:
        self._tally = tally
        self._period = len(recorders) / habits.rate if habits.rate else 0.0
        self._sound = _sound(habits.chunk_bytes - TAIL_BYTES)
        self._done = threading.Event()
        self._agents = [
            ClumsyAgent(recorder, address, tally.record, clumsiness=habits.clumsiness)
            for recorder in recorders
        ]
        self._threads = [
            # daemon, because a thread may wait a minute for an answer that does not come
            threading.Thread(target=agent.run, args=[self._spool(agent.recorder)], daemon=True)
            for agent in self._agents
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Let each agent deliver what it has in hand, within reason, and stop."""
        self._done.set()
        deadline = time.monotonic() + FINISH_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def switch_off(self) -> None:
        """Send nothing more; what is in hand stays where it is."""
        self._done.set()
        for agent in self._agents:
            agent.switch_off()

    def _spool(self, recorder: Recorder) -> Iterator[Chunk]:
        """A chunk each period, and at once those that became due during the last upload. Now and
        then the recorder's clock is set back: another chunk with a start that was there before."""
        start_ts = FIRST_START
        due = time.monotonic() + random() * self._period  # not all at the same time
        for number in count():
            if self._done.wait(max(0.0, due - time.monotonic())):
                return
            due += self._period
            self._tally.made()
            tail = recorder.device_id.bytes + number.to_bytes(8, "big")
            yield Chunk(start_ts, self._sound, tail)
            start_ts += timedelta(hours=-1) if random() < 0.01 else timedelta(minutes=1)


def _sound(size: int) -> bytes:
    speech = SPEECH.read_bytes()
    return (speech * (size // len(speech) + 1))[:size]
