"""The fleet: what each device is doing, as its data shows it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID


class DeviceState(StrEnum):
    """What a device is doing, the worst first; computed by `device_state` in sql/schema.sql."""

    REFUSED = "refused"  # its last upload was refused for what it contains
    SILENT = "silent"  # nothing was heard of it for SILENT_AFTER_SECONDS
    LATE = "late"  # it sends, but its newest recording is older than LATE_AFTER_SECONDS
    NEVER = "never"  # it has not been heard of yet
    RECORDING = "recording"
    DISABLED = "disabled"


ALARMING = (DeviceState.REFUSED, DeviceState.SILENT)
"""States in which an enabled device loses recordings, or will."""


@dataclass(frozen=True)
class Bounds:
    """When a device counts as late, and when as silent."""

    late_after: timedelta = timedelta(minutes=10)
    silent_after: timedelta = timedelta(minutes=15)


@dataclass(frozen=True)
class FleetSelection:
    """Which devices are listed: those to which every given field applies."""

    text: str | None = None  # in a name or an id, whatever its capitals
    state: DeviceState | None = None
    point_id: UUID | None = None


@dataclass(frozen=True)
class FleetPosition:
    """The last device of a page, in the order of the fleet: the worst first."""

    rank: int
    since: datetime
    device_id: UUID


@dataclass(frozen=True)
class FleetDevice:
    """A device and what it is doing."""

    device_id: UUID
    name: str | None
    point_id: UUID
    point_name: str | None
    register_id: UUID
    time_zone: str
    state: str  # a DeviceState
    rank: int  # of the state, from 1
    since: datetime  # when the state began; 'disabled' of an older version: when it was created
    recorded_until: datetime | None
    last_seen_at: datetime | None
    clock_offset: timedelta | None  # how far its clock is ahead; None: unknown
    refusal_code: str | None  # of the last refused upload, if none was accepted since
    refusal_detail: str | None
    refused_at: datetime | None
    refusals: int

    @property
    def position(self) -> FleetPosition:
        return FleetPosition(self.rank, self.since, self.device_id)


@dataclass(frozen=True)
class Refusal:
    """Uploads of a device that were refused for what they contain: the last one, and how many."""

    code: str
    detail: str
    count: int


@dataclass(frozen=True)
class StateCount:
    """How many devices are in a state."""

    state: str
    devices: int


@dataclass(frozen=True)
class RecordedMinutes:
    """How many minutes a device recorded today and in the days before."""

    device_id: UUID
    today: int
    week: int


@dataclass(frozen=True)
class CoveredDevice:
    """A device of the fleet, with the shares of minutes that it has recorded, 0 to 1."""

    device: FleetDevice
    today: float | None  # of the day so far, at its point; None: no minute of it is over
    week: float  # of the last 7 days, to the minute


@dataclass(frozen=True)
class FleetPage:
    """A page of the fleet, and after which device the next one begins."""

    devices: list[CoveredDevice]
    next: FleetPosition | None  # None: this is the last page
