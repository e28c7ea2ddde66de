"""What happens to the devices of a fleet, and when: recordings end, networks and power fail, clocks
are set. Each device has its own dice.

What goes wrong in sending is in agent.py.
"""

import sched
import time
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from soak.device import Device, Fault, Plan, sounds

# All in periods: how long, or how long until.
JITTER = 0.05  # a recording ends so much sooner or later than it should
DROP_OUT = (1 / 3, 3.0)
OUTAGE = (0.5, 1.5)
FIRST_OUTAGE = (0.5, 1.0)
NEXT_OUTAGE = (3.0, 6.0)
BOOT = (0.3, 0.7)
NTP = (0.5, 1.5)
NO_NTP_YET = (0.25, 0.25)

SET_BACK = 0.2
"""The chance of a wrong clock to be set back, at each chunk."""


class Life:
    """All of it happens in the thread that calls `run`."""

    def __init__(
        self,
        devices: Sequence[Device],
        plan: Plan,
        *,
        recorded: Callable[[], None],
        happened: Callable[[str], None],
    ) -> None:
        self._plan, self._sounds = plan, sounds()
        self._recorded, self._happened = recorded, happened
        self._random = Random(plan.seed)
        self._schedule = sched.scheduler(time.monotonic, time.sleep)
        self._devices = devices
        for device in devices:
            self._start(device)
        self._later(self._random, FIRST_OUTAGE, self._outage)

    def run(self, seconds: float) -> None:
        """Let it happen for so long."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            pause = self._schedule.run(blocking=False) or 0.0
            time.sleep(max(0.0, min(pause, end - now)))

    def _start(self, device: Device) -> None:
        """Spread the chunks of the fleet over the period."""
        first = time.monotonic() + device.random.random() * self._plan.period
        device.start_recording()
        self._schedule.enterabs(first, 0, partial(self._record, device, first))
        if device.clock.fault is Fault.NO_RTC:
            self._later(device.random, NTP, partial(self._set_by_ntp, device))

    def _record(self, device: Device, due: float) -> None:
        """End a recording. Then see what else this period brings."""
        random, plan = device.random, self._plan
        if device.powered:
            set_back = device.clock.fault is not None and random.random() < SET_BACK
            self._recorded()
            device.finish_recording(random.choice(self._sounds), set_back=set_back)
            if set_back:
                self._happened("clock set back")
        due += plan.period
        jitter = random.uniform(-JITTER, JITTER) * plan.period
        self._schedule.enterabs(due + jitter, 0, partial(self._record, device, due))
        if random.random() < plan.drop_outs:
            self._later(random, (0, 1), partial(self._drop_out, device))
        if random.random() < plan.reboots:
            self._later(random, (0, 1), partial(self._lose_power, device))

    def _drop_out(self, device: Device) -> None:
        self._happened("drop-out")
        device.leave()
        self._later(device.random, DROP_OUT, device.come_back)

    def _outage(self) -> None:
        """Take some of the devices offline in one moment, and back in one."""
        self._happened("outage")
        count = max(1, round(self._plan.outages * len(self._devices)))
        gone = self._random.sample(self._devices, count)
        for device in gone:
            device.leave()
        self._later(self._random, OUTAGE, partial(_all_back, gone))
        self._later(self._random, NEXT_OUTAGE, self._outage)

    def _lose_power(self, device: Device) -> None:
        """Keep the spool, which is on disk; the recording that is being made is gone."""
        if not device.powered:
            return
        self._happened("reboot")
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
            self._later(device.random, NO_NTP_YET, partial(self._set_by_ntp, device))
            return
        self._happened("clock set by NTP")
        device.clock.set_right()

    def _later(self, random: Random, periods: tuple[float, float], act: Callable[[], None]) -> None:
        self._schedule.enter(random.uniform(*periods) * self._plan.period, 0, act)


def _all_back(devices: Sequence[Device]) -> None:
    for device in devices:
        device.come_back()
