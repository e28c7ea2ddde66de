"""What a fleet saw: what soak's clients do, and how long uploads took, what its recorders went
through, and which answers were wrong. What it means does not belong here."""

from __future__ import annotations

import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Sequence
from random import Random
from typing import NamedTuple
from uuid import UUID

from lab.recorder import Attempt, Recorder
from soak_load import Journal, Tally

from fleet.device import Recording

MINUTE = 60.0
SAMPLE = 200


class Sent(NamedTuple):
    """An acknowledged chunk that can be made again."""

    recorder: Recorder
    recording: Recording
    chunk_id: str
    sha256: str


class FleetTally(Tally):
    """Any thread may add to it."""

    def __init__(self, journal: Journal, seed: int) -> None:
        super().__init__(journal)
        self.events: Counter[str] = Counter()  # what the recorders went through
        self.wrong: list[str] = []  # answers that cannot be true
        self.last_answers: dict[UUID, str] = {}  # by device: server_time of its last 200
        self.sample: list[Sent] = []
        self._took = array("d")  # seconds, of uploads over a normal link
        self._took_slow = array("d")
        self._recent: deque[tuple[float, float]] = deque()
        self._examined = 0
        self._random = Random(seed)
        self._more = threading.Lock()  # for what Tally does not have

    def happened(self, event: str) -> None:
        with self._more:
            self.events[event] += 1

    def took(self, seconds: float, *, slow: bool) -> None:
        now = time.monotonic()
        with self._more:
            (self._took_slow if slow else self._took).append(seconds)
            if not slow:
                self._recent.append((now, seconds))
            self._forget_before(now - MINUTE)

    def seconds(self, *, slow: bool = False) -> list[float]:
        """How long each acknowledged upload took, sorted."""
        with self._more:
            return sorted(self._took_slow if slow else self._took)

    def recent_seconds(self) -> list[float]:
        """Those of the last minute, sorted."""
        with self._more:
            self._forget_before(time.monotonic() - MINUTE)
            return sorted(seconds for _, seconds in self._recent)

    def failed_by_kind(self) -> Counter[str]:
        with self._lock:
            return Counter(self.failures)

    def examine(
        self, recorder: Recorder, recording: Recording, attempt: Attempt, *, sha256: bytes,
        first: bool,
    ) -> None:  # fmt: skip
        """Look at an answer with status 200; `first`: nobody had sent this chunk before."""
        answer, size = attempt.answer or {}, len(attempt.chunk.sound) + len(attempt.chunk.tail)
        told = {"sha256": answer.get("sha256"), "file_size_bytes": answer.get("file_size_bytes")}
        with self._more:
            if told != {"sha256": sha256.hex(), "file_size_bytes": size}:
                self.wrong.append(f"sent {size} bytes, SHA-256 {sha256.hex()}, answered {answer}")
            if first and answer.get("duplicate"):
                self.wrong.append(f"a duplicate, though it had never been sent: {answer}")
            if answered := answer.get("server_time"):
                self.last_answers[recorder.device_id] = str(answered)
            sent = Sent(recorder, recording, str(answer.get("chunk_id")), sha256.hex())
            self._keep_in_sample(sent)

    def _keep_in_sample(self, sent: Sent) -> None:
        """Each with the same chance (Vitter's algorithm R)."""
        self._examined += 1
        if len(self.sample) < SAMPLE:
            self.sample.append(sent)
        elif (place := self._random.randrange(self._examined)) < SAMPLE:
            self.sample[place] = sent

    def _forget_before(self, time_: float) -> None:
        while self._recent and self._recent[0][0] < time_:
            self._recent.popleft()


def quantile(values: Sequence[float], share: float) -> float:
    """Of sorted values; 0 of none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0
