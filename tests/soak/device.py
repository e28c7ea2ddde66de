"""One device as it stands at a point: its clock, the spool on its disk, its network.

What happens to it and when is in life.py; how it uploads is in agent.py.
"""

import struct
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from random import Random
from typing import NamedTuple

from lab.recorder import Chunk, Recorder
from support.recorder import SPEECH

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BOOT_SECONDS = (15, 45)  # from power to the first recording
WRONG_HOURS = (1, 12)
SHORTEST_SECONDS = 55
SLOW_BYTES_A_SECOND = 64_000.0
_PAGE_HEAD = struct.Struct("<4sBBqIIIB")  # RFC 3533, section 6
_OPUS_CLOCK = 48_000  # whatever the sample rate: RFC 7845, section 4


@dataclass(frozen=True)
class Plan:
    """How often what goes wrong in the field does, as shares from 0 to 1.

    The period, from one chunk of a device to its next, is the measure of all other times.
    """

    devices: int
    seconds: float
    period: float
    seed: int
    drop_outs: float = 0.1  # of the devices, each period
    outages: float = 0.3  # of the devices, all at once, every few periods
    hang_ups: float = 0.05  # of the uploads, broken by the client in mid-body
    lost_answers: float = 0.05  # of the uploads
    slow_links: float = 0.1  # of the devices
    wrong_clocks: float = 0.1  # of the devices
    reboots: float = 0.05  # of the devices, each period

    @property
    def slow_bytes_a_second(self) -> float:
        """Of a slow link, which must be able to catch up with its device."""
        return max(SLOW_BYTES_A_SECOND, 2 * len(SPEECH) / self.period)


class Fault(Enum):
    """What is wrong with a clock."""

    AHEAD = "ahead"
    BEHIND = "behind"
    NO_RTC = "1970 until NTP sets it"


class Clock:
    """The time of a Raspberry Pi: right, hours off, or from 1970 at each boot."""

    def __init__(self, fault: Fault | None, random: Random) -> None:
        self.fault = fault
        self._random = random
        self._off = timedelta()
        if fault is Fault.NO_RTC:
            self.boot()
        elif fault is not None:
            hours = timedelta(hours=random.uniform(*WRONG_HOURS))
            self._off = hours if fault is Fault.AHEAD else -hours

    def read(self) -> datetime:
        """Return what it shows."""
        return datetime.now(UTC) + self._off

    def boot(self) -> None:
        """Begin anew, if it has no battery."""
        if self.fault is Fault.NO_RTC:
            uptime = timedelta(seconds=self._random.uniform(*BOOT_SECONDS))
            self.set(EPOCH + uptime)

    def set_right(self) -> None:
        """Be set, as NTP does it."""
        self._off = timedelta()

    def set(self, now: datetime) -> None:
        """Show this time, and go on from there."""
        self._off = now - datetime.now(UTC)


class Sound(NamedTuple):
    """A recording that can be played, shared by many chunks."""

    data: bytes
    seconds: int


def sounds() -> tuple[Sound, ...]:
    """Cut the speech at page after page: recordings differ in length in the field."""
    return tuple(
        Sound(SPEECH[:end], seconds)
        for end, seconds in _pages(SPEECH)
        if seconds >= SHORTEST_SECONDS and end < len(SPEECH)
    )


def _pages(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each Ogg page ends, and the second of the recording at its end."""
    offset = 0
    while offset < len(data):
        head = _PAGE_HEAD.unpack_from(data, offset)
        sizes = data[offset + _PAGE_HEAD.size :][: head[-1]]
        offset += _PAGE_HEAD.size + len(sizes) + sum(sizes)
        yield offset, head[3] // _OPUS_CLOCK


class Recording(NamedTuple):
    """A chunk in a spool."""

    number: int
    start_ts: datetime
    sound: Sound

    def chunk(self, recorder: Recorder) -> Chunk:
        """Return it as it is sent: its bytes are unlike those of all others."""
        tail = recorder.device_id.bytes + self.number.to_bytes(8, "big")
        declared = self.number % 2 == 1
        return Chunk(self.start_ts, self.sound.data, tail, self.sound.seconds, declared)


class Device:
    """Written by the thread of `Life`, but for the spool's head, which its agent takes away."""

    def __init__(
        self, recorder: Recorder, random: Random, *, slow: bool, fault: Fault | None
    ) -> None:
        self.recorder = recorder
        self.random = random  # for the thread of `Life`
        self.slow = slow
        self.clock = Clock(fault, random)
        self.boots = 0
        self.powered = True
        self.longest_spool = 0
        self._began = self.clock.read()  # the recording that is being made
        self._recorded = 0
        self._spool: deque[Recording] = deque()
        self._away = 0  # reasons not to be online
        self._settled = False
        self._changed = threading.Condition()

    @property
    def online(self) -> bool:
        """Whether it has a network."""
        return not self._away

    def start_recording(self) -> None:
        """Begin a recording."""
        self._began = self.clock.read()

    def finish_recording(self, sound: Sound, *, set_back: bool = False) -> None:
        """Spool the recording and begin the next: at the same time, if the clock is set back."""
        with self._changed:
            self._spool.append(Recording(self._recorded, self._began, sound))
            self._recorded += 1
            self.longest_spool = max(self.longest_spool, len(self._spool))
            self._changed.notify()
        if set_back:
            self.clock.set(self._began)
        else:
            self.start_recording()

    def leave(self) -> None:
        """Go offline, until there was a `come_back` for each `leave`."""
        with self._changed:
            self._away += 1

    def come_back(self) -> None:
        """End one reason to be offline."""
        with self._changed:
            self._away = max(0, self._away - 1)
            self._changed.notify()

    def settle(self) -> None:
        """Record nothing more, stay online, and only empty the spool."""
        with self._changed:
            self._settled, self._away = True, 0
            self._changed.notify()

    def wait_for_work(self, pause: float) -> Recording | None:
        """Return the oldest chunk once it can be sent; None when there will be no more.

        Not before the pause is over, unless the device settles.
        """
        with self._changed:
            before = self._settled
            self._changed.wait_for(lambda: self._settled != before, timeout=pause)
            self._changed.wait_for(lambda: self._settled or (self._spool and self.online))
            return self._spool[0] if self._spool else None

    def delivered(self) -> None:
        """Take the oldest chunk out of the spool."""
        with self._changed:
            self._spool.popleft()


def devices_for(recorders: Sequence[Recorder], plan: Plan) -> list[Device]:
    """Make a device of each recorder: some with a slow link, some with a wrong clock."""
    random, faults = Random(plan.seed), list(Fault)
    slow = _some(random, len(recorders), plan.slow_links)
    wrong = {
        number: faults[rank % len(faults)]
        for rank, number in enumerate(_some(random, len(recorders), plan.wrong_clocks))
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
    """Choose this share of them, and at least one."""
    return random.sample(range(count), max(1, round(share * count)))
