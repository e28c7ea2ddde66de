"""The recorders beside the benchmark's workers: each uploads chunks of real sound, at once or at a
steady pace, and what they were told is kept.

What becomes of the chunks does not belong here.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

from lab.recorder import Chunk, RecorderAgent
from lab.service import Site
from soak_load import FIRST_START, SPEECH

RECORDERS = 20


class Uploads:
    """Those of all recorders. Nothing is sent twice: here every upload has to succeed."""

    def __init__(self, site: Site, recorders: int = RECORDERS) -> None:
        self.acknowledged: dict[str, str] = {}  # by chunk_id: the SHA-256 of what was sent
        self.stored: dict[str, str] = {}  # by chunk_id: the stored path
        self.failures: Counter[str] = Counter()
        self.seconds: list[float] = []  # each upload of the steady pace
        self._sound = SPEECH.read_bytes()
        self._made = 0
        self._lock = threading.Lock()
        self._agents = [
            RecorderAgent(site.new_recorder(), site.address, lambda *_: None)
            for _ in range(recorders)
        ]

    def send_at_once(self, count: int) -> None:
        """So many, as fast as they are answered."""
        todo = iter(range(count))

        def send(agent: RecorderAgent) -> None:
            for _ in todo:  # shared: next() of a range's iterator is atomic
                self._send(agent)

        with ThreadPoolExecutor(len(self._agents)) as pool:
            try:
                list(pool.map(send, self._agents))
            finally:
                list(todo)  # if this was interrupted, nothing more is sent

    @contextmanager
    def going_on(self, rate: float) -> Iterator[None]:
        """So many a second, all recorders together, until the context ends."""
        stop = threading.Event()
        begin, period = time.monotonic(), len(self._agents) / rate
        with ThreadPoolExecutor(len(self._agents)) as pool:
            try:
                running = [
                    pool.submit(self._pace, agent, begin + index / rate, period, stop.wait)
                    for index, agent in enumerate(self._agents)
                ]
                yield
            finally:
                stop.set()
        for future in running:
            future.result()

    def _pace(
        self, agent: RecorderAgent, due: float, period: float, wait: Callable[[float], bool]
    ) -> None:
        while not wait(max(0.0, due - time.monotonic())):
            started = time.monotonic()
            self._send(agent)
            self.seconds.append(time.monotonic() - started)
            due += period

    def _send(self, agent: RecorderAgent) -> None:
        chunk = self._new_chunk()
        attempt = agent.attempt(chunk)
        if not attempt.accepted or attempt.answer is None:
            with self._lock:
                self.failures[attempt.outcome] += 1
            return
        chunk_id = attempt.answer["chunk_id"]
        self.acknowledged[chunk_id] = hashlib.sha256(chunk.data).hexdigest()
        self.stored[chunk_id] = attempt.answer["stored_path"]

    def _new_chunk(self) -> Chunk:
        with self._lock:
            self._made += 1
            number = self._made
        start_ts = FIRST_START + timedelta(minutes=number)
        return Chunk(start_ts, self._sound, number.to_bytes(8, "big"))
