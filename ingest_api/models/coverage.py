"""Which minutes of a time were recorded, and why the others were not.

A minute counts as recorded if a recording covers its second 30: so chunks of any length leave no
false gap. A set of minutes is an integer whose bit n stands for the n-th minute from some hour on.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from ingest_api.models.devices import Place

MINUTE = timedelta(minutes=1)
HALF = timedelta(seconds=30)


class GapReason(StrEnum):
    """Why no recording is there."""

    MISSING = "missing"  # nothing came, and later recordings have come
    NOT_YET = "not_yet"  # nothing later has come: the device may still send it
    FILE_MISSING = "file_missing"  # it came, and its file has been lost
    REMOVED = "removed"  # it came, and retention has removed it


@dataclass(frozen=True)
class Interval:
    """The time from an instant until, but not including, another."""

    start: datetime
    end: datetime

    def within(self, bounds: "Interval") -> "Interval | None":
        """Return the part that lies in `bounds`; None if there is none."""
        start, end = max(self.start, bounds.start), min(self.end, bounds.end)
        return Interval(start, end) if start < end else None


@dataclass(frozen=True)
class Gap(Interval):
    """A time without a recording."""

    reason: GapReason


@dataclass(frozen=True)
class Step:
    """A step of a time, and the share of its minutes that were recorded."""

    start: datetime
    share: float | None  # 0 to 1; None: it has no minute


@dataclass(frozen=True)
class DeviceCoverage:
    """What a device has recorded in a time."""

    place: Place
    share: float | None  # of the minutes until now, 0 to 1; None: there are none
    steps: list[Step]
    gaps: list[Gap]
    overlaps: list[Interval]


@dataclass(frozen=True)
class RecordedHour:
    """A row of `recorded_hours`, without its counters."""

    device_id: UUID
    hour: datetime
    minutes: int  # bit n: minute n was recorded


@dataclass(frozen=True)
class LostRecording:
    """A chunk whose file is missing."""

    device_id: UUID
    start_ts: datetime
    end_ts: datetime

    @property
    def interval(self) -> Interval:
        return Interval(self.start_ts, self.end_ts)


@dataclass(frozen=True)
class Break:
    """Where the recordings of a device do not follow each other: a recording, and the end of all
    before it."""

    device_id: UUID
    before_ts: datetime | None  # None: there is none before
    start_ts: datetime | None  # None: there is none after
    end_ts: datetime | None


class Timeline:
    """The minutes of a time, numbered from the beginning of its first hour."""

    def __init__(self, bounds: Interval) -> None:
        self.bounds = bounds
        self.base = bounds.start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)

    def number(self, instant: datetime) -> int:
        """Return the number of the first minute whose second 30 is not before an instant."""
        return -((self.base + HALF - instant) // MINUTE)

    def minutes(self, intervals: Iterable[Interval]) -> int:
        """Return the minutes that intervals cover."""
        found = 0
        for interval in intervals:
            if part := interval.within(self.bounds):
                first, after = self.number(part.start), self.number(part.end)
                found |= ((1 << max(0, after - first)) - 1) << first
        return found

    def recorded(self, hours: Iterable[RecordedHour]) -> int:
        """Return the minutes of the time that rows say were recorded."""
        found = 0
        for row in hours:
            found |= row.minutes << ((row.hour - self.base) // MINUTE)
        return found & self.minutes([self.bounds])

    def share(self, recorded: int, bounds: Interval) -> float | None:
        """Return the share of an interval's minutes that was recorded; None if it has none."""
        wanted = self.minutes([bounds])
        return (recorded & wanted).bit_count() / wanted.bit_count() if wanted else None

    def runs(self, minutes: int) -> Iterator[tuple[int, int]]:
        """Yield the runs of consecutive minutes: the number of the first, and of the one after."""
        for run in re.finditer("1+", f"{minutes:b}"[::-1]):
            yield run.span()

    def instant(self, number: int) -> datetime:
        """Return when a minute begins."""
        return self.base + number * MINUTE
