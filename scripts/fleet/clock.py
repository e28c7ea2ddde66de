"""What a recorder takes for the time. What it does by it does not belong here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import Enum
from random import Random

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BOOT_SECONDS = (15, 45)  # from power to the recorder
WRONG_HOURS = (1, 12)


class Fault(Enum):
    """What is wrong with a clock."""

    AHEAD = "ahead"
    BEHIND = "behind"
    NO_RTC = "1970 until NTP sets it"


class DeviceClock:
    """The time of a Raspberry Pi: right, hours off, or from 1970 at each boot."""

    def __init__(self, fault: Fault | None, random: Random) -> None:
        self.fault = fault
        self._random = random
        self._off = self._first()

    def read(self) -> datetime:
        return datetime.now(UTC) + self._off

    def boot(self) -> None:
        if self.fault is Fault.NO_RTC:
            self._off = self._first()

    def set_by_ntp(self) -> None:
        self._off = timedelta()

    def set_back(self, to: datetime) -> datetime:
        """It shows this time again, and goes on from there."""
        self._off = to - datetime.now(UTC)
        return to

    def _first(self) -> timedelta:
        if self.fault is None:
            return timedelta()
        if self.fault is Fault.NO_RTC:
            uptime = timedelta(seconds=self._random.uniform(*BOOT_SECONDS))
            return EPOCH + uptime - datetime.now(UTC)
        hours = timedelta(hours=self._random.uniform(*WRONG_HOURS))
        return hours if self.fault is Fault.AHEAD else -hours
