"""Recorders that upload through nginx, each in a thread of its own, and what they saw.

What is done to the machine meanwhile does not belong here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from random import random
from ssl import SSLContext

from lab.recorder import TIMEOUT_SECONDS, Attempt, Chunk, Recorder, RecorderAgent
from soak_load import FIRST_START, SPEECH, Journal, Tally

from deploy_test.report import require

REFUSED = "ConnectionRefusedError"
PAUSE_SECONDS = 0.5
FINISH_SECONDS = 3 * TIMEOUT_SECONDS


class TimedAgent(RecorderAgent):
    """Looks at the clock."""

    def __init__(
        self,
        recorder: Recorder,
        address: tuple[str, int],
        report: Callable[[Recorder, Attempt], None],
        *,
        tls: SSLContext,
    ) -> None:
        super().__init__(recorder, address, report, pause=PAUSE_SECONDS, tls=tls)
        self.seconds: list[float] = []  # each attempt

    def attempt(self, chunk: Chunk) -> Attempt:
        started = time.monotonic()
        try:
            return super().attempt(chunk)
        finally:
            self.seconds.append(time.monotonic() - started)


class Fleet:
    """So many uploads a second, all recorders together; each sent again until it is accepted."""

    def __init__(
        self,
        recorders: Sequence[Recorder],
        address: tuple[str, int],
        tls: SSLContext,
        journal: Path,
        *,
        rate: float,
    ) -> None:
        self.tally = Tally(Journal(journal))
        self._period = len(recorders) / rate
        self._sound = SPEECH.read_bytes()
        self._done = threading.Event()
        self._agents = [
            TimedAgent(recorder, address, self.tally.record, tls=tls) for recorder in recorders
        ]

    @contextmanager
    def uploading(self) -> Iterator[Fleet]:
        """Until the context ends, and then each what it has in hand."""
        # daemon, because a thread may wait a minute for an answer that does not come
        threads = [
            threading.Thread(target=agent.run, args=[self._spool(agent.recorder)], daemon=True)
            for agent in self._agents
        ]
        for thread in threads:
            thread.start()
        patience = 0.0
        try:
            yield self
            patience = FINISH_SECONDS
        finally:
            self._done.set()
            deadline = time.monotonic() + patience
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
            for agent in self._agents:
                agent.switch_off()

    @property
    def refused(self) -> int:
        """Attempts that no server took, so that the recorder tried again as if nothing was."""
        return self.tally.failures[REFUSED]

    @property
    def failed(self) -> int:
        """Attempts that were begun and came to nothing."""
        return self.tally.failed - self.refused

    @property
    def in_hand(self) -> int:
        """Chunks that were made and not accepted."""
        return self.tally.chunks - len(self.tally.acknowledged)

    @property
    def seconds(self) -> list[float]:
        """How long each attempt took, sorted."""
        return sorted(second for agent in self._agents for second in agent.seconds)

    def require_all_accepted(self) -> None:
        """Failed unless each chunk was accepted in the end."""
        require(not self.in_hand, f"{self.in_hand} chunks were not accepted; see uploads.log")

    def told(self) -> str:
        """In a line."""
        tally = self.tally
        causes = ", ".join(f"{name} {number}" for name, number in tally.failures.items())
        return (
            f"{len(tally.acknowledged)} uploads of {len(self._agents)} recorders, {self.failed} "
            f"failed, {self.refused} refused and sent again, {self.in_hand} never accepted, "
            f"the longest {max(self.seconds, default=0.0):.1f} s{f' ({causes})' if causes else ''}"
        )

    def _spool(self, recorder: Recorder) -> Iterator[Chunk]:
        start_ts = FIRST_START
        due = time.monotonic() + random() * self._period  # not all at the same time
        for number in count():
            if self._done.wait(max(0.0, due - time.monotonic())):
                return
            due += self._period
            self.tally.made()
            yield Chunk(start_ts, self._sound, recorder.device_id.bytes + number.to_bytes(8, "big"))
            start_ts += timedelta(minutes=1)


def quantile(values: Sequence[float], share: float) -> float:
    """Of sorted values; 0 of none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0
