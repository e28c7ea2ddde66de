"""One recorder as it stands in a shop: its clock, the spool on its disk, its network.

What happens to it and when (life.py), and how it uploads (agent.py), does not belong here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from random import Random
from typing import NamedTuple

from lab.recorder import Chunk, Recorder

from fleet.clock import DeviceClock, Fault
from fleet.plan import Plan
from fleet.sound import Sound


class Recording(NamedTuple):
    """A chunk in a spool: no bytes, for there may be very many."""

    number: int
    start_ts: datetime
    sound: int  # which of the sounds

    def tail(self, recorder: Recorder) -> bytes:
        """What makes the bytes unlike all others."""
        return recorder.device_id.bytes + self.number.to_bytes(8, "big")

    def chunk(self, recorder: Recorder, sounds: Sequence[Sound]) -> Chunk:
        sound = sounds[self.sound]
        return Chunk(self.start_ts, sound.data, self.tail(recorder), sound.seconds)


class Device:
    """Written by the timeline's thread, but for the spool's head, which is its agent's. Each method
    is for any thread."""

    def __init__(
        self, recorder: Recorder, random: Random, *, slow: bool, fault: Fault | None
    ) -> None:
        self.recorder = recorder
        self.random = random  # for the timeline's thread
        self.slow = slow
        self.clock = DeviceClock(fault, random)
        self.boots = 0
        self.powered = True
        self.longest_spool = 0
        self._began = self.clock.read()  # the recording in hand
        self._recorded = 0
        self._spool: deque[Recording] = deque()
        self._away = 0  # reasons not to be online
        self._settled = False
        self._given_up = False
        self._changed = threading.Condition()

    @property
    def online(self) -> bool:
        return not self._away

    @property
    def spooled(self) -> int:
        return len(self._spool)

    def start_recording(self) -> None:
        self._began = self.clock.read()

    def finish_recording(self, sound: int, *, set_back: bool = False) -> None:
        """Into the spool with it, and on with the next; which begins, with a clock that is set
        back, when this one did."""
        with self._changed:
            if self._settled:
                return
            self._spool.append(Recording(self._recorded, self._began, sound))
            self._recorded += 1
            self.longest_spool = max(self.longest_spool, len(self._spool))
            self._changed.notify()
        self._began = self.clock.set_back(self._began) if set_back else self.clock.read()

    def leave(self) -> None:
        """Offline, until there was a `come_back` for each `leave`."""
        with self._changed:
            self._away += not self._settled

    def come_back(self) -> None:
        with self._changed:
            self._away = max(0, self._away - 1)
            self._changed.notify()

    def settle(self) -> None:
        """From now on it records nothing, stays online, and only empties its spool."""
        with self._changed:
            self._settled, self._away, self.powered = True, 0, True
            self._changed.notify()

    def give_up(self) -> None:
        """Nothing more is sent; what is in the spool stays there."""
        with self._changed:
            self._given_up = True
            self._changed.notify()

    def wait_for_work(self, pause: float) -> Recording | None:
        """The oldest chunk, once it can be sent, and not before the pause is over, which `settle`
        cuts short; None when there is nothing more to do."""
        with self._changed:
            before = self._settled
            self._changed.wait_for(lambda: self._given_up or self._settled != before, timeout=pause)
            self._changed.wait_for(self._has_news)
            return self._spool[0] if self._spool and not self._given_up else None

    def delivered(self) -> None:
        """The oldest chunk leaves the spool."""
        with self._changed:
            self._spool.popleft()

    def _has_news(self) -> bool:
        return self._given_up or (bool(self._spool) and self.online) or self._settled


def devices_for(recorders: Sequence[Recorder], plan: Plan) -> list[Device]:
    """A device a recorder; some of them with a slow link, some with a wrong clock."""
    random, faults = Random(plan.seed), list(Fault)
    slow = _some(random, len(recorders), plan.troubles.slow_links)
    wrong = {
        number: faults[rank % len(faults)]
        for rank, number in enumerate(_some(random, len(recorders), plan.troubles.wrong_clocks))
    }
    return [
        Device(
            recorder,
            Random(f"{plan.seed}-{number}"),
            slow=number in slow,
            fault=wrong.get(number),
        )
        for number, recorder in enumerate(recorders)
    ]


def _some(random: Random, count: int, share: float) -> list[int]:
    """This share of them, and one at least."""
    return random.sample(range(count), max(1, round(share * count)) if share else 0)
