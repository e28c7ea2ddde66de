"""What happens to the recorders of a fleet, and when: chunks get done, networks fail, power fails,
clocks are set. All of it on the timeline, by each device's own dice.

How chunks are sent, and what goes wrong in sending, does not belong here: see agent.py.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from fleet.clock import Fault
from fleet.device import Device
from fleet.plan import Plan
from fleet.tally import FleetTally
from fleet.timeline import Timeline

# All in periods: how long, or how long until.
JITTER = 0.05  # a recording ends so much sooner or later than it should
DROP_OUT = (1 / 3, 3.0)
OUTAGE = (0.5, 1.5)
FIRST_OUTAGE = (0.5, 1.0)
NEXT_OUTAGE = (3.0, 6.0)
BOOT = (0.3, 0.7)
NTP = (0.5, 1.5)
NO_NTP_YET = 0.25

SET_BACK = 0.1
"""The chance of a wrong clock to be set back, at each chunk."""


class Life:
    """Begins when it is made, and goes on as long as the timeline runs."""

    def __init__(
        self, devices: Sequence[Device], plan: Plan, sounds: int, *, timeline: Timeline,
        tally: FleetTally,
    ) -> None:  # fmt: skip
        self._troubles, self._period, self._sounds = plan.troubles, plan.every, sounds
        self._timeline, self._tally = timeline, tally
        self._random = Random(plan.seed)
        self._shops: dict[object, list[Device]] = defaultdict(list)
        now = time.monotonic()
        for device in devices:
            self._shops[device.recorder.point_id].append(device)
            self._start(device, now)
        if self._troubles.outages:
            self._later(self._random, FIRST_OUTAGE, self._outage)

    def _start(self, device: Device, now: float) -> None:
        """The fleet was not switched on in one moment: its chunks are spread over the period."""
        first = now + device.random.random() * self._period
        device.start_recording()
        self._timeline.at(first, partial(self._record, device, first))
        if device.clock.fault is Fault.NO_RTC:
            self._later(device.random, NTP, partial(self._set_by_ntp, device))

    def _record(self, device: Device, due: float) -> None:
        """A chunk is done. Then see what else this period brings."""
        random, troubles = device.random, self._troubles
        if device.powered:
            set_back = device.clock.fault is not None and random.random() < SET_BACK
            device.finish_recording(random.randrange(self._sounds), set_back=set_back)
            self._tally.made()
            if set_back:
                self._tally.happened("clocks set back")
        due += self._period
        jitter = random.uniform(-JITTER, JITTER) * self._period
        self._timeline.at(due + jitter, partial(self._record, device, due))
        if random.random() < troubles.drop_outs:
            self._later(random, (0, 1), partial(self._drop_out, device))
        if random.random() < troubles.reboots:
            self._later(random, (0, 1), partial(self._lose_power, device))

    def _drop_out(self, device: Device) -> None:
        self._tally.happened("drop-outs")
        device.leave()
        self._later(device.random, DROP_OUT, device.come_back)

    def _outage(self) -> None:
        """A part of the shops goes offline in one moment, and comes back in one."""
        self._tally.happened("outages")
        shops = list(self._shops.values())
        count = max(1, round(self._troubles.outages * len(shops)))
        gone = [device for shop in self._random.sample(shops, count) for device in shop]
        for device in gone:
            device.leave()
        self._later(self._random, OUTAGE, partial(_all_back, gone))
        self._later(self._random, NEXT_OUTAGE, self._outage)

    def _lose_power(self, device: Device) -> None:
        """What is in the spool is on disk and stays; the recording in hand is gone."""
        if not device.powered:
            return
        self._tally.happened("reboots")
        device.powered = False
        device.boots += 1
        device.leave()
        self._later(device.random, BOOT, partial(self._boot, device))

    def _boot(self, device: Device) -> None:
        device.powered = True
        device.clock.boot()
        device.start_recording()
        device.come_back()
        if device.clock.fault is Fault.NO_RTC:
            self._later(device.random, NTP, partial(self._set_by_ntp, device))

    def _set_by_ntp(self, device: Device) -> None:
        if not device.online:
            self._timeline.after(NO_NTP_YET * self._period, partial(self._set_by_ntp, device))
            return
        self._tally.happened("clocks set by NTP")
        device.clock.set_by_ntp()

    def _later(self, random: Random, periods: tuple[float, float], act: Callable[[], None]) -> None:
        self._timeline.after(random.uniform(*periods) * self._period, act)


def _all_back(devices: Sequence[Device]) -> None:
    for device in devices:
        device.come_back()
