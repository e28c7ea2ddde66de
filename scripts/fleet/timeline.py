"""What is to happen when, in one thread. What it is that happens does not belong here."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from itertools import count


class Timeline:
    """Acts by the time at which each is due (monotonic), the earliest first."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()  # acts that are due at the same time keep their order

    def at(self, due: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (due, next(self._numbers), act))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.at(time.monotonic() + seconds, act)

    def run_due(self) -> None:
        """Do all that is due by now."""
        while self._due and self._due[0][0] <= time.monotonic():
            heapq.heappop(self._due)[2]()

    def seconds_to_next(self, most: float) -> float:
        """Until the next act, but no more than this."""
        if not self._due:
            return most
        return min(most, max(0.0, self._due[0][0] - time.monotonic()))
